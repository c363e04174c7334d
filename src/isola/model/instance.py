"""Instances: what is recorded, and what is observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from isola.model.device import DeviceState
from isola.model.health import Health
from isola.model.identity import NO_MEMBER, IdRange
from isola.model.image import HealthCheck, Image, Layer
from isola.model.image_facts import ImageFacts
from isola.model.kernel import Kernel
from isola.model.last_run import LastRun
from isola.model.limits import Usage
from isola.model.program import Program
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.model.template import Template

Config = Mapping[str, str]
Devices = Mapping[str, Mapping[str, str]]
EMPTY: Mapping[str, str] = MappingProxyType({})
_NIC_FACTS = ("hwaddr", "network", "name", "mtu", "ipv4", "ipv6")
NO_DEVICES: Devices = MappingProxyType({})


class Status(StrEnum):
    """Observed status, as the LXD API names it; ``code`` is its number."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    FROZEN = "Frozen"
    STARTING = "Starting"
    STOPPING = "Stopping"
    ERROR = "Error"

    @property
    def code(self) -> int:
        """The number the API sends beside the name."""
        return {
            "Running": 103,
            "Stopped": 102,
            "Frozen": 110,
            "Starting": 106,
            "Stopping": 107,
            "Error": 112,
        }[self]


class Desired(StrEnum):
    """What an instance is to be."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"
    """Its deletion has begun and can only be finished; written before the first thing is removed."""


@dataclass(frozen=True, slots=True)
class Start:
    """How its program is started: the image's configuration at creation, so that the image may go."""

    system: bool = True
    command: tuple[str, ...] = ("/sbin/init",)
    environment: Config = field(default_factory=lambda: EMPTY)
    cwd: str = "/"
    user: str = "0"
    stop_signal: str = "SIGRTMIN+3"
    layers: tuple[str, ...] = ()
    """What its pool keeps the image layers below its root under, bottom first (``model.image.layer_keys``)."""
    blobs: tuple[Layer, ...] = ()
    """The image layers that these are unpacked from; empty in records of Isola 0.1, whose ``layers`` are digests."""
    templates: tuple[Template, ...] = ()
    """Those of its image, or as a client has changed them."""
    terminal: bool = True
    """It has a terminal, the console; without one its output and its errors are kept apart."""
    stdin: bool = False
    """Without a terminal: its input is what attached clients write."""
    stdin_once: bool = True
    """This input ends when the first client that writes it ends it, or leaves; else it never ends."""
    entrypoint: tuple[str, ...] = ()
    """The beginning of ``command`` that stays when a user gives other arguments."""
    health_check: HealthCheck | None = None
    """That of its image."""
    stop_timeout: int | None = None
    """Seconds until it is killed when it is to stop, -1: it is not killed; None: as the client of the stop says."""
    given: Program | None = None
    """What its creator asked for in place of the image's, for its next version."""
    kernel: Kernel | None = None
    """The image's, if it is one of a unikernel; ``command`` are its arguments then."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the entrypoint."""
        return self.command[len(self.entrypoint) :]


@dataclass(frozen=True, slots=True)
class Instance:
    """The record of an instance. ``id`` never changes and names everything on the host; ``name`` may change."""

    id: str
    name: str
    image: str
    """Fingerprint of the image it was made from, or empty."""
    idmap: IdRange
    created_at: datetime
    project: str = DEFAULT_PROJECT
    member: str = NO_MEMBER
    """Of the cluster, or the server's name, as of the first write; ``none`` in records of Isola 0.1."""
    type: str = "container"
    isolation: str = "container"
    runtime: str = ""
    """Runtime driver that runs it."""
    architecture: str = "x86_64"
    description: str = ""
    config: Config = field(default_factory=lambda: EMPTY)
    """Local configuration, without what profiles add."""
    devices: Devices = field(default_factory=lambda: NO_DEVICES)
    """Local devices, without what profiles add."""
    profiles: tuple[str, ...] = ("default",)
    ephemeral: bool = False
    last_used_at: datetime | None = None
    desired: Desired = Desired.STOPPED
    """What the user last asked for; the host may differ until reconciled."""
    plugged: Mapping[str, DeviceState] = field(default_factory=dict)
    """What is remembered of its devices, its profiles' included, by name: what they have on the host."""
    changing: Mapping[str, DeviceState] = field(default_factory=dict)
    """Devices that are between two states while it runs: what the host may have of them beside ``plugged``."""
    volatile: Config = field(default_factory=lambda: EMPTY)
    """Facts the daemon keeps, shown as ``volatile.*`` beside those of devices: ``uuid``, ``last_state.boot``, ..."""
    image_properties: Config = field(default_factory=lambda: EMPTY)
    """Properties of the image at creation, shown as ``image.*``."""
    start: Start = field(default_factory=Start)
    last_run: LastRun | None = None
    """The run before the present one, or a failed start; None if none has ended yet."""
    facts: ImageFacts | None = None
    """The image's metadata as a client has changed it; None: as at creation."""
    notes: Config = field(default_factory=lambda: EMPTY)
    """Door -> what it keeps of the request that created the instance; only the door interprets it."""
    root_config: Config = field(default_factory=lambda: EMPTY)
    """Keys of users on its root volume."""
    root_description: str = ""

    @classmethod
    def of_older(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """A record as Isola 0.1 wrote it: a deletion that had begun was a flag, facts of NICs were among the others."""
        if data.get("deleting"):
            data = {**data, "desired": Desired.DELETED.value}
        volatile = data.get("volatile") or {}
        names = [key.removesuffix(".hwaddr") for key in volatile if key.endswith(".hwaddr")]
        if "plugged" in data or not names:
            return data
        plugged, rest = {}, dict(volatile)
        for name in names:
            facts = {fact: rest.pop(f"{name}.{fact}") for fact in _NIC_FACTS if f"{name}.{fact}" in rest}
            plugged[name] = {"kind": "nic", "facts": facts}
        return {**data, "plugged": plugged, "volatile": rest}

    @property
    def deleting(self) -> bool:
        """Whether its deletion has begun."""
        return self.desired is Desired.DELETED

    def wanted(self, desired: Desired) -> Instance:
        """The record that says what it is to be from now on. A deletion that has begun is not taken back."""
        assert not self.deleting or desired is Desired.DELETED, f"{self.name} is partly deleted"
        return replace(self, desired=desired)

    @property
    def ref(self) -> Ref:
        """Its project and its name."""
        return Ref(self.project, self.name)

    @property
    def aside(self) -> bool:
        """Whether another version of it serves under its name (``instances.volatile.ROLE``)."""
        return "deploy.role" in self.volatile

    @property
    def called(self) -> str:
        """The name that its program gets: the one under which a version is to serve, or has served."""
        return self.volatile.get("deploy.name") or self.name

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return Entity.of(Kind.INSTANCE, self.ref)


@dataclass(frozen=True, slots=True)
class Unknown:
    """An instance on the host without a record."""

    id: str
    pool: str = ""
    """Where its volume lies, where it has one."""
    runtime: str = ""
    """The driver that has traces of a run."""
    running: bool = False
    instance: Instance | None = None
    """What its volume says it was."""

    @property
    def key(self) -> str:
        """``POOL/ID``, since the same id may be in several pools; the id alone where it has no volume."""
        return f"{self.pool}/{self.id}" if self.pool else self.id


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface."""

    family: str
    """``inet`` or ``inet6``."""
    address: str
    netmask: str
    """Prefix length as text, as the API sends it."""
    scope: str
    """``global``, ``link`` or ``local``."""


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """An interface as the instance sees it."""

    name: str
    addresses: tuple[Address, ...] = ()
    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    errors_received: int = 0
    errors_sent: int = 0
    packets_dropped_inbound: int = 0
    packets_dropped_outbound: int = 0
    hwaddr: str = ""
    host_name: str = ""
    mtu: int = 1500
    state: str = "up"
    type: str = "broadcast"


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What is observed of an instance now."""

    status: Status
    pid: int = 0
    usage: Usage = field(default_factory=Usage)
    memory_total: int = 0
    cpu_allocated: int = 0
    """Nanoseconds of CPU time that it may use in a second."""
    disk: Mapping[str, int] = field(default_factory=dict)
    """Device name -> bytes used."""
    network: tuple[InterfaceState, ...] = ()
    started_at: datetime | None = None
    health: Health | None = None
    """None: it is not checked."""


@dataclass(frozen=True, slots=True)
class InstanceRequest:
    """What a user asks for when creating an instance; validated by ``instances/create.py``."""

    name: str | None = None
    image: str | None = None
    """Alias or fingerprint (prefix); None makes an empty instance."""
    type: str = ""
    """``container`` or ``virtual-machine``; empty: that of its isolation."""
    isolation: str = ""
    """Empty: as its runtime, its configuration or its type says, else ``container``."""
    runtime: str | None = None
    architecture: str | None = None
    description: str = ""
    config: Config = field(default_factory=lambda: EMPTY)
    devices: Devices = field(default_factory=lambda: NO_DEVICES)
    profiles: tuple[str, ...] | None = None
    ephemeral: bool = False
    start: bool = False
    project: str = DEFAULT_PROJECT
    terminal: bool = True
    """See ``Start``; a system has one in any case."""
    stdin: bool = False
    stdin_once: bool = True
    program: Program | None = None
    """In place of the image's; None: as the image says."""
    notes: Config = field(default_factory=lambda: EMPTY)
    """See ``Instance``."""
    made_of: Image | None = None
    """In place of ``image``: one that is not recorded, whose layers the caller keeps in the content store."""
    marks: Config = field(default_factory=lambda: EMPTY)
    """Facts for ``volatile`` of the verb that makes it a part of something else."""
    id: str = ""
    """A random one that the caller has drawn, because something in the request contains it; empty: the server draws."""


@dataclass(frozen=True, slots=True)
class InstanceUpdate:
    """New values of everything a user may change (PUT); PATCH is merged into this shape by the door."""

    config: Config
    devices: Devices
    profiles: tuple[str, ...]
    description: str = ""
    ephemeral: bool = False
    architecture: str = "x86_64"
    notes: Config | None = None
    """None: as they are."""
