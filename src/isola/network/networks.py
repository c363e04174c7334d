"""Networks: records, and the drivers that implement them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from isola import registry
from isola.errors import (
    AlreadyExists,
    Conflict,
    DriverUnavailable,
    Exhausted,
    Forbidden,
    InUse,
    InvalidInput,
    IsolaError,
    NotFound,
    WrongState,
)
from isola.events import Events
from isola.host import Host
from isola.host.probing import probed
from isola.model.caller import Caller
from isola.model.identity import HostNames
from isola.model.names import network_name
from isola.model.network import Lease, Network, Nic
from isola.model.probe import Probe
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.model.references import users_text
from isola.network.addresses import AddressPool
from isola.network.driver import NetworkDriver
from isola.network.namespaces import NetworkNamespaces
from isola.network.views import describe, kinds
from isola.operations import Operation, Operations
from isola.state import Described, Intent, Intents, References, Scoped, Versioned, record_codec

_RENAMING = "network"
"""The kind of the intent for renaming a network."""
_ADDRESSES, _CHOSEN = ("ipv4.address", "ipv6.address"), ("", "auto", "none")
"""Address keys, and their values that let the daemon choose: such subnets overlap nothing that the host can reach."""
_ATTEMPTS = 4
"""How many generated names of a link are tried."""
log = logging.getLogger(__name__)


class Networks:
    """All networks of this daemon. Mutations are the whole work of an operation: they commit it."""

    def __init__(  # noqa: PLR0917 - one for each part that it uses
        self,
        host: Host,
        records: Scoped[Network],
        operations: Operations,
        events: Events,
        directory: Path,
        names: HostNames,
        intents: Intents,
        nics: Callable[[Ref], Sequence[Nic]] = lambda network: (),
        references: References | None = None,
        drivers: Mapping[str, type[NetworkDriver]] | None = None,
        permit: Callable[[Network], None] = lambda network: None,
    ) -> None:
        self.probes: dict[str, Probe] = {}
        self.namespaces = NetworkNamespaces(host, directory)
        self._host = host
        self._records = records
        self._operations = operations
        self._events = events
        self._directory = directory
        self._names = names
        self._intents = intents
        self._described = Described(host.files, directory / "described" / "networks", record_codec(Network))
        self._nics = nics
        self._references = references or References()
        self._kinds = drivers
        self._permit = permit
        """Raises Forbidden if the project does not permit another network."""
        self._drivers: dict[str, NetworkDriver] = {}
        self._pools: dict[Ref, AddressPool] = {}
        self.down: dict[Ref, IsolaError] = {}
        """Networks that failed to start with the daemon."""
        self._choosing = asyncio.Lock()
        """Serializes the choice of subnets, so that no two networks get the same."""

    async def probe(self) -> None:
        """Probe all drivers."""
        kinds = self._kinds or {name: registry.load("network", name) for name in registry.names("network")}
        answers = await asyncio.gather(*(probed(name, kind.probe(self._host)) for name, kind in kinds.items()))
        self.probes = dict(zip(kinds, answers, strict=True))
        self._drivers = {name: kind(self._host, self._directory, self._names) for name, kind in kinds.items()}

    async def open(self) -> None:
        """At daemon start: remove incomplete networks, start or adopt all others, and clean up after a crash."""
        if not self.probes:
            await self.probe()
        await self.namespaces.open()
        await self._operate("Start networks", self._open)

    async def close(self) -> None:
        """Stop supervising; networks and instances keep running."""
        for driver in self._drivers.values():
            await driver.close()
        await self.namespaces.close()

    async def stop_all(self) -> None:
        """Stop all networks; their records stay, and ``open`` starts them again."""
        await self._operate("Stop networks", self._stop_all)
        await self.namespaces.close()

    def __iter__(self) -> Iterator[Network]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, ref: Ref) -> Network:
        """Raises NotFound."""
        return self._records.get(ref)

    def find(self, ref: Ref) -> Network | None:
        return self._records.find(ref)

    @property
    def generation(self) -> int:
        """Changes with every change of any of them."""
        return self._records.generation

    def revision(self, ref: Ref) -> int:
        """Changes with every write of the record."""
        return self._records.revision(ref)

    def status(self, ref: Ref) -> str:
        """As in the API: ``Pending`` while it is created or deleted, ``Unavailable`` if it could not be started."""
        if not self.get(ref).ready:
            return "Pending"
        return "Unavailable" if ref in self.down else "Created"

    def driver(self, ref: Ref) -> NetworkDriver:
        """The driver of a network. Raises NotFound, DriverUnavailable."""
        return self._driver(self.get(ref).driver)

    def used_by(self, ref: Ref) -> Sequence[Entity]:
        return self._references.users(Entity.of(Kind.NETWORK, ref))

    async def create(self, op: Operation, network: Network) -> Network:
        """Create a network with this name, driver, description and config. Raises AlreadyExists, InvalidInput."""
        name, driver = network_name(network.name), self._driver(network.driver)
        async with self._choosing:
            if network.project != DEFAULT_PROJECT and not driver.in_projects:
                raise InvalidInput(
                    f"Networks of type {network.driver!r} cannot belong to a project",
                    field="type",
                    remedy="create it in the default project, and leave features.networks of this project off",
                )
            _refuse_keys_of_host(driver, op.caller, {}, network.config)
            self._permit(network)
            if network.ref in self._records:
                raise AlreadyExists(f"Network {network.ref.quoted} already exists")
            config = await driver.complete(network.config, list(self._records))
            made = await self._named(driver, dataclasses.replace(network, config=config, ready=False))
            made = dataclasses.replace(
                made, id=self._host.clock.token(8), created_at=network.created_at or self._host.clock.now()
            )
            await op.effect(
                f"record network {name}",
                lambda: self._records.add(made.ref, made, allow=lambda: self._allow(made)),
                undo=lambda: self._records.remove(made.ref),
            )
        await driver.start(op, made, ())
        made = dataclasses.replace(made, ready=True)
        await self._describe(op, made)
        await op.commit(lambda: self._records.change(made.ref, lambda _: made))
        self._tell("created", made.ref, op.caller)
        return made

    async def update(self, op: Operation, ref: Ref, decide: Callable[[Network], Network]) -> None:
        """Set a new configuration, with immediate effect. Raises InUse if instances would lose addresses."""
        async with self._choosing:
            held = self._ready(ref)
            old, wanted = held.value, decide(held.value)
            driver = self._driver(old.driver)
            _refuse_keys_of_host(driver, op.caller, old.config, wanted.config)
            others = [network for network in self._records if network.ref != ref]
            completed = await driver.complete(wanted.config, others, old.config)
            new = dataclasses.replace(old, description=wanted.description, config=completed)
            self._refuse_lost_addresses(driver, new)
            if new.config != old.config or ref in self.down:
                await driver.update(op, old, new, self._nics(ref))
                self.down.pop(ref, None)
            await op.commit(lambda: self._records.replace(ref, new, at=held.revision))
        await self._keep_described(new)
        self._pools.pop(ref, None)
        self._tell("updated", ref, op.caller)

    async def rename(self, op: Operation, old: Ref, new: str) -> None:
        """Raises InUse, AlreadyExists."""
        held, name = self._ready(old), network_name(new)
        network, driver = held.value, self._driver(held.value.driver)
        self._refuse_if_used(old)
        if old.renamed(name) in self._records:
            raise AlreadyExists(f"Network {old.renamed(name).quoted} already exists")
        renamed = await self._named(driver, network.renamed(name), own=driver.link(network))
        intent = Intent(f"network-{name}", _RENAMING, {"old": old.name, "new": name, "project": old.project})
        await op.effect(
            f"announce network {name}", lambda: self._intents.begin(intent), undo=lambda: self._intents.end(intent.id)
        )
        await self._describe(op, renamed)
        await driver.replace(op, network, renamed)
        await op.commit(lambda: self._records.rename(old, renamed.ref, renamed, at=held.revision))
        await self._ended(intent)
        self._pools.pop(old, None)
        self._tell("renamed", renamed.ref, op.caller, old_name=old.name)

    async def delete(self, op: Operation, ref: Ref) -> None:
        """Remove it and its objects on the host. Raises InUse with the users. Once begun it can only be completed."""
        network = self.get(ref)
        driver = self._driver(network.driver)
        self._refuse_if_used(ref)
        await op.commit(lambda: self._records.change(ref, self._doomed))
        await self._remove(op, driver, network)
        self._tell("deleted", ref, op.caller)

    async def unknown(self) -> Mapping[str, Network | None]:
        """Networks on the host without a record, each with its description, or None if that is missing."""
        described = await self._described.load()
        names = {*await self._host.files.names(self._directory / "networks"), *described}
        return {name: described.get(name) for name in sorted(names - {network.name for network in self._records})}

    async def adopt(self, op: Operation, name: str) -> None:
        """Restore the record of a network and start it; attached instances keep running. Raises NotFound,
        InvalidInput.
        """
        unknown = await self.unknown()
        if name not in unknown:
            raise NotFound(f"There is no unknown network {name[:80]!r}")
        network = unknown[name]
        if network is None or network.name != name:
            raise InvalidInput(f"Network {name!r} has no readable description", field="id", remedy="remove it")
        driver = self._driver(network.driver)
        # Recorded first, so that a failure does not remove the network under attached instances.
        await op.commit(lambda: self._records.add(network.ref, dataclasses.replace(network, ready=True)))
        await driver.start(op, network, self._nics(network.ref))
        self._tell("created", network.ref, op.caller)

    async def remove_unknown(self, op: Operation, name: str) -> None:
        """Remove a network without a record. Raises NotFound."""
        unknown = await self.unknown()
        if name not in unknown:
            raise NotFound(f"There is no unknown network {name[:80]!r}")
        await op.commit()
        kept = [*self._records, *(known or Network(other) for other, known in unknown.items() if other != name)]
        links = [view.name for view in await self._host.links.all()]
        for kind, driver in self._drivers.items():
            if self.probes[kind].available:
                await driver.clean(kept, links)
        await self._described.remove(name)

    async def allocate(
        self,
        network: Ref,
        mac: str,
        *,
        ipv4: str | None = None,
        ipv6: str | None = None,
        before: str | None = None,
        resting: bool = False,
    ) -> tuple[str | None, str | None]:
        """Choose the addresses of a NIC; they are reserved until ``release``, or as long as a record names them.

        IPv4 is ``before`` if that is free, else a free one of the DHCP ranges, not leased if possible, IPv6 follows
        from the MAC. A ``resting`` NIC holds no IPv4 address but a wanted one: the result is what it may get when it
        starts. Wanted ones are checked: InvalidInput (outside the subnet), AlreadyExists (taken). Exhausted when
        none is free.
        """
        leased = {lease.address: lease.mac for lease in await self.driver(network).leases(self.get(network))}
        now = self._host.clock.monotonic()
        pool = self._pools.get(network) or self._pool(network, now)
        choose = partial(pool.choose, mac, ipv4, ipv6, now, leased, before=before, resting=resting)
        try:
            return choose()
        except InvalidInput:
            raise
        except Conflict:
            # Instances may have been deleted: read the current NICs, then try again.
            nics = self._nics(network)
            pool.refresh(nics, now)
            try:
                return choose()
            except Exhausted as error:
                error.evidence = network.name
                raise
            except AlreadyExists as error:
                names = {f"by {nic.mac}": f"by instance {nic.instance_name}" for nic in nics}
                raise AlreadyExists(error.message, evidence=names.get(error.evidence, error.evidence)) from error

    def release(self, network: Ref, mac: str) -> None:
        """Release the addresses of a removed NIC; no effect if it had none."""
        if network in self._pools:
            self._pools[network].release(mac)

    def rest(self, network: Ref, mac: str) -> None:
        """Release the IPv4 address of a NIC whose instance has stopped: it gets it again as long as that is free."""
        if network in self._pools:
            self._pools[network].rest(mac)

    def gateways(self, ref: Ref) -> tuple[str, ...]:
        """The network's own addresses: router and name server of its NICs. None where the daemon serves neither."""
        if not self.driver(ref).capabilities.dns:
            return ()
        return self.driver(ref).plan(self.get(ref)).gateways()

    def nics(self, ref: Ref) -> Sequence[Nic]:
        """Those of all instances on a network, running or not."""
        return self._nics(ref)

    async def leases(self, ref: Ref) -> Sequence[Lease]:
        """All addresses in use: the network's own, those of NICs, and those leased to other clients."""
        found = [Lease(f"{ref.name}.gw", "", address, "gateway") for address in self.gateways(ref)]
        for nic in self._nics(ref):
            own = [a for a in (nic.ipv4, nic.ipv6) if a]
            found += [Lease(nic.instance_name, nic.mac, a, "static", instance_id=nic.instance_id) for a in own]
        known = {lease.address for lease in found}
        return [*found, *(one for one in await self.driver(ref).leases(self.get(ref)) if one.address not in known)]

    async def state(self, ref: Ref) -> Mapping[str, object]:
        """The API's network state, of a managed network or of another link of the host. Raises NotFound."""
        if ref in self._records:
            return await self.driver(ref).state(self.get(ref))
        state = describe(ref.name, await self._host.links.all())
        if not state:
            raise NotFound(f"Network {ref.quoted} not found")
        return state

    async def unmanaged(self) -> Mapping[str, str]:
        """Links of the host that are not managed: name -> the API's type. A network takes precedence over its
        namesake.
        """
        managed = {name for network in self._records for name in (self._link(network), network.name)}
        return {name: kind for name, kind in kinds(await self._host.links.all()).items() if name not in managed}

    async def _open(self, op: Operation) -> None:
        # Nothing is undone after a failure, because running instances may use the network.
        await op.commit()
        await self._described.load()
        for intent in list(self._intents.of_kind(_RENAMING)):
            await self._finish_renaming(op, intent)
        for network in self._records:
            try:
                driver = self._driver(network.driver)
                if network.ready:
                    await driver.start(op, network, self._nics(network.ref))
                    await self._keep_described(network)
                else:
                    await self._remove(op, driver, network)
            except IsolaError as error:
                log.error("Cannot start network %s: %s", network.name, error)
                self.down[network.ref] = error
        for name in await self.unknown():
            log.warning("Network %s is not in the database; it is left alone until it is adopted or removed", name)

    async def _stop_all(self, op: Operation) -> None:
        await op.commit()
        for network in self._records:
            try:
                await self._driver(network.driver).stop(op, network)
            except IsolaError as error:
                log.error("Cannot stop network %s: %s", network.name, error)

    async def _remove(self, op: Operation, driver: NetworkDriver, network: Network) -> None:
        await driver.stop(op, network)
        await self._host.files.flush(self._directory / "networks")
        await self._described.remove(network.name)
        self._pools.pop(network.ref, None)
        self.down.pop(network.ref, None)
        await op.effect(f"forget network {network.name}", lambda: self._records.remove(network.ref))

    async def _describe(self, op: Operation, network: Network) -> None:
        name = network.name
        await op.effect(
            f"describe network {name}",
            lambda: self._described.write(name, network),
            undo=lambda: self._described.remove(name),
        )

    async def _keep_described(self, network: Network) -> None:
        try:
            await self._described.write(network.name, network)
        except IsolaError as error:
            log.warning("Cannot update the description of network %s: %s", network.name, error)

    async def _finish_renaming(self, op: Operation, intent: Intent) -> None:
        """Keep the recorded one of the two names, and remove all objects of the other."""
        names = [intent.facts.get("old", ""), intent.facts.get("new", "")]
        project = intent.facts.get("project", DEFAULT_PROJECT)
        found = [network for name in names if (network := self._records.find(Ref(project, name))) is not None]
        try:
            for name in names:
                if name and found and Ref(project, name) not in self._records:
                    driver = self._driver(found[0].driver)
                    await driver.stop(op, driver.named(found[0].renamed(name), 0))
                    await self._described.remove(name)
            await self._intents.end(intent.id)
        except IsolaError as error:
            log.error("Cannot clean up a network's previous name: %s", error)

    async def _ended(self, intent: Intent) -> None:
        try:
            await self._described.remove(intent.facts["old"])
            await self._intents.end(intent.id)
        except IsolaError as error:
            log.warning("The rename is finished at the next start of the daemon: %s", error)

    async def _operate(self, description: str, work: Callable[[Operation], Awaitable[object]]) -> None:
        await self._operations.finish(self._operations.start(description, work))

    def _driver(self, kind: str) -> NetworkDriver:
        if kind not in self._drivers:
            raise InvalidInput(
                f"Unknown network type {kind[:40]!r}", field="type", remedy=f"use {', '.join(self._drivers)}"
            )
        probe = self.probes[kind]
        if not probe.available:
            message = f"Networks of type {kind!r} do not work on this host"
            raise DriverUnavailable(message, evidence=probe.reason, remedy=probe.remedy)
        return self._drivers[kind]

    def _ready(self, ref: Ref) -> Versioned[Network]:
        held = self._records.read(ref)
        if not held.value.ready:
            raise WrongState(f"Network {ref.quoted} is not ready", remedy="wait until it is created, or delete it")
        return held

    def _doomed(self, network: Network) -> Network:
        self._refuse_if_used(network.ref)
        return dataclasses.replace(network, ready=False)

    def _pool(self, ref: Ref, now: float) -> AddressPool:
        pool = self._pools[ref] = AddressPool(self.driver(ref).plan(self.get(ref)))
        pool.refresh(self._nics(ref), now)
        return pool

    def _link(self, network: Network) -> str | None:
        driver = self._drivers.get(network.driver)
        return driver.link(network) if driver else None

    async def _named(self, driver: NetworkDriver, network: Network, *, own: str | None = None) -> Network:
        """The network with the name of its link. Raises AlreadyExists if the host has a link of either name, which
        would be ambiguous; ``own`` is its present one, which a configured name keeps.
        """
        for attempt in range(_ATTEMPTS):
            named = driver.named(network, attempt)
            link = driver.link(named)
            view = await self._host.links.find(link) if link and link != own else None
            # Only generated names can be chosen again.
            if view is None or attempt == _ATTEMPTS - 1 or driver.link(driver.named(network, attempt + 1)) == link:
                break
        # Several daemons may have networks of the same name, and for one of them the link has that name too.
        same = view if link == network.name else await self._host.links.find(network.name)
        taken = link if view is not None else network.name
        if view is not None or (same is not None and not self._names.is_network(same.alias)):
            raise AlreadyExists(f"The host has a link named {taken!r} already", field="name", remedy="choose another")
        return named

    def _allow(self, network: Network) -> None:
        """Raises Forbidden if its project does not permit it, NotFound if its configuration is gone."""
        self._permit(network)
        if network.configuration:
            self._ready(Ref(network.project, network.configuration))

    def _refuse_if_used(self, ref: Ref) -> None:
        if users := self.used_by(ref):
            raise InUse(
                f"Network {ref.quoted} is in use", evidence=f"by {users_text(users)}", remedy="detach it there first"
            )

    def _refuse_lost_addresses(self, driver: NetworkDriver, network: Network) -> None:
        plan = driver.plan(network)
        lost = [nic.instance_name for nic in self._nics(network.ref) if not plan.holds(nic)]
        if lost:
            raise InUse(
                f"The subnet of network {network.name!r} cannot be changed now",
                evidence=f"it contains the addresses of {', '.join(lost[:5])}",
                remedy="detach it there first",
            )

    def _tell(self, what: str, ref: Ref, caller: Caller, **context: str) -> None:
        self._events.lifecycle(f"network-{what}", Entity.of(Kind.NETWORK, ref), caller=caller, **context)


def _refuse_keys_of_host(
    driver: NetworkDriver, caller: Caller, before: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    """Raises Forbidden if a caller that is restricted to projects changes a key for administrators of the host."""
    if caller.admin:
        return
    for key in sorted(driver.of_host):
        new, old = (config.get(key) or "" for config in (wanted, before))
        chosen = key in _ADDRESSES and new in _CHOSEN
        if new != old and not chosen:
            raise Forbidden(
                f"Only callers that are not restricted to projects may change {key}",
                field=f"config.{key}",
                remedy="leave it as it is",
            )
