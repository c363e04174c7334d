"""A request as handlers see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from aiohttp import web

from isola.doors import Services
from isola.doors.http.body import JSON_LIMIT, LARGE, blocks_of, body_of, parse_pairs, readable
from isola.doors.http.reading import Fields, parse_object
from isola.doors.rest.addresses import address
from isola.doors.rest.answers import tag_of
from isola.doors.rest.connections import Connections
from isola.doors.rest.rendering import Rendering
from isola.errors import InvalidInput, PreconditionFailed
from isola.model.caller import Caller
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref

T = TypeVar("T")
U = TypeVar("U")
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(slots=True)
class Request:
    """One request: the services for it, its path, query and body."""

    services: Services
    http: web.BaseRequest
    caller: Caller
    rendering: Rendering
    sockets: set[web.WebSocketResponse]
    """Open WebSockets, for the door to close."""
    connections: Connections
    """Channels of operations that clients connect."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Parts of the path by name, decoded."""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> str:
        """``instances``, or the older ``containers`` and ``virtual-machines``."""
        return self.http.raw_path.partition("?")[0].strip("/").split("/")[1]

    @property
    def recursion(self) -> int:
        """Detail of a list: 0 paths, 1 objects, 2 objects with state."""
        text = self.query.get("recursion", "") or "0"
        if text not in ("0", "1", "2"):
            raise InvalidInput("recursion must be 0, 1 or 2", field="recursion")
        return int(text)

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        text = self.query.get(name, "").lower()
        if not text:
            return False
        if text not in _TRUTH:
            raise InvalidInput(f"{name} must be true or false", field=name)
        return _TRUTH[text]

    @property
    def project(self) -> str:
        """The value of ``project=``, or the default project."""
        return self.query.get("project") or DEFAULT_PROJECT

    @property
    def everywhere(self) -> bool:
        """Whether entities of all projects are requested (``all-projects``)."""
        return self.flag("all-projects")

    def home(self, kind: Kind) -> str:
        """The project whose entities of a kind are used: this one, or the default project if it shares them."""
        return self.services.projects.home(self.project, kind)

    def ref(self, name: str, kind: Kind = Kind.INSTANCE) -> Ref:
        """The reference for a name, in the project of the request."""
        return Ref(self.home(kind), name)

    def lists(self, entity: Entity) -> bool:
        """Whether an entity belongs to the requested list and the caller may see it."""
        if self.everywhere:
            return self.caller.may_use(entity.project)
        return entity.project == self.home(entity.kind)

    def users(self, entities: Iterable[Entity]) -> list[str]:
        """``used_by``: the addresses of users that the caller may see."""
        return [address(entity) for entity in entities if self.caller.may_use(entity.project)]

    def header(self, name: str) -> str:
        """A header by its LXD or Incus name (``X-LXD-mode``, ``X-Incus-mode``), or empty."""
        headers = self.http.headers
        return readable(headers.get(f"X-Incus-{name}") or headers.get(f"X-LXD-{name}") or "", f"X-LXD-{name}")

    async def fields(self) -> Fields:
        """The JSON object in the body."""
        data = await self.body()
        return await asyncio.to_thread(parse_object, data) if len(data) > LARGE else parse_object(data)

    async def body(self, limit: int = JSON_LIMIT) -> bytes:
        """The whole body. Raises TooLarge."""
        return await body_of(self.http, limit)

    def blocks(self) -> AsyncIterator[bytes]:
        """The body in blocks as they arrive. Raises InvalidInput if the client disconnects."""
        return blocks_of(self.http)

    def matching(self, shape: Callable[[T], object], decide: Callable[[T], U]) -> Callable[[T], U]:
        """``decide``, called only if ``If-Match`` matches the record. Raises PreconditionFailed."""

        def matched(found: T) -> U:
            self._require_match(shape(found))
            return decide(found)

        return matched

    def _require_match(self, current: object) -> None:
        expected = self.http.headers.get("If-Match")
        if expected and expected.strip('"') not in ("*", tag_of(current)):
            raise PreconditionFailed(
                "It was changed since it was read", evidence="ETag doesn't match", remedy="read it again"
            )


@lru_cache(256)
def parse_query(text: str) -> Mapping[str, str]:
    """Query parameters; of repeated ones the first is used. Raises InvalidInput."""
    query: dict[str, str] = {}
    for name, value in parse_pairs(text):
        query.setdefault(name, value)
    return query
