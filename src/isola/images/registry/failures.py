"""Errors of registries as ours: the specification's codes, with the registry's text as evidence."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from isola.errors import Forbidden, HostFailure, InvalidInput, IsolaError, NotFound, TimedOut, TooLarge, Unsupported
from isola.host.http import HttpResponse, server_of

_MOST = 64 << 10


@dataclass(frozen=True, slots=True)
class _Row:
    """An error for some of the specification's codes, and for some statuses if there is no code."""

    kind: type[IsolaError]
    text: str
    codes: frozenset[str]
    statuses: range | frozenset[int]
    remedy: str = ""


_ROWS = (
    _Row(
        Forbidden,
        "The registry {server} requires authentication for {what}",
        frozenset({"UNAUTHORIZED"}),
        frozenset({401}),
        "log in to the registry",
    ),
    _Row(
        Forbidden,
        "The registry {server} refuses access to {what}",
        frozenset({"DENIED"}),
        frozenset({403}),
        "log in to the registry",
    ),
    _Row(
        NotFound,
        "The registry {server} does not have {what}",
        frozenset({"BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN"}),
        frozenset({404}),
    ),
    _Row(
        HostFailure,
        "The registry {server} limits the number of requests",
        frozenset({"TOOMANYREQUESTS"}),
        frozenset({429}),
        "try again later",
    ),
    _Row(
        Unsupported,
        "The registry {server} does not support requests for {what}",
        frozenset({"UNSUPPORTED"}),
        frozenset({405}),
    ),
    _Row(TooLarge, "The registry {server} refuses {what} because of its size", frozenset(), frozenset({413})),
    _Row(TimedOut, "The registry {server} waited too long for {what}", frozenset(), frozenset({408})),
    _Row(InvalidInput, "The registry {server} refuses {what}", frozenset(), range(400, 500)),
    _Row(HostFailure, "The registry {server} failed at {what}", frozenset(), range(1000), "try again later"),
)


async def failure(response: HttpResponse, what: str) -> IsolaError:
    """The error for a response with a status other than the expected ones; ``what`` was asked for."""
    try:
        body = await response.read(_MOST)
    except IsolaError:
        body = b""
    return error_of(response.status, body, what, server_of(response.url))


def error_of(status: int, body: bytes, what: str, server: str) -> IsolaError:
    """The same from its parts."""
    code, text = _first(body)
    row = next((row for row in _ROWS if code in row.codes), None)
    row = row or next((row for row in _ROWS if status in row.statuses), _ROWS[-1])
    message = row.text.format(server=server, what=what)
    return row.kind(message, evidence=text or f"status {status}", remedy=row.remedy)


def _first(body: bytes) -> tuple[str, str]:
    """Code and text of the first error: ``manifest unknown: manifest unknown to registry``."""
    try:
        errors = orjson.loads(body).get("errors")
        first = errors[0]
        code, message = str(first.get("code") or ""), str(first.get("message") or "")
    except (orjson.JSONDecodeError, AttributeError, TypeError, IndexError, KeyError):
        return "", ""
    readable = "".join(sign if sign.isprintable() else " " for sign in message[:300])
    return code[:80], f"{code[:80].lower().replace('_', ' ')}: {readable}".strip()
