"""Reads a ``multipart/form-data`` response in blocks."""

from __future__ import annotations

from isola.client.failures import BadReply
from isola.client.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD_LIMIT = 65536


class Splitter:
    """Splits a multipart body into its files, without keeping whole files in memory."""

    def __init__(self, response: Response) -> None:
        kind = response.headers.get("content-type", "")
        boundary = _parameter(kind, "boundary")
        if not boundary:
            raise BadReply("The multipart response has no boundary", evidence=kind[:200])
        self._end = b"\r\n--" + boundary.encode()
        self._response = response
        self._buffer = bytearray(b"\r\n")  # the first boundary may be at the start of the body

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Name and blocks of each file; the unread rest of one is skipped before the next."""
        for _ in self._until_boundary():
            pass
        while (head := self._head()) is not None:
            pieces = self._until_boundary()
            yield _parameter(head, "filename") or _parameter(head, "name"), pieces
            for _ in pieces:
                pass

    def _head(self) -> str | None:
        """The headers of the next part; None after the last."""
        while len(self._buffer) < 2 and self._fill():
            pass
        if self._buffer[:2] == b"--":
            return None
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT or not self._fill():
                raise BadReply("The multipart response is malformed")
        head = self._buffer[:end].decode(errors="replace")
        del self._buffer[: end + 4]
        return head

    def _until_boundary(self) -> Iterator[bytes]:
        while (end := self._buffer.find(self._end)) < 0:
            safe = len(self._buffer) - len(self._end)
            if safe > 0:
                piece = bytes(self._buffer[:safe])
                del self._buffer[:safe]
                yield piece
            if not self._fill():
                raise BadReply("The multipart response has no end")
        piece = bytes(self._buffer[:end])
        del self._buffer[: end + len(self._end)]
        if piece:
            yield piece

    def _fill(self) -> bool:
        data = self._response.read_some()
        self._buffer += data
        return bool(data)


def _parameter(header: str, name: str) -> str:
    """``name=value`` or ``name="value"`` of a header."""
    before, found, rest = header.partition(f'{name}="')
    if found and before[-1:] in (" ", ";"):
        return rest.partition('"')[0]
    before, found, rest = header.partition(f"{name}=")
    return rest.partition(";")[0].strip() if found and before[-1:] in (" ", ";", "") else ""
