"""What every verb of instances works with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from isola.devices import Parts as DeviceParts
from isola.devices import Plug
from isola.devices.devices import Devices
from isola.devices.uses import Home
from isola.errors import HostFailure
from isola.events import Events
from isola.host import Host
from isola.images import ImageLibrary
from isola.instances.bases import Bases
from isola.instances.layers import Layers
from isola.instances.nics import Nics
from isola.instances.phases import FOLLOWING, Phase, RunState, phase_of
from isola.instances.unknowns import Unknowns
from isola.instances.volatile import ROOT_SIZE
from isola.model.caller import DAEMON, Caller
from isola.model.identity import HostNames
from isola.model.instance import Instance, Status
from isola.model.limits import Limits
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Entity, Kind, Ref
from isola.model.snapshot import InstanceSnapshot, snapshot_entity
from isola.model.storage import Volume
from isola.model.volume import VolumeRef
from isola.model.warning import WarningType
from isola.network import Networks
from isola.operations import Operation, Operations
from isola.runtimes import Guest, Runtime, Runtimes
from isola.state import Collection, Described, Intents, References, Scoped, record_codec
from isola.storage import Pools, VolumeDriver, Volumes
from isola.warnings import Warnings


def entity_of(ref: Ref) -> Entity:
    """What events and operations name an instance by."""
    return Entity.of(Kind.INSTANCE, ref)


def lock_of(ref: Ref) -> str:
    """What an operation locks that works on an instance."""
    return entity_of(ref).lock


@dataclass(slots=True)
class Live:
    """A running instance as this daemon sees it; rebuilt from the host when the daemon starts."""

    guest: Guest
    started_at: datetime
    state: RunState = RunState.RUNNING
    """Changed by ``enter`` alone."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    exit_status: int = 0
    limits: Limits = field(default_factory=Limits)
    """What it may use now."""
    home: str = ""
    """Where root's commands begin inside: ``/root``, or ``/`` where the image has none; empty until asked for."""
    since: float = 0.0
    """When this daemon began to look after it, by the clock that never goes back."""
    reboots: int = 0
    """How many reboots in quick succession led to this run."""
    again: bool = False
    """It was ended for something that it runs on after: once cleaned up, it is started again."""
    watcher: asyncio.Task[None] | None = None
    consoles: set[asyncio.Event] = field(default_factory=set)
    """Clients that are attached to its console: each is told by its event that it has lost it."""

    def enter(self, state: RunState) -> None:
        """Change the state. Raises AssertionError for an impossible transition, which is a bug of the caller."""
        assert state in FOLLOWING[self.state], f"a run cannot go from {self.state.value} to {state.value}"
        self.state = state
        if state is RunState.ENDED:
            self.ended.set()


@dataclass(slots=True)
class Restart:
    """An instance that has rebooted and is to be started again."""

    reboots: int
    """How many in quick succession."""
    task: asyncio.Task[None] | None = None
    """Starts it after a pause; None where it is started at once."""


@dataclass(slots=True)
class Fault:
    """An instance could not be brought to what its record says."""

    why: str
    strays: tuple[Plug, ...] = ()
    """Devices that it may still have on the host, though its record does not know them."""
    ended: Live | None = None
    """The run that could not be cleaned up after, where it is that."""


@dataclass(frozen=True, slots=True)
class HalfMade:
    """What a creation may have left on the host that failed and could not be undone."""

    id: str
    ref: Ref
    pool: str = ""
    """Empty where it did not come to a volume."""
    layers: tuple[str, ...] = ()
    plugs: tuple[Plug, ...] = ()


@dataclass(slots=True)
class Context:
    """The parts, and the running instances by id."""

    host: Host
    directory: Path
    names: HostNames
    records: Scoped[Instance]
    intents: Intents
    profiles: Scoped[Profile]
    projects: Collection[Project]
    references: References
    home: Home
    """In which project things live that a project names; one without a record has nothing of its own."""
    unknown: Unknowns
    layers: Layers
    nics: Nics
    permit: Callable[[Sequence[Instance]], None]
    """Raises Forbidden or InvalidInput where the project does not allow instances to be so."""
    disk_paths: Callable[[str], tuple[str, ...]]
    """Directories of the host that disks of a project may lie below; empty: anywhere."""
    snapshots: Collection[InstanceSnapshot]
    permit_snapshot: Callable[[str], None]
    """Raises Forbidden where the project allows no snapshots."""
    images: ImageLibrary
    networks: Networks
    pools: Pools
    volumes: Volumes
    runtimes: Runtimes
    operations: Operations
    events: Events
    warnings: Warnings
    after_end: Callable[[Context, Operation, Ref, Live], Awaitable[None]]
    """What is done when a run has ended by itself."""
    keep_mending: Callable[[Context, str], object]
    """Told the id of an instance that something is wrong with."""
    lxcfs: Path | None = None
    live: dict[str, Live] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    """What is wrong with instances, by id; written by ``fail`` and ``heal``."""
    mending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Each tries again and again to make such an instance whole."""
    half_made: dict[str, HalfMade] = field(default_factory=dict)
    """What is left of creations, by id."""
    undoing: asyncio.Task[None] | None = None
    restored: set[str] = field(default_factory=set)
    """Ids of instances whose root is restored already, though the record could not be written to say so."""
    releasing: set[asyncio.Task[None]] = field(default_factory=set)
    """Each ends, as soon as the store can be written, the intent of an instance that is no longer held still."""
    """Tries again to remove that."""
    restarts: dict[str, Restart] = field(default_factory=dict)
    """Instances that have rebooted and do not run again yet, by id."""
    leaving: bool = False
    """The daemon ends: what is to be started again is left to the next one."""
    described: dict[str, Described[Instance]] = field(default_factory=dict)
    """What the volumes of a pool say of themselves."""
    file_sessions: dict[asyncio.Event, tuple[str, asyncio.Event]] = field(default_factory=dict)
    """Clients connected to files: what says that one has left, the instance's id, and what tells it to leave."""
    bases: Bases = field(default_factory=Bases)
    """Where id ranges may begin on this host."""

    devices: Devices = field(init=False)

    def __post_init__(self) -> None:
        self.devices = Devices(
            DeviceParts(
                self.host,
                self.directory,
                self.names,
                self.networks,
                self.pools,
                self.volumes,
                volume_ref=self.volume_ref,
                network_ref=self.network_ref,
                nic=self.nics.nic,
                disk_paths=self.disk_paths,
                others=lambda: [plug for each in self.everybody() for plug in self.devices.plugs(each)],
            )
        )

    def volume_ref(self, project: str, pool: str, name: str) -> VolumeRef:
        """The custom volume that the devices of an instance of this project name."""
        return VolumeRef.custom(pool, name, self.scoped(project, Kind.STORAGE_VOLUME, name).project)

    def tell(self, action: str, ref: Ref, *, caller: Caller = DAEMON, **about: Any) -> None:
        """Publish what happened to an instance: ``started``."""
        self.events.lifecycle(f"instance-{action}", entity_of(ref), caller=caller, **about)

    def tell_snapshot(
        self, action: str, instance: Instance, name: str, *, caller: Caller = DAEMON, **about: Any
    ) -> None:
        """Publish what happened to a snapshot."""
        entity = snapshot_entity(instance, name)
        self.events.lifecycle(f"instance-snapshot-{action}", entity, caller=caller, **about)

    def scoped(self, project: str, kind: Kind, name: str) -> Ref:
        """What an instance of this project means by a name."""
        return Ref(self.home(project, kind), name)

    def profile_ref(self, instance: Instance, name: str) -> Ref:
        return self.scoped(instance.project, Kind.PROFILE, name)

    def network_ref(self, project: str, name: str) -> Ref:
        """The network that the devices of an instance, or of a profile, of this project name."""
        return self.scoped(project, Kind.NETWORK, name)

    def phase(self, instance: Instance) -> Phase:
        """What it is, all things considered."""
        live, id = self.live.get(instance.id), instance.id
        run = live.state if live is not None else None
        return phase_of(instance.desired, run, restarts=id in self.restarts, fault=id in self.faults)

    def status(self, instance: Instance) -> Status:
        """The same as the API names it."""
        return self.phase(instance).status

    def runs(self, instance: Instance) -> bool:
        """Whether it runs, or has rebooted and will run again by itself."""
        return instance.id in self.live or instance.id in self.restarts

    def fail(self, id: str, why: str, *strays: Plug, ended: Live | None = None) -> None:
        """Something is wrong with an instance: it is tried again in the background to put it right."""
        known = self.faults.get(id) or Fault(why)
        self.faults[id] = Fault(why, (*known.strays, *strays), ended or known.ended)
        self.keep_mending(self, id)
        if (instance := self.by_id(id)) is not None:
            self.warnings.report(WarningType.INSTANCE_BROKEN, instance.entity, why)

    def strays(self, id: str) -> tuple[Plug, ...]:
        """Devices that an instance may have on the host beside those in its record."""
        return self.faults[id].strays if id in self.faults else ()

    def heal(self, id: str) -> None:
        """Nothing is wrong any more; fine when nothing was."""
        if self.faults.pop(id, None) is not None and (instance := self.by_id(id)) is not None:
            self.warnings.resolve(WarningType.INSTANCE_BROKEN, instance.entity)

    def by_id(self, id: str) -> Instance | None:
        """The record with this id."""
        return next((record for record in self.records if record.id == id), None)

    def runtime(self, instance: Instance) -> Runtime:
        """The runtime that runs it, even if its engine does not work now: to look, stop and remove, none is needed."""
        return self.runtimes.find(instance.runtime)

    def working_runtime(self, instance: Instance) -> Runtime:
        """The same, for what the engine has to do. Raises DriverUnavailable."""
        return self.runtimes.get(instance.runtime)

    def storage(self, instance: Instance) -> VolumeDriver:
        """The driver of the pool its root lies in."""
        return self.pools.driver(self.pool_name(instance))

    def volume(self, instance: Instance) -> Volume:
        """Its root volume, with the size that it has been given."""
        return Volume(
            id=instance.id,
            pool=self.pool_name(instance),
            layers=instance.start.layers,
            idmap=instance.idmap,
            size=int(instance.volatile.get(ROOT_SIZE) or 0) or None,
        )

    def pool_name(self, instance: Instance) -> str:
        """The pool its root was made in."""
        pool = instance.volatile.get("root.pool")
        if pool is None:
            raise HostFailure(f"The record of instance {instance.name!r} does not name the pool of its root")
        return pool

    def descriptions(self, pool: str) -> Described[Instance]:
        """What the volumes of a pool say of themselves. Raises NotFound."""
        if pool not in self.described:
            place = self.pools.driver(pool).descriptions
            self.described[pool] = Described(self.host.files, place, record_codec(Instance))
        return self.described[pool]

    def everybody(self) -> list[Instance]:
        """Those on record, and those of which only the host knows."""
        return [*self.records, *(each.instance for each in self.unknown.values() if each.instance is not None)]

    def logs(self, instance: Instance) -> Path:
        """Directory of its logs."""
        return self.directory / "logs" / instance.id
