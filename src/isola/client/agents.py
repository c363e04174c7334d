"""Agents of SSH on the client's side, which programs of a build may ask."""

from __future__ import annotations

from isola.client.connecting import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = 4
_LONGEST = 256 << 10
_SECONDS = 110.0
_FAILURE = b"\0\0\0\1\5"


class Agents:
    """``sockets``: their paths by the ids under which the Dockerfile knows them."""

    def __init__(self, sockets: Mapping[str, str]) -> None:
        self._sockets = sockets

    def ask(self, id: str, message: bytes) -> bytes:
        """The reply of an agent; the agents' own message of failure if it does not reply."""
        from isola.errors import IsolaError

        try:
            return _asked(self._sockets[id], message)
        except (OSError, KeyError, IsolaError):
            return _FAILURE


def _asked(path: str, message: bytes) -> bytes:
    link = connect(path, _SECONDS)
    try:
        link.sendall(message)
        found = b""
        while len(found) < _HEAD or len(found) < _HEAD + int.from_bytes(found[:_HEAD], "big"):
            block = link.recv(65536)
            if not block or len(found) > _LONGEST:
                return _FAILURE
            found += block
        return found
    finally:
        link.close()
