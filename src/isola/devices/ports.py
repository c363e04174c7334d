"""Published ports of instances on the host: a process listens on them, and the kernel rewrites the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from isola.devices.driver import Parts, Plug
from isola.devices.nics import networks_of
from isola.devices.port_forwarder import PortForwarder
from isola.devices.port_forwarder import Ports as Forwards
from isola.devices.publishing import FAMILIES, Published
from isola.errors import CommandFailed, HostFailure
from isola.host.link_kinds import Loop

KERNEL_ONLY = "sctp"
"""A protocol that the process does not forward: only clients from outside reach such ports."""
log = logging.getLogger(__name__)


class Ports:
    """Tables and forwarded ports of devices. The pair of links is there as long as there are tables."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._host = parts.host
        self._loop = Loop(*parts.names.loop)
        self._forwarder = PortForwarder(parts.host, parts.directory / "ports")
        self._lock = asyncio.Lock()
        self._published: set[tuple[str, str]] = set()
        """Devices (instance id, name) for which there may be tables."""
        self._given: dict[str, dict[str, Plug]] = {}
        """Instance id -> devices with connections that began before others got their ports, by owner."""

    async def publish(self, plug: Plug) -> None:
        """The process comes first: if another one has the port, nothing of it is rewritten.

        Ports are taken from instances that do not have them according to their records.
        """
        published = Published.read(plug.state)
        if published.connect is None:
            log.warning("Proxy %s of instance %s has no address to publish", plug.name, plug.instance.name)
            return
        if published.listen.protocol == KERNEL_ONLY:
            self._require_free(plug)
        else:
            await self._forward(plug, published)
        await self._list(plug)

    async def unpublish(self, plug: Plug) -> None:
        """No effect if it is not published."""
        await self._unlist(plug)
        if not _in_kernel(plug):
            await self._forwarder.drop(key_of(plug))
        await self._forget_datagrams(plug)

    async def change(self, old: Plug, new: Plug) -> None:
        """Publish other ports of the same device; connections continue."""
        await self.publish(new)
        if _in_kernel(new) and not _in_kernel(old):
            await self._forwarder.drop(key_of(old))
        dropped = self._families(old) - self._families(new)
        for family in sorted(dropped):
            await self._host.firewall.delete(self._table(old), family)
        await self._forget_datagrams(old)

    async def hand_over(self, gone: Sequence[Plug], come: Sequence[Plug]) -> None:
        """New connections lead to other instances from now on, without a moment in which they are refused.

        Connections that exist continue. If it fails, it can be reversed by the opposite call.
        """
        for plug in come:
            await self._list(plug)
        try:
            if not all(_in_kernel(plug) for plug in (*gone, *come)):
                await self._forwarder.hand_over({key_of(plug): _forwards(plug) for plug in come}, map(key_of, gone))
        except HostFailure as error:
            raise _named(error, *(Published.read(plug.state) for plug in come)) from error
        for plug in gone:
            self._given.setdefault(plug.instance.id, {})[key_of(plug)] = plug
            await self._unlist(plug)

    async def ended(self, instance_id: str) -> None:
        """End connections to an instance whose ports others have."""
        if plugs := self._given.pop(instance_id, None):
            await self._forwarder.drop(*plugs)
            for plug in plugs.values():
                await self._forget_datagrams(plug)

    async def published(self, plug: Plug) -> bool:
        table = self._table(plug)
        for family in self._families(plug):
            if table not in await self._host.firewall.tables(table, family):
                return False
        found = await self._forwarder.listening()
        mine = {endpoint: target for endpoint, (owner, target) in found.items() if owner == key_of(plug)}
        return mine == _forwards(plug)

    def leave(self) -> None:
        """The process keeps running."""
        self._forwarder.leave()

    async def forget_older(self, plug: Plug) -> None:
        """Isola 0.1 rewrote everything, in one table."""
        await self._host.firewall.delete(self._table(plug))

    async def _list(self, plug: Plug) -> None:
        tables = Published.read(plug.state).tables(self._loop, self._bridges(plug))
        async with self._lock:
            self._published.add((plug.instance.id, plug.name))
            try:
                if tables:
                    await self._host.links.create_loop(self._loop)
                for family, body in tables.items():
                    await self._host.firewall.apply(self._table(plug), body, family)
            except CommandFailed as error:  # a kernel without "dup": the process forwards everything
                if _in_kernel(plug):
                    await self._clear(plug)
                    raise HostFailure(
                        "The kernel cannot forward SCTP", evidence=error.evidence, remedy="publish ports of tcp or udp"
                    ) from error
                log.warning("Ports of %s are forwarded by a process only: %s", plug.instance.name, error.evidence)
                await self._clear(plug)

    async def _unlist(self, plug: Plug) -> None:
        async with self._lock:
            await self._clear(plug)

    async def _clear(self, plug: Plug) -> None:
        """Remove its tables, and the pair of links with the last ones."""
        ours = f"{self._parts.names.tag}."
        for family in self._families(plug):
            await self._host.firewall.delete(self._table(plug), family)
        self._published.discard((plug.instance.id, plug.name))
        # Others may be running that a daemon which is just starting has not seen yet.
        if not self._published and not any([await self._host.firewall.tables(ours, family) for family in FAMILIES]):
            await self._host.links.delete(self._loop.near)

    async def _forget_datagrams(self, plug: Plug) -> None:
        """A sender that never pauses would be rewritten to a former target for ever."""
        published = Published.read(plug.state)
        if published.listen.protocol == "udp":
            for address in published.targets.values():
                await self._host.firewall.forget_datagrams(address, frozenset(published.ports))

    async def _forward(self, plug: Plug, published: Published) -> None:
        owner, forwards = key_of(plug), _forwards(plug)
        try:
            try:
                await self._forwarder.publish(owner, forwards)
            except HostFailure:
                if not await self._only_strays(owner, forwards):
                    raise
                await self._forwarder.publish(owner, forwards, take=True)
        except HostFailure as error:
            raise _named(error, published) from error

    def _require_free(self, plug: Plug) -> None:
        """No program listens on ports that the kernel alone forwards; so others' tables are compared."""
        listen = Published.read(plug.state).listen
        for other in self._parts.others():
            if (other.instance.id, other.name) not in self._published or key_of(other) == key_of(plug):
                continue
            if _in_kernel(other) and (theirs := Published.read(other.state).listen).host == listen.host:
                for port in sorted(set(theirs.ports) & set(listen.ports)):
                    message = f"Bind for {listen.host}:{port} failed: port is already allocated"
                    raise HostFailure(message, remedy="choose a port that is free")

    async def _only_strays(self, owner: str, forwards: Forwards) -> bool:
        """Whether all that have these ports are devices without a record: a daemon ended while it handed them over."""
        listening = await self._forwarder.listening()
        owners = {listening[endpoint][0] for endpoint in forwards if endpoint in listening} - {owner}
        return bool(owners) and owners.isdisjoint(key_of(plug) for plug in self._parts.others())

    def _families(self, plug: Plug) -> set[str]:
        return set(Published.read(plug.state).tables(self._loop, ()))

    def _table(self, plug: Plug) -> str:
        return self._parts.names.device_table(plug.instance.id, plug.name)

    def _bridges(self, plug: Plug) -> tuple[str, ...]:
        """Links of the networks that the instance is on."""
        networks = self._parts.networks
        refs = [self._parts.network_ref(plug.instance.project, name) for name in networks_of(plug.instance)]
        found = [network for ref in refs if (network := networks.find(ref)) is not None]
        links = [networks.driver(network.ref).link(network) for network in found]
        return tuple(sorted({link for link in links if link}))


def key_of(plug: Plug) -> str:
    """The owner of its ports."""
    return f"{plug.instance.id}/{plug.name}"


def _in_kernel(plug: Plug) -> bool:
    return Published.read(plug.state).listen.protocol == KERNEL_ONLY


def _forwards(plug: Plug) -> Forwards:
    published = Published.read(plug.state)
    listen, connect = published.listen, published.connect
    if connect is None or listen.protocol == KERNEL_ONLY:
        return {}
    return {
        (listen.protocol, listen.host, port): (connect.host, other)
        for port, other in zip(listen.ports, published.ports, strict=True)
    }


def _named(error: HostFailure, *published: Published) -> HostFailure:
    """The error that says which port is taken."""
    if "in use" not in error.evidence:
        return error
    for each in published:
        shown = f"[{each.listen.host}]" if ":" in each.listen.host else each.listen.host
        for port in each.listen.ports:
            if f"{each.listen.protocol}:{each.listen.host}:{port}:" in error.evidence:
                message = f"Bind for {shown}:{port} failed: port is already allocated"
                return HostFailure(message, evidence=error.evidence, remedy="choose a port that is free")
    return error
