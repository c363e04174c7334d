"""The network driver kind. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from isola.host import Host
from isola.host.link_kinds import Inside
from isola.model.identity import HostNames
from isola.model.network import Endpoint, Lease, Network, Nic
from isola.model.probe import Probe
from isola.network.addresses import AddressPlan
from isola.operations import Operation
from isola.settings import Settings


@dataclass(frozen=True, slots=True)
class NetworkCapabilities:
    """Features that callers check instead of the driver's name."""

    dhcp: bool = False
    dns: bool = False
    nat: bool = False
    acls: bool = False
    ports: bool = True
    """Each NIC has an end on the host, which can be filtered, limited and isolated."""
    nics: bool = True
    """NICs can be on such a network."""


class NetworkDriver(ABC):
    """All networks of one kind. The public methods do look-push-do once; drivers write the ``_hooks``.

    ``directory`` is the daemon's; files of a network lie under ``directory/networks/<name>``.
    """

    in_projects: ClassVar[bool] = False
    """Whether its names are scoped by project; bridges are not, because their names are those of links."""

    capabilities: ClassVar[NetworkCapabilities]
    settings: ClassVar[Settings]
    """Network configuration keys, as documented for this type in the LXD API."""
    of_host: ClassVar[frozenset[str]] = frozenset()
    """Keys that affect the host or other networks: callers that are restricted to projects cannot change them."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        self.host = host
        self.directory = directory
        self.names = names

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Whether it works on this host, with the version, or the reason and a remedy."""

    @abstractmethod
    async def complete(
        self, config: Mapping[str, str], others: Sequence[Network], previous: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Validate, and replace ``auto`` and missing values (free subnets) by permanent ones.

        In an update ``previous`` is the old configuration: values that were chosen for it are kept.
        """

    def plan(self, network: Network) -> AddressPlan:
        """The addresses available to its NICs; none by default. Pure."""
        return AddressPlan()

    def inside(self, network: Network, nic: Nic) -> Inside | None:
        """What is to be configured inside an instance whose image does not do it; None if there is nothing. Pure."""
        return None

    def link(self, network: Network) -> str | None:
        """Its name on the host; None where the driver makes no link."""
        return None

    def named(self, network: Network, attempt: int) -> Network:
        """A new network with the name of its link in its configuration; further attempts give other names. Pure."""
        return network

    async def start(self, op: Operation, network: Network, nics: Sequence[Nic]) -> None:
        """Start the network with these NICs registered; idempotent, also used for repairs after a crash."""
        await op.effect(
            f"start network {network.name}",
            lambda: self._start(network, nics),
            undo=lambda: self._stop(network),
        )

    async def update(self, op: Operation, old: Network, new: Network, nics: Sequence[Nic]) -> None:
        """Change the configuration of a running network without detaching its NICs; undone by the old configuration."""
        await op.effect(
            f"update network {new.name}", lambda: self._start(new, nics), undo=lambda: self._start(old, nics)
        )

    async def replace(self, op: Operation, old: Network, new: Network) -> None:
        """Stop a network and start another one in its place, without NICs."""

        async def swap(gone: Network, come: Network) -> None:
            await self._stop(gone)
            await self._start(come, ())

        await op.effect(f"rename network {old.name} to {new.name}", lambda: swap(old, new), undo=lambda: swap(new, old))

    async def stop(self, op: Operation, network: Network) -> None:
        """Stop it and remove it from the host completely; idempotent."""
        await op.effect(f"stop network {network.name}", lambda: self._stop(network))

    async def register(self, op: Operation, network: Network, nic: Nic) -> None:
        """Reserve the NIC's addresses and name in DHCP and DNS, in constant time."""
        await op.effect(
            f"register {nic.device} on {network.name}",
            lambda: self._register(network, nic),
            undo=lambda: self._unregister(network, nic),
        )

    async def unregister(self, op: Operation, network: Network, nic: Nic) -> None:
        """Remove these reservations; no effect if there are none."""
        await op.effect(f"unregister {nic.device} from {network.name}", lambda: self._unregister(network, nic))

    async def rename(self, op: Operation, network: Network, old: Nic, new: Nic) -> None:
        """Register a NIC under the new name of its instance."""

        async def swap(gone: Nic, come: Nic) -> None:
            await self._unregister(network, gone)
            await self._register(network, come)

        await op.effect(
            f"register {new.device} of {new.instance_name}", lambda: swap(old, new), undo=lambda: swap(new, old)
        )

    async def withdraw(self, op: Operation, network: Network, nic: Nic, endpoint: Endpoint | None) -> None:
        """Remove a NIC from an instance, running (``endpoint``) or not; undone by restoring it."""

        async def back() -> None:
            await self._register(network, nic)
            if endpoint is not None and not await self.host.links.exists(nic.host_link):
                await self._attach(network, nic, endpoint)

        async def take() -> None:
            await self._detach(network, nic)
            await self._unregister(network, nic)

        await op.effect(f"withdraw {nic.device} from {network.name}", take, undo=back)

    async def attach(self, op: Operation, network: Network, nic: Nic, endpoint: Endpoint) -> None:
        """Connect the network to an instance's endpoint. Raises WrongState if that no longer exists."""
        await op.effect(
            f"attach {nic.device} to {network.name}",
            lambda: self._attach(network, nic, endpoint),
            undo=lambda: self._detach(network, nic),
        )

    async def detach(self, op: Operation, network: Network, nic: Nic) -> None:
        """Remove the NIC's links; no effect if they were removed with the namespace."""
        await op.effect(f"detach {nic.device} from {network.name}", lambda: self._detach(network, nic))

    # The same without an operation, for callers with their own steps.

    async def enroll(self, network: Network, nic: Nic) -> None:
        """``register``."""
        await self._register(network, nic)

    async def strike_off(self, network: Network, nic: Nic) -> None:
        """``unregister``."""
        await self._unregister(network, nic)

    async def connect(self, network: Network, nic: Nic, endpoint: Endpoint) -> None:
        """``attach``."""
        await self._attach(network, nic, endpoint)

    @abstractmethod
    async def _start(self, network: Network, nics: Sequence[Nic]) -> None: ...

    @abstractmethod
    async def _stop(self, network: Network) -> None: ...

    @abstractmethod
    async def _register(self, network: Network, nic: Nic) -> None: ...

    @abstractmethod
    async def _unregister(self, network: Network, nic: Nic) -> None: ...

    @abstractmethod
    async def _attach(self, network: Network, nic: Nic, endpoint: Endpoint) -> None: ...

    @abstractmethod
    async def _detach(self, network: Network, nic: Nic) -> None: ...

    @abstractmethod
    async def leases(self, network: Network) -> Sequence[Lease]:
        """Addresses leased by DHCP to instances and unknown clients."""

    @abstractmethod
    async def state(self, network: Network) -> Mapping[str, object]:
        """The API's network state: addresses, counters, hwaddr, mtu, state, type, bridge."""

    @abstractmethod
    async def clean(self, networks: Sequence[Network], host_links: Sequence[str]) -> None:
        """Remove this daemon's objects on the host that belong to none of these networks and NIC links."""

    async def share_names(self, instance_id: str, nics: Sequence[tuple[Network, Nic]]) -> None:
        """Serve a running instance with several NICs the names of all their networks; with one or none, stop that."""
        return None

    async def close(self) -> None:
        """Stop supervising processes, without changing the host."""
        return None
