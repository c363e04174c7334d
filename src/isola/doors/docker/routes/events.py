"""The stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from aiohttp import web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.events.rendering import Message
from isola.doors.docker.filtering import matches_labels
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission
from isola.doors.docker.times import nanoseconds, parse_time
from isola.doors.http.json import dumps
from isola.errors import InvalidInput

_TYPES = ("container", "image", "network", "volume")
_OBJECTS = (*_TYPES, "daemon", "plugin", "node", "service", "secret", "config")
_BILLION = 10**9


async def follow(request: Request) -> web.StreamResponse:
    """Messages as JSON, one after another: kept ones from ``since`` on, and new ones until ``until``."""
    match = matcher(request.filters())
    now = request.services.host.clock.now()
    since = 0 if request.query.get("since") == "0" else parse_time(request.query.get("since", ""), "since", now)
    until = parse_time(request.query.get("until", ""), "until", now)
    if since is None and until is not None:
        since = 0  # an end without a beginning asks for all that is kept
    if since is not None and until is not None and since > until:
        first, last = (request.query[name][:40] for name in ("since", "until"))
        raise InvalidInput(f"`since` time ({first}) cannot be after `until` time ({last})", field="since")
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
    await response.prepare(request.http)
    with request.lasts():
        remaining = None if until is None else (until - nanoseconds(now)) / _BILLION
        if remaining is not None and remaining <= 0:
            for message in request.history.past(since):
                if until is not None and message.time <= until:
                    await _send(response, message, match)
            return response
        try:
            async with asyncio.timeout(remaining), aclosing(request.history.follow(since)) as messages:
                async for message in messages:
                    await _send(response, message, match)
        except TimeoutError:
            pass
    return response


async def _send(response: web.StreamResponse, message: Message, match: Callable[[Message], bool]) -> None:
    if match(message):
        await response.write(dumps(message.json()) + b"\n")


def matcher(filters: Mapping[str, Sequence[str]]) -> Callable[[Message], bool]:
    """Whether a message has what all filters name. Raises InvalidInput."""
    for name in filters:
        if name not in (*_OBJECTS, "event", "label", "type", "scope"):
            raise InvalidInput(f"invalid filter '{name[:80]}'", field="filters")
    return lambda message: all(_matches(message, name, values) for name, values in filters.items() if values)


def _matches(message: Message, name: str, values: Sequence[str]) -> bool:
    if name == "event":
        return any(message.action == value or message.action.startswith(f"{value}:") for value in values)
    if name == "type":
        return message.type in values
    if name == "scope":
        return "local" in values
    if name == "label":
        return matches_labels(message.attributes, values)
    if message.type == "container" and name == "image":
        return any(message.attributes.get("image", "").partition(":")[0] == value.partition(":")[0] for value in values)
    names = (message.attributes.get("name", ""), message.attributes.get(name, ""))
    return message.type == name and any(message.id.startswith(value) or value in names for value in values)


ROUTES = (("GET", "/events", follow, Permission.VIEW),)
