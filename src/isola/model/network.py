"""Networks and what an instance's NIC needs of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref


@dataclass(frozen=True, slots=True)
class Network:
    """The record of a managed network."""

    name: str
    driver: str = "bridge"
    """The API's ``type``."""
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    """As documented for the driver; ``auto`` has been replaced by what was chosen."""
    ready: bool = True
    """False until creation is complete; reconcile removes what is not ready."""
    project: str = DEFAULT_PROJECT
    id: str = ""
    """16 hexadecimal digits that never change; empty in older records, see ``identity``."""
    created_at: datetime | None = None
    """None in older records."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Door -> JSON of what it must repeat and has no meaning below it."""
    configuration: str = ""
    """Name of the network of type ``configuration`` in its project from which it was created."""

    @property
    def identity(self) -> str:
        """Its id, also for an older record, as long as that is not renamed."""
        return self.id or hashlib.sha256(f"network {self.ref.key}".encode()).hexdigest()[:16]

    def renamed(self, name: str) -> Network:
        """The same network under another name, with the same identity."""
        return replace(self, name=name, id=self.identity)

    @property
    def ref(self) -> Ref:
        """Its project and its name."""
        return Ref(self.project, self.name)

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return Entity.of(Kind.NETWORK, self.ref)


@dataclass(frozen=True, slots=True)
class Nic:
    """One NIC of an instance. MAC and addresses belong to the instance and move with it."""

    instance_id: str
    instance_name: str
    """Registered in the network's DNS: the instance's name, with its project where that is not the default one."""
    device: str
    """Device name in the configuration."""
    interface: str
    """Name inside the instance, e.g. ``eth0``."""
    network: Ref
    mac: str
    host_link: str
    """Name of the host end of the pair."""
    ipv4: str | None = None
    """Address without prefix length, chosen by ``Networks.allocate``; of an instance that does not run a fixed one."""
    ipv6: str | None = None
    mtu: int = 1500
    configure: bool = False
    """True when the image has no network set-up of its own and the host must set addresses and routes inside."""
    names: tuple[str, ...] = ()
    """Further names in DNS, without the domain."""
    priority: int = 0
    """Of several NICs that the host configures, the one with the highest provides the default route."""
    link_local: tuple[str, ...] = ()
    """Further addresses with their prefix lengths, valid on this link alone."""
    routes: tuple[str, ...] = ()
    """Subnets that the host routes to it."""
    queue: int | None = None
    """Length of its queues in packets."""
    resting: bool = False
    """Whether its instance does not run: it is known neither in DHCP nor in DNS."""
    before: str | None = None
    """Of a resting one: the IPv4 address that it had, which it gets again if that is free."""


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """Where the NICs of a container end. It is there before the first process, and apart from who runs in it."""

    path: Path
    """A file that stands for it."""


@dataclass(frozen=True, slots=True)
class HostTap:
    """NICs end in taps on the host, each named as its NIC's ``host_link``: a virtual machine's monitor opens them."""

    owner: int = 0
    """User id that may open them, beside root."""


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """The host's own network, for an instance without NICs."""


Endpoint = NetworkNamespace | HostTap
"""What the far end of an instance's NICs is."""


@dataclass(frozen=True, slots=True)
class Lease:
    """An address in use on a network."""

    hostname: str
    mac: str
    address: str
    type: str
    """``static`` (an instance's own), ``dynamic`` or ``gateway``."""
    instance_id: str = ""
    """Of the instance whose own it is."""
