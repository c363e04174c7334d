"""The interpreter's C modules without the standard library's Python wrappers around them.

The wrappers pull in ``enum``, ``re`` and ``selectors``: 4 to 7 ms each at every start of the command line. What is used
here has been the same since Python 3.3; an interpreter that lacks it gets the wrapper.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal
    from json.encoder import encode_basestring_ascii as quote_json
    from socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket
else:
    try:
        import _signal as signal
        from _json import encode_basestring_ascii as quote_json
        from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket
    except ImportError:
        import signal
        from json.encoder import encode_basestring_ascii as quote_json
        from socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket

__all__ = ["AF_UNIX", "SHUT_WR", "SOCK_STREAM", "quote_json", "signal", "socket"]
