"""Networks: records and host agree after failures at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from network_host import fake_network_host, new_operations

from isola.errors import AlreadyExists, DriverUnavailable, HostFailure, InUse, InvalidInput, NotFound
from isola.events import Events
from isola.host import Host
from isola.host.link_kinds import Bridge
from isola.model.identity import HostNames
from isola.model.network import Network, NetworkNamespace, Nic
from isola.model.probe import Probe
from isola.model.reference import Entity, Kind, Ref
from isola.network import NetworkDriver, Networks
from isola.operations import Operation
from isola.state import Intents, References, Scoped, record_codec
from isola.testing.network import FakeNetwork
from isola.testing.store import FakeStore

WEB = NetworkNamespace(Path("/netns/web"))
NAMES = HostNames("isola")
Work = Callable[[Networks, Operation], Awaitable[object]]


class Away(FakeNetwork):
    """An unavailable driver."""

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        return Probe(False, reason="no such kernel", remedy="get another")


@dataclass
class Breaker:
    """Fails, cancels or kills at the N-th point."""

    number: int
    action: str
    seen: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self, operation: Operation, point: str) -> None:
        self.seen += 1
        if self.seen - 1 != self.number:
            return
        if self.action == "fail":
            raise HostFailure(f"injected at {point}")
        if self.action == "cancel" and operation.may_cancel:
            operation.cancel()
        if self.action == "vanish":
            self.stopped.set()
            await asyncio.get_running_loop().create_future()


@dataclass
class House:
    """Objects that outlive a daemon: host, store, directory, and the NICs of instances."""

    directory: Path
    host: Host = field(default_factory=fake_network_host)
    nics: list[Nic] = field(default_factory=list)
    references: References = field(default_factory=References)

    def __post_init__(self) -> None:
        self.store = FakeStore(self.host.clock)

    async def daemon(self, drivers: dict[str, type[NetworkDriver]] | None = None, names: HostNames = NAMES) -> Networks:
        """Start another daemon."""
        records = Scoped(self.store, "network", "/networks/", record_codec(Network))
        await records.load()
        intents = Intents(self.store)
        await intents.load()
        networks = Networks(
            self.host,
            records,
            new_operations(self.host),
            Events(self.host.clock.now),
            self.directory,
            names,
            intents,
            nics=lambda name: [nic for nic in self.nics if nic.network == name],
            references=self.references,
            drivers=drivers or {"bridge": FakeNetwork, "away": Away},
        )
        await networks.open()
        return networks

    async def act(self, networks: Networks, work: Work, breaker: Breaker | None = None) -> None:
        """Run it as an operation."""
        operations = new_operations(self.host, breaker)
        await operations.finish(operations.start("test", lambda op: work(networks, op)))

    async def picture(self, networks: Networks) -> tuple[list[tuple[str, bool, str]], object]:
        """A snapshot of the records and the host."""
        links = [view for view in await self.host.links.all() if view.kind != "physical"]
        host = (sorted((v.name, v.state.addresses, v.state.mtu) for v in links), await self.host.firewall.tables())
        files = await self.host.files.names(self.directory / "networks")
        return [(n.name, n.ready, n.config.get("bridge.mtu", "")) for n in networks], (host, files)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def nic(ipv4: str | None = None, ipv6: str | None = None, mac: str = "0a:69:73:00:00:01") -> Nic:
    return Nic("id1", "web1", "eth0", "eth0", Ref.default("lab"), mac, NAMES.veth("id1", "eth0"), ipv4, ipv6)


def to(description: str, config: Mapping[str, str]) -> Callable[[Network], Network]:
    """With what was chosen for the network, as a client sends it back."""
    return lambda network: replace(network, description=description, config={**network.config, **config})


async def make(networks: Networks, op: Operation) -> object:
    return await networks.create(op, Network("lab", description="mine"))


async def test_a_network_is_created_changed_renamed_and_deleted(house: House) -> None:
    networks = await house.daemon()
    empty = await house.picture(networks)
    await house.act(networks, make)
    lab = networks.get(Ref.default("lab"))
    assert lab.ready and lab.description == "mine" and list(networks) == [lab]
    assert networks.gateways(Ref.default("lab"))[0] + "/24" == lab.config["ipv4.address"]
    revision = networks.revision(Ref.default("lab"))
    await house.act(networks, lambda n, op: n.update(op, Ref.default("lab"), to("yours", {"bridge.mtu": "1400"})))
    changed = networks.get(Ref.default("lab"))
    assert networks.revision(Ref.default("lab")) != revision
    assert changed.description == "yours" and changed.config["ipv4.address"] == lab.config["ipv4.address"]
    assert (await networks.state(Ref.default("lab")))["mtu"] == 1400
    await house.act(networks, lambda n, op: n.rename(op, Ref.default("lab"), "shed"))
    assert networks.find(Ref.default("lab")) is None and networks.get(Ref.default("shed")).config == changed.config
    assert await house.host.links.exists("shed") and not await house.host.links.exists("lab")
    await house.act(networks, lambda n, op: n.delete(op, Ref.default("shed")))
    assert await house.picture(networks) == empty


async def test_invalid_requests_are_refused_without_effect(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, make)
    await house.host.links.create_bridge(Bridge("docker0", ("172.17.0.1/16",)))
    before = await house.picture(networks)
    wishes: list[tuple[type[Exception], Network]] = [
        (AlreadyExists, Network("lab")),
        (AlreadyExists, Network("eth0")),
        (AlreadyExists, Network("docker0")),
        (InvalidInput, Network("../etc")),
        (InvalidInput, Network("two words")),
        (InvalidInput, Network("n" * 129)),
        (InvalidInput, Network("new", driver="token-ring")),
        (DriverUnavailable, Network("new", driver="away")),
        (InvalidInput, Network("new", config={"ipv4.address": "here"})),
        (
            InvalidInput,
            Network("new", config={"ipv4.address": networks.get(Ref.default("lab")).config["ipv4.address"]}),
        ),
    ]
    for error, network in wishes:
        with pytest.raises(error):
            await house.act(networks, lambda n, op, w=network: n.create(op, w))  # type: ignore[misc]
        assert await house.picture(networks) == before, network.name
    for new in ("eth0", "a b"):
        with pytest.raises((AlreadyExists, InvalidInput)):
            await house.act(networks, lambda n, op, to=new: n.rename(op, Ref.default("lab"), to))  # type: ignore[misc]
    with pytest.raises(InvalidInput):
        await house.act(networks, lambda n, op: n.update(op, Ref.default("lab"), to("", {"no.such": "key"})))
    for work in (
        lambda n, op: n.delete(op, Ref.default("absent")),
        lambda n, op: n.update(op, Ref.default("absent"), to("", {})),
    ):
        with pytest.raises(NotFound):
            await house.act(networks, work)
    assert await house.picture(networks) == before


async def test_used_networks_are_not_deleted(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, make)
    ipv4, ipv6 = await networks.allocate(Ref.default("lab"), "0a:69:73:00:00:01")
    house.nics = [nic(ipv4, ipv6)]
    house.references.hold(Entity.of(Kind.INSTANCE, Ref.default("web1")), {Entity.of(Kind.NETWORK, Ref.default("lab"))})
    for work in (
        lambda n, op: n.delete(op, Ref.default("lab")),
        lambda n, op: n.rename(op, Ref.default("lab"), "shed"),
    ):
        with pytest.raises(InUse, match="web1"):
            await house.act(networks, work)
    with pytest.raises(InUse, match="web1"):
        await house.act(
            networks, lambda n, op: n.update(op, Ref.default("lab"), to("", {"ipv4.address": "192.168.7.1/24"}))
        )
    await house.act(networks, lambda n, op: n.update(op, Ref.default("lab"), to("", {"ipv4.dhcp.expiry": "2h"})))
    assert networks.get(Ref.default("lab")).config["ipv4.dhcp.expiry"] == "2h"
    assert [(lease.hostname, lease.type) for lease in await networks.leases(Ref.default("lab"))] == [
        ("lab.gw", "gateway"), ("lab.gw", "gateway"), ("web1", "static"), ("web1", "static"),
    ]  # fmt: skip


async def test_concurrently_created_networks_do_not_overlap(house: House) -> None:
    networks = await house.daemon()
    await asyncio.gather(*(house.act(networks, lambda n, op, i=i: n.create(op, Network(f"lab{i}"))) for i in range(5)))  # type: ignore[misc]
    assert len({network.config["ipv4.address"] for network in networks}) == 5
    twice = [house.act(networks, lambda n, op: n.create(op, Network("same"))) for _ in range(2)]
    results = await asyncio.gather(*twice, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExists", "NoneType"]
    assert networks.get(Ref.default("same")).ready


async def test_addresses_are_chosen_kept_and_released(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, lambda n, op: n.create(op, Network("lab", config={"ipv4.address": "10.7.7.1/29"})))
    first = await networks.allocate(Ref.default("lab"), "0a:69:73:00:00:01")
    assert await networks.allocate(Ref.default("lab"), "0a:69:73:00:00:01") == first
    house.nics = [nic(*first)]
    later = await house.daemon()
    with pytest.raises(AlreadyExists):
        await later.allocate(Ref.default("lab"), "0a:69:73:00:00:02", ipv4=first[0])
    assert await later.allocate(Ref.default("lab"), "0a:69:73:00:00:01", ipv4=first[0], ipv6=first[1]) == first
    house.nics = []
    assert await later.allocate(Ref.default("lab"), "0a:69:73:00:00:01") == first
    later.release(Ref.default("lab"), "0a:69:73:00:00:01")
    assert (await later.allocate(Ref.default("lab"), "0a:69:73:00:00:02", ipv4=first[0]))[0] == first[0]
    with pytest.raises(NotFound):
        await later.allocate(Ref.default("absent"), "0a:69:73:00:00:03")


async def test_addresses_of_lost_nics_are_released(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, lambda n, op: n.create(op, Network("lab", config={"ipv4.address": "10.7.7.1/29"})))
    for number in range(5):
        await networks.allocate(Ref.default("lab"), f"0a:69:73:00:00:{number:02x}")
    await house.host.clock.sleep(3600)
    for number in range(5, 10):
        await networks.allocate(Ref.default("lab"), f"0a:69:73:00:00:{number:02x}")


async def test_a_leased_address_is_chosen_by_no_daemon(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, lambda n, op: n.create(op, Network("lab", config={"ipv4.address": "10.7.7.1/28"})))
    driver = networks.driver(Ref.default("lab"))
    assert isinstance(driver, FakeNetwork)
    for number in range(2, 6):
        await driver.lease(networks.get(Ref.default("lab")), f"10.7.7.{number}", f"0a:69:73:ff:00:{number:02x}")
    later = await house.daemon()
    assert (await later.allocate(Ref.default("lab"), "0a:69:73:00:00:01"))[0] == "10.7.7.6"
    assert (await later.allocate(Ref.default("lab"), "0a:69:73:00:00:02"))[0] == "10.7.7.7"
    assert [lease.address for lease in await later.leases(Ref.default("lab")) if lease.type == "dynamic"] == [
        "10.7.7.2", "10.7.7.3", "10.7.7.4", "10.7.7.5",
    ]  # fmt: skip
    house.nics = [nic("10.7.7.3")]
    assert ("web1", "10.7.7.3") in [(lease.hostname, lease.address) for lease in await later.leases(Ref.default("lab"))]
    assert len([lease for lease in await later.leases(Ref.default("lab")) if lease.address == "10.7.7.3"]) == 1


async def test_the_next_daemon_adopts_the_networks(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, make)
    ipv4, ipv6 = await networks.allocate(Ref.default("lab"), "0a:69:73:00:00:01")
    web = nic(ipv4, ipv6)
    house.nics = [web]
    await house.act(
        networks, lambda n, op: n.driver(Ref.default("lab")).attach(op, n.get(Ref.default("lab")), web, WEB)
    )
    await networks.close()
    before = await house.picture(networks)
    await house.host.links.create_bridge(Bridge("gone", alias="isola:gone"))
    await house.host.firewall.apply(NAMES.table("gone"), "")
    later = await house.daemon()
    after = await house.picture(later)
    assert after[0] == before[0] and web.host_link in await house.host.links.names()
    assert await house.host.links.exists("gone"), "links without a record are left alone"
    assert await house.host.firewall.tables() == ("isola/gone", "isola/lab")
    await later.stop_all()
    left = ("eth0", "gone", web.host_link, "lo")
    assert await house.host.links.names() == tuple(sorted(left)) and later.get(Ref.default("lab")).ready


async def test_a_network_without_a_record_is_kept_and_can_be_adopted(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, make)
    network = networks.get(Ref.default("lab"))
    ipv4, ipv6 = await networks.allocate(Ref.default("lab"), "0a:69:73:00:00:01")
    house.nics = [web := nic(ipv4, ipv6)]
    await house.act(
        networks, lambda n, op: n.driver(Ref.default("lab")).attach(op, n.get(Ref.default("lab")), web, WEB)
    )
    await networks.close()
    await house.store.delete("/networks/default/lab")
    before = await house.picture(networks)
    later = await house.daemon()
    assert await house.picture(later) == ([], before[1])
    assert await later.unknown() == {"lab": network}
    await house.act(later, lambda n, op: n.adopt(op, "lab"))
    assert later.get(Ref.default("lab")) == network and await later.unknown() == {}
    assert await house.picture(later) == before
    await house.store.delete("/networks/default/lab")
    last = await house.daemon()
    await house.act(last, lambda n, op: n.remove_unknown(op, "lab"))
    assert await last.unknown() == {} and not await house.host.links.exists("lab")


async def test_a_failing_network_does_not_affect_others(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, make)
    await house.act(networks, lambda n, op: n.create(op, Network("zoo")))
    await house.host.links.delete("lab", "zoo")
    await house.host.links.create_bridge(Bridge("lab", ("192.0.2.1/24",)))
    later = await house.daemon()
    assert await house.host.links.exists("zoo")
    view = await house.host.links.find("lab")
    assert view is not None and view.state.addresses[0].address == "192.0.2.1"
    assert (later.status(Ref.default("lab")), later.status(Ref.default("zoo"))) == ("Unavailable", "Created")
    await house.host.links.delete("lab")
    await house.act(later, lambda n, op: n.update(op, Ref.default("lab"), to("", n.get(Ref.default("lab")).config)))
    assert later.status(Ref.default("lab")) == "Created" and later.gateways(Ref.default("lab"))[0] in str(
        await later.state(Ref.default("lab"))
    )


async def test_links_of_the_host_are_listed_too(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, make)
    await house.host.links.create_bridge(Bridge("docker0"))
    assert await networks.unmanaged() == {"lo": "loopback", "eth0": "physical", "docker0": "bridge"}
    assert (await networks.state(Ref.default("eth0")))["state"] == "up"
    with pytest.raises(NotFound):
        await networks.state(Ref.default("absent"))


async def test_beside_another_daemon_names_of_foreign_links_are_refused(house: House) -> None:
    await house.host.links.create_bridge(Bridge("isolabr0", alias="isola:isolabr0"))
    await house.host.links.create_bridge(Bridge("docker0"))
    networks = await house.daemon(names=HostNames("isola-7e57"))
    for name in ("eth0", "lo", "docker0"):
        with pytest.raises(AlreadyExists, match=name):
            await house.act(networks, lambda n, op, to=name: n.create(op, Network(to)))  # type: ignore[misc]
    await house.act(networks, lambda n, op: n.create(op, Network("isolabr0")))
    with pytest.raises(AlreadyExists, match="eth0"):
        await house.act(networks, lambda n, op: n.rename(op, Ref.default("isolabr0"), "eth0"))
    assert "isolabr0" not in await networks.unmanaged(), "it would be shown twice"
    assert (await networks.state(Ref.default("isolabr0")))["addresses"]


VERBS: dict[str, Work] = {
    "create": lambda n, op: n.create(op, Network("new")),
    "update": lambda n, op: n.update(op, Ref.default("lab"), to("", {"bridge.mtu": "1400"})),
    "rename": lambda n, op: n.rename(op, Ref.default("lab"), "shed"),
    "delete": lambda n, op: n.delete(op, Ref.default("lab")),
}


@pytest.mark.parametrize("action", ["fail", "cancel", "vanish"])
@pytest.mark.parametrize("verb", list(VERBS))
async def test_every_step_can_fail(tmp_path: Path, verb: str, action: str) -> None:
    for number in range(100):
        house = House(tmp_path / f"{number}")
        networks = await house.daemon()
        await house.act(networks, make)
        before = await house.picture(networks)
        whole = await _whole(tmp_path / f"{number}-whole", verb)
        breaker = Breaker(number, action)
        doing = asyncio.ensure_future(house.act(networks, VERBS[verb], breaker))
        stopped = asyncio.ensure_future(breaker.stopped.wait())
        await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        broken = breaker.seen > number
        stopped.cancel()
        later = await house.daemon()
        after = await house.picture(later)
        assert after in (before, whole), f"{verb}: {action} at point {number}"
        assert all(network.ready for network in later)
        doing.cancel()
        if not broken:
            assert after == whole and number > 2
            return
    pytest.fail("a verb without an end")


async def _whole(directory: Path, verb: str) -> object:
    """The snapshot after the verb has succeeded."""
    house = House(directory)
    networks = await house.daemon()
    await house.act(networks, make)
    await house.act(networks, VERBS[verb])
    return await house.picture(networks)


async def test_a_failed_deletion_is_completed_by_the_next_one(house: House) -> None:
    networks = await house.daemon()
    empty = await house.picture(networks)
    await house.act(networks, make)
    with pytest.raises(HostFailure):
        await house.act(networks, lambda n, op: n.delete(op, Ref.default("lab")), Breaker(2, "fail"))
    assert networks.status(Ref.default("lab")) == "Pending"
    await house.act(networks, lambda n, op: n.delete(op, Ref.default("lab")))
    assert await house.picture(networks) == empty


async def test_a_network_may_have_a_name_that_no_link_can_have(house: House) -> None:
    networks = await house.daemon()
    names = ["my_project_default", "1st", "default", "n" * 128]
    for name in names:
        await house.act(networks, lambda networks, op, name=name: networks.create(op, Network(name)))  # type: ignore[misc]
    found = [networks.get(Ref.default(name)) for name in names]
    links = [networks.driver(each.ref).link(each) for each in found]
    assert len(set(links)) == 4 and all(link and len(link) <= 15 for link in links)
    assert [each.config["volatile.bridge.name"] for each in found] == links
    assert all([await house.host.links.exists(str(link)) for link in links])
    assert len({each.identity for each in found}) == 4

    identity = found[0].identity
    await house.act(networks, lambda networks, op: networks.rename(op, found[0].ref, "lab"))
    renamed = networks.get(Ref.default("lab"))
    assert renamed.identity == identity and "volatile.bridge.name" not in renamed.config
    assert await house.host.links.exists("lab") and not await house.host.links.exists(str(links[0]))


async def test_a_generated_name_that_is_taken_is_chosen_again(house: House) -> None:
    networks = await house.daemon()
    taken = NAMES.bridge("my_project")
    await house.host.links.create_bridge(Bridge(taken))
    await house.act(networks, lambda networks, op: networks.create(op, Network("my_project")))
    made = networks.get(Ref.default("my_project"))
    assert made.config["volatile.bridge.name"] == NAMES.bridge("my_project", 1) != taken
    change = replace(made, config={**made.config, "dns.domain": "lab"})
    await house.act(networks, lambda networks, op: networks.update(op, made.ref, lambda _: change))
    assert networks.get(made.ref).config["volatile.bridge.name"] == made.config["volatile.bridge.name"]


async def test_the_name_of_a_bridge_is_chosen_at_creation_only(house: House) -> None:
    networks = await house.daemon()
    await house.act(networks, lambda networks, op: networks.create(op, Network("a_b", config={"bridge.name": "br-ab"})))
    made = networks.get(Ref.default("a_b"))
    assert networks.driver(made.ref).link(made) == "br-ab" and await house.host.links.exists("br-ab")
    change = replace(made, config={**made.config, "bridge.name": "br-cd"})
    with pytest.raises(InvalidInput):
        await house.act(networks, lambda networks, op: networks.update(op, made.ref, lambda _: change))
    await house.act(networks, lambda networks, op: networks.rename(op, made.ref, "other_one"))
    assert await house.host.links.exists("br-ab")
