"""C modules of the standard library without their Python wrappers.

The wrappers import ``enum``, ``re`` and ``selectors``, which costs 4 to 7 ms each at every start of the command line.
The names used here are unchanged since Python 3.3; where they are missing, the wrappers are imported.
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
