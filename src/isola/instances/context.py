"""The services and state that all verbs of instances use."""

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
from isola.errors import HostFailure, NotFound
from isola.events import Events
from isola.host import Host
from isola.host.recording import Recording
from isola.images import ImageLibrary
from isola.instances.bases import Bases
from isola.instances.layers import Layers
from isola.instances.nics import Nics
from isola.instances.phases import FOLLOWING, Phase, RunState, phase_of
from isola.instances.unknowns import Unknowns
from isola.instances.volatile import ROOT_SIZE
from isola.instances.waiting import Waits
from isola.model.build import Furnished
from isola.model.caller import DAEMON, Caller
from isola.model.health import Health
from isola.model.identity import HostNames
from isola.model.instance import Instance, Status
from isola.model.last_run import Ending
from isola.model.limits import Limits
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.model.snapshot import InstanceSnapshot, snapshot_entity
from isola.model.storage import Volume
from isola.model.volume import VolumeRecord, VolumeRef
from isola.model.warning import WarningType
from isola.network import Networks
from isola.operations import Operation, Operations
from isola.runtimes import Guest, Runtime, Runtimes
from isola.state import Collection, Described, Intents, References, Scoped, record_codec
from isola.storage import Pools, VolumeDriver, Volumes
from isola.warnings import Warnings


def entity_of(ref: Ref) -> Entity:
    """The entity of an instance in events and operations."""
    return Entity.of(Kind.INSTANCE, ref)


def lock_of(ref: Ref) -> str:
    """The lock of operations on an instance."""
    return entity_of(ref).lock


@dataclass(slots=True)
class Live:
    """A running instance as this daemon sees it; rebuilt from the host when the daemon starts."""

    guest: Guest
    started_at: datetime
    state: RunState = RunState.RUNNING
    """Changed by ``enter`` alone."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ending: Ending | None = None
    """How it ended; None while it runs."""
    limits: Limits = field(default_factory=Limits)
    """Its current limits."""
    home: str = ""
    """Working directory of root's commands: ``/root``, or ``/`` if the image has none; empty until it is needed."""
    since: float = 0.0
    """When this daemon began to supervise it, on the monotonic clock."""
    reboots: int = 0
    """How many reboots in quick succession led to this run."""
    manual: bool = False
    """A client has sent it a signal that ends it: its restart policy does not apply."""
    again: bool = False
    """It was stopped by an operation after which it has to be started again."""
    watcher: asyncio.Task[None] | None = None
    health: asyncio.Task[None] | None = None
    """Checks its health."""
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by a check of its health, and while its state is saved, which has no place for a command."""
    judging: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its health changes."""
    rotation: Callable[[], None] | None = None
    """Ends keeping the older files of its log."""
    consoles: set[asyncio.Event] = field(default_factory=set)
    """Clients attached to its console: the event is set when the client has lost it."""
    displays: set[asyncio.Event] = field(default_factory=set)
    """The same for its screen."""

    def enter(self, state: RunState) -> None:
        """Change the state. Raises AssertionError for an impossible transition, which is a bug of the caller."""
        assert state in FOLLOWING[self.state], f"a run cannot go from {self.state.value} to {state.value}"
        self.state = state
        if state is RunState.ENDED:
            self.ended.set()


@dataclass(slots=True)
class Restart:
    """A pending start of an instance that has rebooted, or ended and has a restart policy."""

    reboots: int
    """Number of these ends in quick succession."""
    policy: bool = False
    """Its restart policy starts it."""
    task: asyncio.Task[None] | None = None
    """Starts it after a pause; None if it is started at once."""


@dataclass(slots=True)
class Fault:
    """The state of an instance does not match its record, and could not be repaired."""

    why: str
    strays: tuple[Plug, ...] = ()
    """Devices that may still be on the host although its record does not have them."""
    ended: Live | None = None
    """The run that could not be cleaned up, if that is the reason."""


@dataclass(frozen=True, slots=True)
class HalfMade:
    """Possible remains of a failed creation that could not be undone, or of an ephemeral instance that has ended."""

    id: str
    ref: Ref
    pool: str = ""
    """Empty if no volume was created."""
    layers: tuple[str, ...] = ()
    plugs: tuple[Plug, ...] = ()
    bases: tuple[int, ...] = ()
    """First ids of its ranges, where these are known."""


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
    """The project that contains the resources which a project uses; for unknown projects the default one."""
    unknown: Unknowns
    layers: Layers
    nics: Nics
    permit: Callable[[Sequence[Instance]], None]
    """Raises Forbidden or InvalidInput if the project does not permit such instances."""
    disk_paths: Callable[[str], tuple[str, ...]]
    """Directories of the host to which sources of disks in a project are limited; empty: no limit."""
    permit_host_path: Callable[[str, VolumeRecord], None]
    """Raises Forbidden if instances of a project may not have what a volume stands for."""
    snapshots: Collection[InstanceSnapshot]
    permit_snapshot: Callable[[str], None]
    """Raises Forbidden if the project does not permit snapshots."""
    images: ImageLibrary
    networks: Networks
    pools: Pools
    volumes: Volumes
    runtimes: Runtimes
    operations: Operations
    events: Events
    warnings: Warnings
    after_end: Callable[[Context, Operation, Ref, Live], Awaitable[None]]
    """Called when a run has ended by itself."""
    repair_in_background: Callable[[Context, str], object]
    """Called with the id of an instance that needs repair."""
    lxcfs: Path | None = None
    block_devices: Callable[[str], bool] = lambda project: True
    """Whether instances of a project may have block devices of the host."""
    live: dict[str, Live] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)
    """Of what instances use, by id."""
    at_end: list[Callable[[str, Live], Awaitable[None]]] = field(default_factory=list)
    """Awaited with the id when a run has ended, before its traces are removed."""
    attaching: dict[str, list[Any]] = field(default_factory=dict)
    """Clients that are attached to the next run of an instance (``attaching.Ahead``), by id."""
    health: dict[str, Health] = field(default_factory=dict)
    """Health of the last runs that are or were checked, by id."""
    checking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    """Held by each health check."""
    furnished: dict[Ref, Furnished] = field(default_factory=dict)
    """What builds give to their instances."""
    waits: Waits = field(default_factory=Waits)
    """Clients that wait for the end of a run."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """Faults of instances, by id; written by ``fail`` and ``heal``."""
    repairs: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Tasks that repeatedly try to repair these instances."""
    half_made: dict[str, HalfMade] = field(default_factory=dict)
    """Remains of failed creations, by id."""
    undoing: asyncio.Task[None] | None = None
    saved: set[str] = field(default_factory=set)
    """Ids of instances of which there is a saved state."""
    restored: set[str] = field(default_factory=set)
    """Ids of instances whose root is restored already, but whose record could not be written."""
    releasing: set[asyncio.Task[None]] = field(default_factory=set)
    """Tasks that remove the intents of thawed instances as soon as the store can be written."""
    """Tries again to remove these remains."""
    restarts: dict[str, Restart] = field(default_factory=dict)
    """Pending starts of rebooted instances, by id."""
    leaving: bool = False
    """The daemon is stopping: pending starts are left to the next one."""
    described: dict[Path, Described[Instance]] = field(default_factory=dict)
    """Descriptions of volumes, by pool."""
    file_sessions: dict[asyncio.Event, tuple[str, asyncio.Event]] = field(default_factory=dict)
    """Clients connected to files: event set when one has left -> the instance's id, and an event that ends it."""
    image_directories: dict[tuple[tuple[str, ...], str], None] = field(default_factory=dict)
    """Working directories that are in an image, by its layers."""
    bases: Bases = field(default_factory=Bases)
    """First ids of possible id ranges on this host."""

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
                block_devices=self.block_devices,
                permit_host_path=self.permit_host_path,
                images=self.images,
                image_ref=lambda project, name: self.scoped(project, Kind.IMAGE, name),
                others=lambda: [plug for each in self.everybody() for plug in self.devices.plugs(each)],
            )
        )

    def volume_ref(self, project: str, pool: str, name: str) -> VolumeRef:
        """The custom volume to which a name in the devices of an instance of this project refers."""
        return VolumeRef.custom(pool, name, self.scoped(project, Kind.STORAGE_VOLUME, name).project)

    def tell(self, action: str, ref: Ref, *, caller: Caller = DAEMON, **about: Any) -> None:
        """Publish an event of an instance, such as ``started``."""
        self.events.lifecycle(f"instance-{action}", entity_of(ref), caller=caller, **about)

    def tell_snapshot(
        self, action: str, instance: Instance, name: str, *, caller: Caller = DAEMON, **about: Any
    ) -> None:
        """Publish an event of a snapshot."""
        entity = snapshot_entity(instance, name)
        self.events.lifecycle(f"instance-snapshot-{action}", entity, caller=caller, **about)

    def scoped(self, project: str, kind: Kind, name: str) -> Ref:
        """The resource to which a name refers in an instance of this project."""
        return Ref(self.home(project, kind), name)

    def profile_ref(self, instance: Instance, name: str) -> Ref:
        return self.scoped(instance.project, Kind.PROFILE, name)

    def network_ref(self, project: str, name: str) -> Ref:
        """The network to which a name in the devices of an instance or a profile of this project refers."""
        return self.scoped(project, Kind.NETWORK, name)

    def network(self, project: str, name: str) -> Network:
        """That network. Raises NotFound."""
        ref = self.network_ref(project, name)
        try:
            return self.networks.get(ref)
        except NotFound as error:
            if ref.project == DEFAULT_PROJECT:
                raise
            raise NotFound(
                error.message,
                evidence=f"project {project!r} has features.networks, and bridges belong to the default project",
                remedy="switch features.networks off while the project is empty, or use a macvlan, routed or p2p NIC",
            ) from error

    @property
    def generation(self) -> tuple[object, ...]:
        """Changes with every change of any record or status, and when a saved state comes or goes."""
        states = [live.state for live in self.live.values()]
        return self.records.generation, [*self.live], states, [*self.restarts], [*self.faults], [*self.saved]

    def phase(self, instance: Instance) -> Phase:
        """Its state, derived from its record, its run and its faults."""
        live, id = self.live.get(instance.id), instance.id
        run = live.state if live is not None else None
        return phase_of(instance.desired, run, restarts=id in self.restarts, fault=id in self.faults)

    def status(self, instance: Instance) -> Status:
        """Its state as in the API."""
        return self.phase(instance).status

    def runs(self, instance: Instance) -> bool:
        """Whether it runs, or has rebooted and is about to be started."""
        return instance.id in self.live or instance.id in self.restarts

    def fail(self, id: str, why: str, *strays: Plug, ended: Live | None = None) -> None:
        """Record a fault of an instance, and try to repair it in the background."""
        known = self.faults.get(id) or Fault(why)
        self.faults[id] = Fault(why, (*known.strays, *strays), ended or known.ended)
        self.repair_in_background(self, id)
        if (instance := self.by_id(id)) is not None:
            self.warnings.report(WarningType.INSTANCE_BROKEN, instance.entity, why)

    def strays(self, id: str) -> tuple[Plug, ...]:
        """Devices that an instance may have on the host in addition to those in its record."""
        return self.faults[id].strays if id in self.faults else ()

    def heal(self, id: str) -> None:
        """Remove the fault of an instance, if it has one."""
        if self.faults.pop(id, None) is not None and (instance := self.by_id(id)) is not None:
            self.warnings.resolve(WarningType.INSTANCE_BROKEN, instance.entity)

    def by_id(self, id: str) -> Instance | None:
        """The record with this id."""
        return self.records.identified(id)

    def runtime(self, instance: Instance) -> Runtime:
        """Its runtime, even if the engine does not work: inspecting, stopping and removing need none."""
        return self.runtimes.find(instance.runtime)

    def working_runtime(self, instance: Instance) -> Runtime:
        """Its runtime, for actions that need a working engine. Raises DriverUnavailable."""
        return self.runtimes.get(instance.runtime)

    def storage(self, instance: Instance) -> VolumeDriver:
        """The driver of its root's pool."""
        return self.pools.driver(self.pool_name(instance))

    def volume(self, instance: Instance) -> Volume:
        """Its root volume, with its configured size."""
        return Volume(
            id=instance.id,
            pool=self.pool_name(instance),
            layers=instance.start.layers,
            idmap=instance.idmap,
            size=int(instance.volatile.get(ROOT_SIZE) or 0) or None,
        )

    def pool_name(self, instance: Instance) -> str:
        """The pool of its root."""
        pool = instance.volatile.get("root.pool")
        if pool is None:
            raise HostFailure(f"The record of instance {instance.name!r} does not name the pool of its root")
        return pool

    def descriptions(self, pool: str) -> Described[Instance]:
        """Descriptions of the volumes of a pool. Raises NotFound."""
        place = self.pools.driver(pool).descriptions  # a later pool of that name may have another place
        if place not in self.described:
            self.described[place] = Described(self.host.files, place, record_codec(Instance))
        return self.described[place]

    def everybody(self) -> list[Instance]:
        """All instances with a record, and those that exist on the host only."""
        return [*self.records, *(each.instance for each in self.unknown.values() if each.instance is not None)]

    def logs(self, instance: Instance) -> Path:
        """Directory of its logs."""
        return self.directory / "logs" / instance.id
