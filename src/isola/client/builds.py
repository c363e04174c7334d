"""Builds of images: the context is sent as it is read, events come as they happen."""

from __future__ import annotations

from isola.client import json
from isola.client.failures import BadReply
from isola.client.paths import ROOT
from isola.client.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from isola.client.api import Api

_ROOT = f"{ROOT}/isola/builds"
_LONGEST = 64 << 20


class Builds:
    """The daemon's builds."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def run(
        self,
        options: Mapping[str, object],
        context: Iterable[bytes],
        take: Callable[[bytes], object] | None = None,
        take_cache: Callable[[str, bytes], object] | None = None,
    ) -> Iterator[dict[str, object]]:
        """Build; yields events, the last of which is ``image``, ``done`` or ``error``. Raises the daemon's errors.

        ``context``: a tar stream. ``take`` gets the pieces of an output that is no image, ``take_cache`` those of
        local caches, with their names.
        """
        response = self._client.exchange(
            "POST", _ROOT, _body(options, context), headers=[("Content-Type", "application/octet-stream")]
        )
        try:
            if response.status >= 400:
                Reply.read(response)
            yield from _events(response, take, take_cache)
        finally:
            self._client.release(response)

    def builders(self) -> list[dict[str, object]]:
        """``name``, ``description``, ``available``, ``reason``, ``remedy``, ``options``."""
        found = self._client.call("GET", f"{_ROOT}/builders").metadata
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    def reply(self, token: str, message: bytes) -> None:
        """What an agent says to a program, in answer to an event of type ``agent``."""
        from base64 import b64encode

        self._client.call("POST", f"{_ROOT}/replies/{token}", {"data": b64encode(message).decode()})

    def prune(self, *, most: int = 0) -> dict[str, object]:
        """Drop kept results until ``most`` bytes are left: ``dropped`` (their number) and ``freed`` (bytes)."""
        found = self._client.call("DELETE", f"{_ROOT}/cache?most={most}").metadata
        return dict(found) if isinstance(found, dict) else {}


def _body(options: Mapping[str, object], context: Iterable[bytes]) -> Iterator[bytes]:
    yield json.encode(dict(options)).encode() + b"\n"
    yield from context


def _events(
    blocks: Iterable[bytes],
    take: Callable[[bytes], object] | None,
    take_cache: Callable[[str, bytes], object] | None = None,
) -> Iterator[dict[str, object]]:
    """Lines, some of which say how many bytes follow that are none."""
    pending, left, name = b"", 0, ""
    for block in blocks:
        pending += block
        while pending:
            if left:
                piece, pending = pending[:left], pending[left:]
                left -= len(piece)
                if name and take_cache is not None:
                    take_cache(name, piece)
                elif not name and take is not None:
                    take(piece)
                continue
            line, found, rest = pending.partition(b"\n")
            if not found:
                break
            event, pending = _event(line), rest
            if event.get("type") == "data":
                left, name = _size(event.get("size")), str(event.get("name") or "")
            else:
                yield event
        if len(pending) > _LONGEST:
            raise BadReply("The response does not conform to the API", evidence="a line is too long")


def _size(found: object) -> int:
    if not isinstance(found, int) or found < 0:
        raise BadReply("The response does not conform to the API", evidence="data without a size")
    return found


def _event(line: bytes) -> dict[str, object]:
    try:
        found = json.decode(line)
    except ValueError as error:
        raise BadReply("The response does not conform to the API", evidence=str(error)) from None
    if not isinstance(found, dict):
        raise BadReply("The response does not conform to the API", evidence=repr(line[:200]))
    return found
