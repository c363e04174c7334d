"""Reading of requests: the body with a bound, the query, text of headers and paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from urllib.parse import parse_qsl

from aiohttp import web

from isola.errors import InvalidInput, TooLarge

JSON_LIMIT = 2 * 2**20
LARGE = 64 * 2**10
"""JSON of at least this many bytes is parsed in a thread, so as not to block the event loop."""


async def body_of(http: web.BaseRequest, limit: int = JSON_LIMIT) -> bytes:
    """The whole body. Raises TooLarge."""
    parts = bytearray()
    async for block in blocks_of(http):
        parts += block
        if len(parts) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes", field="body")
    return bytes(parts)


async def blocks_of(http: web.BaseRequest) -> AsyncIterator[bytes]:
    """The body in blocks as they arrive. Raises InvalidInput if the client disconnects."""
    if http.headers.get("Expect", "").lower() == "100-continue":
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        http.writer.output_size = 0
    try:
        async for block in http.content.iter_any():
            yield block
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidInput("The body ended early or is malformed", evidence=str(error)[:200], field="body") from None


def is_gone(http: web.BaseRequest) -> bool:
    """Whether the client has closed the connection."""
    return http.transport is None or http.transport.is_closing()


def readable(text: str, field: str) -> str:
    """Text from headers or the path. Raises InvalidInput if it is not UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{field} is not UTF-8", field=field) from None
    return text


@lru_cache(256)
def parse_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Query parameters in order. Raises InvalidInput."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=64)
    except (ValueError, UnicodeDecodeError):
        raise InvalidInput("The query is malformed", field="query") from None
    for name, value in pairs:
        if "\0" in value:
            raise InvalidInput("The query contains NUL", field=name[:80])
    return tuple(pairs)
