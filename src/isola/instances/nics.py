"""NICs on managed networks, with the addresses and names for DHCP and DNS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from isola.devices import Plug
from isola.devices.nics import NETWORK, nic_of
from isola.devices.uses import Home
from isola.instances.unknowns import Unknowns
from isola.model.identity import HostNames
from isola.model.instance import Desired, Instance
from isola.model.names import hostname
from isola.model.network import Nic
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.state import References, Scoped


def dns_name(instance: Instance) -> str:
    """``web1``, or ``web1.blue``: two instances of one name in two projects may share a network."""
    label = hostname(instance.name)
    return label if instance.project == DEFAULT_PROJECT else f"{label}.{instance.project}"


class Nics:
    """Of instances with a record, and of those that exist on the host only."""

    def __init__(
        self, references: References, records: Scoped[Instance], unknown: Unknowns, home: Home, names: HostNames
    ) -> None:
        self._references = references
        self._records = records
        self._unknown = unknown
        self._home = home
        self._names = names
        self.saved: set[str] = set()
        """Ids of instances of which there is a saved state, and which keep their addresses for it."""

    def on(self, network: Ref) -> list[Nic]:
        """All on one network, by instance and name of device."""
        return [
            self._resting(plug) if plug.instance.desired is not Desired.RUNNING else self.nic(plug)
            for instance in self._holders(network)
            for plug in self.of(instance)
            if self.network(plug) == network
        ]

    def of(self, instance: Instance) -> list[Plug]:
        """The NICs of an instance that are on managed networks."""
        states = sorted(instance.plugged.items())
        return [Plug(instance, name, state) for name, state in states if state.kind == "nic" and NETWORK in state.facts]

    def network(self, plug: Plug) -> Ref:
        return Ref(self._home(plug.instance.project, Kind.NETWORK), plug.state.facts[NETWORK])

    def nic(self, plug: Plug) -> Nic:
        """A NIC as its network driver expects it."""
        return nic_of(plug, self._names, self.network(plug), dns_name(plug.instance))

    def _resting(self, plug: Plug) -> Nic:
        """Of an instance that does not run: it holds no IPv4 address but a configured one."""
        nic = self.nic(plug)
        if plug.instance.id in self.saved or plug.config.get("ipv4.address"):
            return replace(nic, resting=True)
        return replace(nic, resting=True, ipv4=None, before=nic.ipv4)

    def _holders(self, network: Ref) -> Iterator[Instance]:
        for holder in self._references.users(Entity.of(Kind.NETWORK, network)):
            instance: Instance | None = None
            if holder.kind is Kind.INSTANCE:
                instance = self._records.find(holder.ref)
            elif holder.kind is Kind.UNKNOWN and (unknown := self._unknown.get(holder.names[0])):
                instance = unknown.instance  # as described: whether it runs was seen on the host
                if instance is not None and unknown.running:
                    instance = replace(instance, desired=Desired.RUNNING)
            if instance is not None:
                yield instance
