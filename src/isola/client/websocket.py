"""WebSocket client (RFC 6455), for ``poll`` loops over several connections.

Over the network the handshake's nonce and the masking key of each frame are random, as the RFC requires. On a Unix
socket there is no proxy to protect, and both are constant: the nonce is the RFC's example, whose response is known
without computing a hash, and the key is zero, so that the payload need not be changed.
"""

from __future__ import annotations

import posix

from isola.client.writing import until_writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.http import Connection
    from isola.client.interpreter import socket

_NONCE, _ANSWER = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""Example in RFC 6455, section 1.3."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NO_MASK = b"\0\0\0\0"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_READ = 262144
MESSAGE_LIMIT = 64 << 20
"""Maximum size of a message from the server, in bytes."""

Message = bytes | str
"""Binary messages are bytes, text messages str."""

UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))


class WebSocket:
    """``closed`` is true once the server has sent a close frame, or the connection is closed."""

    def __init__(self, connection: Connection) -> None:
        self._secure = connection.secure
        link, ahead = connection.take_over()
        self._socket: socket = link
        self._in = ahead
        self._out = bytearray()
        self._parts: list[bytes] = []
        self._size = 0
        self._text = False
        self._messages: list[Message] = []
        self.closed = False
        self.clean = False
        """Whether the server sent a close frame, rather than the connection being lost."""
        self._parse()

    def fileno(self) -> int:
        """For ``select.poll``."""
        return self._socket.fileno()

    def close(self) -> None:
        """Send a close frame if the connection is open, and close it."""
        if self._socket.fileno() >= 0:
            self._socket.settimeout(0)
            self.queue(b"\x03\xe8", _CLOSE)
            self.flush()
            self._socket.close()
        self.closed = True

    # --- sending ------------------------------------------------------------------------------------------------

    def send(self, data: Message) -> None:
        """Send a message, and wait until the socket has accepted it."""
        self.queue(data)
        while self._out and not self.closed:
            try:
                self._send_once()
            except BlockingIOError:
                until_writable(self._socket.fileno())

    def queue(self, data: Message, kind: int | None = None) -> None:
        """Add a message to the buffer that ``flush`` sends."""
        payload = data.encode() if isinstance(data, str) else data
        if kind is None:
            kind = _TEXT if isinstance(data, str) else _BINARY
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | kind, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | kind, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | kind, 0x80 | 127)) + size.to_bytes(8, "big")
        key = posix.urandom(4) if self._secure else _NO_MASK
        self._out += head + key
        self._out += masked(payload, key) if self._secure else payload

    @property
    def congested(self) -> bool:
        """Whether queued bytes are not sent yet."""
        return bool(self._out) and not self.closed

    def flush(self) -> None:
        """Send as much as possible without blocking."""
        self._socket.setblocking(False)
        try:
            while self._out and not self.closed:
                self._send_once()
        except BlockingIOError:
            pass

    def _send_once(self) -> None:
        try:
            del self._out[: self._socket.send(self._out)]
        except (BrokenPipeError, ConnectionResetError):
            self._out.clear()
            self._drain()

    def _drain(self) -> None:
        """Read what the server sent before it closed the connection."""
        self._socket.settimeout(1)
        while not self.closed:
            self.read()

    # --- receiving ----------------------------------------------------------------------------------------------

    def receive(self) -> Message | None:
        """The next message, waiting for it; None at the end."""
        while not self._messages and not self.closed:
            self._socket.setblocking(True)
            self.read()
        return self._messages.pop(0) if self._messages else None

    def take(self) -> list[Message]:
        """The messages read so far."""
        messages, self._messages = self._messages, []
        return messages

    def read(self) -> None:
        """Read once from the socket, after ``poll`` has reported it as readable."""
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        self._in += data
        self._parse()

    def _parse(self) -> None:
        while not self.clean and (frame := self._frame()):
            final, kind, payload = frame
            if kind < 8:
                self._data(final, kind, payload)
            elif kind == _CLOSE:
                self.closed = self.clean = True
            elif kind == _PING:
                self.queue(payload, _PONG)
                self.flush()

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """Remove the next complete frame from the buffer; None if there is none."""
        data = self._in
        if len(data) < 2:
            return None
        size, start = data[1], 2
        if data[0] & 0x70 or size & 0x80:
            raise _broken("a server's frame is not masked and has no extensions")
        if size > 125:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if size > MESSAGE_LIMIT:
            raise _broken(f"a message of {size} bytes")
        if len(data) < start + size:
            return None
        with memoryview(data) as view:
            payload = bytes(view[start : start + size])
        frame = (bool(data[0] & 0x80), data[0] & 15, payload)
        del data[: start + size]
        return frame

    def _data(self, final: bool, kind: int, payload: bytes) -> None:
        if kind > _BINARY or (kind == _CONTINUATION) != bool(self._parts):
            raise _broken("frames out of order")
        if final and not self._parts:
            self._deliver(payload, kind == _TEXT)
            return
        if not self._parts:
            self._text, self._size = kind == _TEXT, 0
        self._parts.append(payload)
        self._size += len(payload)
        if self._size > MESSAGE_LIMIT:
            raise _broken(f"a message of more than {MESSAGE_LIMIT} bytes")
        if final:
            whole, self._parts = b"".join(self._parts), []
            self._deliver(whole, self._text)

    def _deliver(self, payload: bytes, text: bool) -> None:
        self._messages.append(payload.decode(errors="replace") if text else payload)


class Opening:
    """A handshake that was sent. Several can be sent before the first response is read."""

    def __init__(self, connection: Connection, target: str) -> None:
        self._connection = connection
        nonce, self._answer = _challenge() if connection.secure else (_NONCE, _ANSWER)
        connection.send("GET", target, (*UPGRADE, ("Sec-WebSocket-Key", nonce)))

    def accept(self) -> WebSocket:
        """Wait for the response. Raises the daemon's error."""
        response = self._connection.receive()
        if response.status != 101:
            from isola.client.reply import Reply

            Reply.read(response)
            raise _broken(f"status {response.status} instead of a WebSocket")
        if response.headers.get("sec-websocket-accept") != self._answer:
            raise _broken("Sec-WebSocket-Accept is wrong")
        return WebSocket(self._connection)


def masked(payload: bytes, key: bytes) -> bytes:
    """The payload XORed with the repeated key; the function is its own inverse."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def _challenge() -> tuple[str, str]:
    """A random nonce, and the expected ``Sec-WebSocket-Accept``."""
    from binascii import b2a_base64
    from hashlib import sha1

    nonce = b2a_base64(posix.urandom(16), newline=False)
    answer = b2a_base64(sha1(nonce + _GUID, usedforsecurity=False).digest(), newline=False)
    return nonce.decode(), answer.decode()


def _broken(evidence: str) -> Exception:
    from isola.client.failures import BadReply

    return BadReply("The daemon broke the WebSocket protocol", evidence=evidence)
