"""A request as handlers see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from isola.doors import Services
from isola.doors.docker.json_body import decoded
from isola.doors.docker.versions import NEWEST, Version
from isola.doors.http.body import JSON_LIMIT, LARGE, blocks_of, body_of
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.model.caller import Caller
from isola.model.reference import Entity, Kind, Ref

if TYPE_CHECKING:
    from isola.doors.docker.buildkit.records import Records
    from isola.doors.docker.buildkit.sessions import Sessions
    from isola.doors.docker.containers.lines import KeptLines
    from isola.doors.docker.events.history import History

Pairs = tuple[tuple[str, str], ...]
_FALSE = ("", "0", "no", "false", "none")
_FILTERS = 128
_JSON = "application/json"
_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Request:
    """One request: the services for it, its path, query and body."""

    services: Services
    http: web.BaseRequest
    caller: Caller
    project: str
    """The project whose instances are the containers: ``docker.project``."""
    lasting: set[asyncio.Task[object]]
    """Tasks that serve streams without an end, for the door to cancel."""
    history: History
    """Events so far, and to come."""
    sessions: Sessions
    """Of clients of BuildKit."""
    records: Records
    """Of their builds."""
    lines: KeptLines
    """Of containers in lists."""
    version: Version = NEWEST
    """What the client speaks; later fields are left out where it matters."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Parts of the path by name, decoded."""
    pairs: Pairs = ()
    """The query in order, with repeated parameters."""

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters; of repeated ones the first."""
        return dict(reversed(self.pairs))

    def values(self, name: str) -> list[str]:
        """All values of a repeated parameter."""
        return [value for key, value in self.pairs if key == name]

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean parameter: everything but an empty value, 0, no, false and none is true."""
        value = self.query.get(name)
        return default if value is None else value.strip().lower() not in _FALSE

    def whole(self, name: str) -> int | None:
        """An integer, or None without the parameter. Raises InvalidInput."""
        text = self.query.get(name, "")
        try:
            return int(text[:20]) if text else None
        except ValueError:
            raise InvalidInput(f"invalid value for {name}: {text[:80]!r} is not an integer", field=name) from None

    def filters(self) -> Mapping[str, tuple[str, ...]]:
        """``filters``: lists of strings by name, in both of the spellings that clients use. Raises InvalidInput."""
        text = self.query.get("filters", "")
        return _parse_filters(text) if text else {}

    def home(self, kind: Kind) -> str:
        """The project whose entities of a kind are used: this one, or the default project if it shares them."""
        return self.services.projects.home(self.project, kind)

    def ref(self, name: str, kind: Kind = Kind.INSTANCE) -> Ref:
        """The reference for a name, in the project of the door."""
        return Ref(self.home(kind), name)

    def told(self, action: str, ref: Ref, **about: object) -> None:
        """Publish an event of a container that no use case publishes, because it changes nothing."""
        entity = Entity.of(Kind.INSTANCE, ref)
        self.services.events.lifecycle(f"instance-{action}", entity, caller=self.caller, **about)

    async def fields(self) -> Fields:
        """The JSON object in the body; an empty body is an empty object. Raises InvalidInput."""
        self.require_json()
        data = await self.body()
        if not data.strip():
            return Fields({})
        found = await asyncio.to_thread(decoded, data) if len(data) > LARGE else decoded(data)
        if not isinstance(found, dict):
            raise InvalidInput("invalid JSON: an object is expected", field="body")
        return Fields(found)

    def require_json(self) -> None:
        """Raise InvalidInput for a body of another media type; an unnamed one is taken for JSON."""
        given = self.http.headers.get("Content-Type", "")
        if given and self.http.body_exists and self.http.content_type != _JSON:
            raise InvalidInput(f"unsupported Content-Type header ({given[:80]}): must be '{_JSON}'")

    async def body(self, limit: int = JSON_LIMIT) -> bytes:
        """The whole body. Raises TooLarge."""
        return await body_of(self.http, limit)

    def blocks(self) -> AsyncIterator[bytes]:
        """The body in blocks as they arrive. Raises InvalidInput if the client disconnects."""
        return blocks_of(self.http)

    @contextmanager
    def lasts(self) -> Iterator[None]:
        """Around a stream without an end: it ends with the door, too, and soon after the client has gone."""
        task = asyncio.current_task()
        assert task is not None
        self.lasting.add(task)
        watching = asyncio.ensure_future(self._until_gone(task))
        try:
            yield
        finally:
            watching.cancel()
            self.lasting.discard(task)

    async def _until_gone(self, task: asyncio.Task[object]) -> None:
        """Cancel a task when its client has gone; there is no event for it."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            transport = self.http.transport
            if transport is None or transport.is_closing():
                task.cancel()
                return


def _parse_filters(text: str) -> Mapping[str, tuple[str, ...]]:
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict) or len(given) > _FILTERS:
        raise InvalidInput("invalid filter: filters must be a JSON object", field="filters")
    return {name: _filter_values(name, values) for name, values in given.items()}


def _filter_values(name: str, values: object) -> tuple[str, ...]:
    """``["a"]``, or ``{"a": true}`` as older clients send it."""
    if isinstance(values, dict):
        values = [value for value, wanted in values.items() if wanted]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidInput(f"invalid filter '{name[:80]}': its values must be a list of strings", field="filters")
    return tuple(values)
