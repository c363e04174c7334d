"""HTTP/1.1 over a Unix socket or TLS: the part of it that this client needs.

A connection has one request at a time: ``send``, then ``receive``, then the response is read to its end. Nothing
waits longer than the socket's timeout, and every length from the server is checked.
"""

from __future__ import annotations

import posix

from isola.client.connecting import connect
from isola.client.writing import until_writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isola.client.interpreter import socket
    from isola.client.remotes import Remote

    Headers = Iterable[tuple[str, str]]

_PIECE = 262144
_AHEAD = 16384
"""What is read at once where the length is not known: most answers fit, and no memory has to be mapped for it."""
_LINE_LIMIT = 65536
_HEADER_LIMIT = 200
READ_LIMIT = 256 << 20
"""The largest response that is read into memory, in bytes."""


class FileBody:
    """A regular file as the body of a request, sent by sendfile."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size


class Connection:
    """One connection: to the socket at a path, or over TLS to a remote daemon."""

    def __init__(self, place: str | Remote, timeout: float | None = None) -> None:
        self.secure = not isinstance(place, str)
        if isinstance(place, str):
            self._socket = connect(place, timeout)
        else:
            from isola.client.tls import connect_tls

            self._socket = connect_tls(place, timeout)
        self._buffer = bytearray()
        self._keep = True

    def fileno(self) -> int:
        """For ``select.poll``."""
        return self._socket.fileno()

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()

    def take_over(self) -> tuple[socket, bytearray]:
        """The socket and the bytes read ahead, after the server has switched protocols."""
        return self._socket, self._buffer

    @property
    def reusable(self) -> bool:
        """Whether it may be used for another request: no bytes are left, and the server has not closed it."""
        if not self._keep or self._buffer:
            return False
        import select

        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def readable(self, milliseconds: int | None) -> bool:
        """Wait for data or EOF; False after the timeout (None: no timeout)."""
        if self._buffer:
            return True
        import select

        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(milliseconds)) and (not self.secure or self._has_data())

    def _has_data(self) -> bool:
        """The bytes that arrived may be TLS messages without data."""
        timeout = self._socket.gettimeout()
        self._socket.setblocking(False)
        try:
            self.fill()
        except BlockingIOError:
            return False
        finally:
            self._socket.settimeout(timeout)
        return True

    # --- sending ------------------------------------------------------------------------------------------------

    def send(
        self, method: str, target: str, headers: Headers = (), body: bytes | FileBody | Iterable[bytes] | None = None
    ) -> None:
        """Send a request. A body of unknown length is sent in chunks."""
        head = f"{method} {target} HTTP/1.1\r\nHost: isola\r\n"
        for name, value in headers:
            head += f"{name}: {_one_line(value)}\r\n"
        if isinstance(body, bytes):
            head += f"Content-Length: {len(body)}\r\n"
        elif isinstance(body, FileBody):
            head += f"Content-Length: {body.size}\r\n"
        elif body is not None:
            head += "Transfer-Encoding: chunked\r\n"
        data = (head + "\r\n").encode()
        try:
            if isinstance(body, bytes):
                self._socket.sendall(data + body)
                return
            self._socket.sendall(data)
            if body is not None:
                self._send_body(body)
        except (BrokenPipeError, ConnectionResetError):
            self._keep = False  # the server may have sent an error before it read all: that is read next

    def _send_body(self, body: FileBody | Iterable[bytes]) -> None:
        if isinstance(body, FileBody):
            self._send_file(body)
            return
        for piece in body:
            if piece:
                self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._socket.sendall(b"0\r\n\r\n")

    def _send_file(self, body: FileBody) -> None:
        left = body.size
        if self.secure:
            self._send_copied(body)
            return
        while left:
            try:
                sent = posix.sendfile(self._socket.fileno(), body.fd, None, min(left, 1 << 24))
            except BlockingIOError:  # a socket with a timeout does not block
                until_writable(self._socket.fileno(), self._socket.gettimeout())
                continue
            if not sent:
                self.close()
                raise OSError("the file was truncated while it was sent")
            left -= sent

    def _send_copied(self, body: FileBody) -> None:
        left = body.size
        while left:
            piece = posix.read(body.fd, min(left, _PIECE))
            if not piece:
                self.close()
                raise OSError("the file was truncated while it was sent")
            self._socket.sendall(piece)
            left -= len(piece)

    # --- receiving ----------------------------------------------------------------------------------------------

    def receive(self, method: str = "GET") -> Response:
        """The response to the request that was sent; its body is not read yet."""
        status, headers = self._head()
        while 100 <= status < 200 and status != 101:
            status, headers = self._head()
        if headers.get("connection", "").lower() == "close":
            self._keep = False
        empty = method == "HEAD" or status in (101, 204, 304)
        return Response(self, status, headers, empty)

    def _head(self) -> tuple[int, dict[str, str]]:
        line = self._line(first=True)
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise _bad_reply("The response is not HTTP", line)
        headers: dict[str, str] = {}
        while line := self._line():
            name, colon, value = line.partition(":")
            if not colon or len(headers) >= _HEADER_LIMIT:
                raise _bad_reply("The response has a malformed header", line)
            headers[name.lower()] = value.strip()
        return int(rest[:3]), headers

    def _line(self, *, first: bool = False) -> str:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > _LINE_LIMIT:
                raise _bad_reply("The response has a header without an end")
            if not self.fill():
                raise _gone() if first and not searched else _cut()
        line = str(self._buffer[:end], "latin-1").rstrip("\r")
        del self._buffer[: end + 1]
        return line

    def fill(self) -> bool:
        """Read once into the buffer; False at EOF."""
        data = self._receive(_AHEAD)
        self._buffer += data
        return bool(data)

    def take(self, most: int) -> bytes:
        """Up to ``most`` bytes; empty at EOF."""
        if not self._buffer:
            if not self.secure:
                return self._receive(min(most, _PIECE))
            self.fill()  # a whole TLS record, because poll does not report bytes buffered by TLS
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        return data

    def chunk_size(self) -> int:
        """The size line of the next chunk."""
        line = self._line().partition(";")[0].strip()
        if not line or len(line) > 15 or line.strip("0123456789abcdefABCDEF"):
            raise _bad_reply("The response has a malformed chunk", line)
        return int(line, 16)

    def end_of_chunk(self) -> None:
        """Read the empty line after a chunk."""
        if line := self._line():
            raise _bad_reply("The response has a malformed chunk", line)

    def skip_trailers(self) -> None:
        """Read the trailers after the last chunk."""
        while self._line():
            pass

    def _receive(self, most: int) -> bytes:
        try:
            return self._socket.recv(most)
        except ConnectionResetError:
            return b""
        except TimeoutError as error:
            from isola.errors import TimedOut

            raise TimedOut(
                "The daemon did not respond in time", remedy="see logs/daemon.log in its directory"
            ) from error


class Response:
    """A response; its body is read in blocks."""

    def __init__(self, connection: Connection, status: int, headers: dict[str, str], empty: bool) -> None:
        self.status = status
        self.headers = headers
        self.connection = connection
        self.finished = empty
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left: int | None = None if self._chunked else _length(headers)

    def read_some(self) -> bytes:
        """The next bytes of the body; empty at its end."""
        while not self.finished:
            if self._chunked and not self._left:
                self._next_chunk()
            elif self._left == 0:
                self.finished = True
            else:
                return self._take()
        return b""

    def _take(self) -> bytes:
        data = self.connection.take(_PIECE if self._left is None else min(self._left, _PIECE))
        if not data:
            if self._left is not None:
                raise _cut()
            self.finished = True
        elif self._left is not None:
            self._left -= len(data)
            if self._chunked and not self._left:
                self.connection.end_of_chunk()
        return data

    def _next_chunk(self) -> None:
        self._left = self.connection.chunk_size()
        if not self._left:
            self.connection.skip_trailers()
            self.finished = True

    def read(self, limit: int = READ_LIMIT) -> bytes:
        """The whole body. Raises BadReply beyond ``limit`` bytes."""
        pieces = []
        size = 0
        while piece := self.read_some():
            size += len(piece)
            if size > limit:
                raise _bad_reply(f"The response is larger than {limit} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read_some():
            yield piece

    @property
    def reusable(self) -> bool:
        """Whether the connection may be used for another request now."""
        bounded = self._chunked or self._left is not None or self.status in (101, 204, 304)
        return self.finished and bounded and self.connection.reusable


def _length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise _bad_reply("The response has an invalid Content-Length", text)
    return int(text)


def _one_line(value: str) -> str:
    if "\r" in value or "\n" in value or "\0" in value:
        from isola.errors import InvalidInput

        raise InvalidInput("A header cannot contain a line break", evidence=repr(value[:80]))
    return value


def _bad_reply(message: str, evidence: str = "") -> Exception:
    from isola.client.failures import BadReply

    return BadReply(
        message, evidence=repr(evidence[:200]) if evidence else "", remedy="check whether another program listens there"
    )


def _gone() -> Exception:
    from isola.client.failures import Unreachable

    return Unreachable(
        "The daemon closed the connection without a response", remedy="see logs/daemon.log in its directory"
    )


def _cut() -> Exception:
    from isola.client.failures import Unreachable

    return Unreachable(
        "The connection was lost in the middle of the response", remedy="see logs/daemon.log in its directory"
    )
