"""Instances as cached JSON, valid while nothing they depend on has changed; lists are joined from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache

from isola.doors import Services
from isola.doors.http.json import dumps
from isola.doors.rest.filtering import Match
from isola.doors.rest.shapes.instance_snapshots import snapshot_json
from isola.doors.rest.shapes.instances import instance_json, state_json
from isola.doors.rest.shapes.server import server_json
from isola.errors import NotFound
from isola.model.caller import Caller
from isola.model.instance import Instance, InstanceState, Status
from isola.model.reference import Kind, Ref
from isola.model.snapshot import InstanceSnapshot
from isola.server import pressure

_CALLERS = 64
"""Number of callers whose response to ``GET /1.0`` is cached."""
_LISTS = 4
"""Number of lists that are cached: whole, since a list of a hundred is joined more slowly than it is sent."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The JSON of an instance, and what it was made of."""

    instance: Instance
    status: Status
    stateful: bool
    surroundings: tuple[int, int]
    profiles: tuple[object, ...]
    data: bytes


@dataclass(slots=True)
class _List:
    """The instances of a list with their JSON."""

    chosen: Sequence[Instance]
    parts: Sequence[bytes]
    joined: bytes = b""
    """Empty until it is needed."""


class Rendering:
    """The rendered instances of one daemon."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: dict[str, _Kept] = {}
        self._lists: dict[Hashable, _List] = {}
        self._listed_at: tuple[object, ...] = ()
        """The generation of the cached lists."""
        self._server: dict[tuple[str, str, bool, str], tuple[object, bytes]] = {}

    def server(self, caller: Caller, project: str) -> bytes:
        """``GET /1.0`` for a trusted caller in a project."""
        services = self._services
        warnings = pressure.warnings(services.host)
        key = (
            services.server.revision,
            tuple(pool.driver for pool in services.pools),
            warnings,
            services.identity.addresses,
        )
        who = (caller.credential, caller.name, caller.admin, project)
        kept = self._server.get(who)
        if kept is not None and kept[0] == key:
            return kept[1]
        data = dumps(server_json(services, caller, project, warnings))
        if len(self._server) >= _CALLERS:
            self._server.clear()
        self._server[who] = (key, data)
        return data

    def one(self, instance: Instance) -> bytes:
        """An instance as JSON; ``instance`` is its current record."""
        return self._one(instance, self._surroundings())

    def _one(self, instance: Instance, surroundings: tuple[int, int]) -> bytes:
        instances, kept = self._services.instances, self._kept.get(instance.id)
        status, stateful = instances.status(instance), instances.is_saved(instance)
        # A record is never changed in place, so that the same object is the same revision.
        if kept is None or kept.instance is not instance or (kept.status, kept.stateful) != (status, stateful):
            kept = None
        elif kept.surroundings == surroundings:
            return kept.data
        profiles = self._profiles(instance)
        data = dumps(self.shape(instance)) if kept is None or kept.profiles != profiles else kept.data
        self._kept[instance.id] = _Kept(instance, status, stateful, surroundings, profiles, data)
        return data

    def _surroundings(self) -> tuple[int, int]:
        """Changes if any profile or project changes."""
        return self._services.profiles.generation, self._services.projects.generation

    def _profiles(self, instance: Instance) -> tuple[object, ...]:
        """Changes if one of its profiles changes, or its project uses those of another one."""
        home, revision = self._services.projects.home(instance.project, Kind.PROFILE), self._services.profiles.revision
        return (home, *(revision(Ref(home, name)) for name in instance.profiles))

    def shape(self, instance: Instance) -> dict[str, object]:
        """An instance as a dictionary."""
        instances = self._services.instances
        return instance_json(
            instance,
            instances.status(instance),
            instances.config(instance),
            instances.expanded(instance),
            stateful=instances.is_saved(instance),
        )

    def many(self, chosen: Sequence[Instance]) -> bytes:
        """A list of instances."""
        return _joined(self._parts(chosen))

    def every(self, scope: Hashable, choose: Callable[[], Sequence[Instance]]) -> bytes:
        """All instances of a scope, which ``choose`` finds."""
        found = self._list(scope, choose)
        found.joined = found.joined or _joined(found.parts)
        return found.joined

    async def every_full(self, scope: Hashable, choose: Callable[[], Sequence[Instance]]) -> bytes:
        """The same with their states, without disk usage."""
        found = self._list(scope, choose)
        states = await self._services.instances.states(found.chosen)
        if self._list(scope, choose) is not found:
            return self._many_full(found.chosen, states)
        snapshots = self._services.instances.snapshots.of_all()
        return _joined(
            [
                part[:-1] + self._state(state, snapshots.get(instance.id, ()))
                for instance, part, state in zip(found.chosen, found.parts, states, strict=True)
            ]
        )

    def _list(self, scope: Hashable, choose: Callable[[], Sequence[Instance]]) -> _List:
        now = (self._surroundings(), self._services.instances.generation)
        if now != self._listed_at or (scope not in self._lists and len(self._lists) >= _LISTS):
            self._lists.clear()
            self._listed_at = now
        found = self._lists.get(scope)
        if found is None:
            chosen = choose()
            found = self._lists[scope] = _List(chosen, self._parts(chosen))
        return found

    def _parts(self, chosen: Sequence[Instance]) -> Sequence[bytes]:
        surroundings = self._surroundings()
        parts = [self._one(instance, surroundings) for instance in chosen]
        self._drop_deleted()
        return parts

    async def full(self, instance: Instance, *, disk: bool) -> tuple[Instance, bytes]:
        """An instance with state, snapshots and backups, and the record they belong to. Raises NotFound."""
        instances = self._services.instances
        state = await instances.state(instance, disk=disk)
        held = instances.again(instance)
        if held is None:
            raise NotFound(f"Instance {instance.ref.quoted} not found", evidence="it was deleted meanwhile")
        snapshots = instances.snapshots.of(held.value)
        return held.value, self._full(held.value, state, snapshots, self._surroundings())

    def snapshot(self, snapshot: InstanceSnapshot, size: int = -1) -> dict[str, object]:
        """A snapshot as a dictionary."""
        instances = self._services.instances
        then = snapshot.instance
        return snapshot_json(snapshot, instances.config(then), instances.expanded(then), size)

    async def many_full(self, chosen: Sequence[Instance], match: Match | None = None) -> bytes:
        """A list of instances with their states, without disk usage, which would walk every volume."""
        return self._many_full(chosen, await self._services.instances.states(chosen), match)

    def _many_full(
        self, chosen: Sequence[Instance], states: Sequence[InstanceState], match: Match | None = None
    ) -> bytes:
        instances = self._services.instances
        # Reading the states took a while: use the present records, without instances deleted meanwhile.
        snapshots, surroundings = instances.snapshots.of_all(), self._surroundings()
        present = {instance.id: instance for instance in instances}
        parts = [
            self._full(now, state, snapshots.get(now.id, ()), surroundings)
            for instance, state in zip(chosen, states, strict=True)
            if (now := present.get(instance.id)) is not None and (match is None or match(self.shape(now)))
        ]
        self._drop_deleted()
        return _joined(parts)

    def _full(
        self,
        instance: Instance,
        state: InstanceState,
        snapshots: Sequence[InstanceSnapshot],
        surroundings: tuple[int, int],
    ) -> bytes:
        return self._one(instance, surroundings)[:-1] + self._state(state, snapshots)

    def _state(self, state: InstanceState, snapshots: Sequence[InstanceSnapshot]) -> bytes:
        """The fields that an instance has in addition, and the end of its JSON."""
        rests, data = _at_rest(state.status)
        return data if state == rests and not snapshots else _more(state, [self.snapshot(each) for each in snapshots])

    def _drop_deleted(self) -> None:
        if len(self._kept) > 2 * len(self._services.instances) + 16:
            present = {instance.id for instance in self._services.instances}
            self._kept = {id: kept for id, kept in self._kept.items() if id in present}


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join((b"[", b",".join(parts), b"]"))


def _more(state: InstanceState, snapshots: list[dict[str, object]]) -> bytes:
    more = (b',"backups":[],"snapshots":', dumps(snapshots), b',"state":', dumps(state_json(state)), b"}")
    return b"".join(more)


@cache
def _at_rest(status: Status) -> tuple[InstanceState, bytes]:
    """The state of an instance that does not run, and the fields if it has no snapshots."""
    state = InstanceState(status)
    return state, _more(state, [])
