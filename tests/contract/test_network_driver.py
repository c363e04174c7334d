"""The contract of network drivers: for the fake, and for each in the registry in a separate network namespace."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from netns import fresh_namespace
from network_host import act, fake_network_host

from isola import registry
from isola.errors import AlreadyExists, HostFailure, InvalidInput
from isola.host import Host
from isola.host.link_kinds import Bridge
from isola.host.linux import linux_host
from isola.model.identity import HostNames
from isola.model.network import Endpoint, HostTap, Network, NetworkNamespace, Nic
from isola.network import NetworkDriver
from isola.network.addresses import eui64
from isola.operations import Operation
from isola.testing.network import FakeNetwork

NAMES, OTHERS = HostNames("isola-7e57"), HostNames("isola-07e5")


@dataclass
class Subject:
    """A driver's class, a host, and namespaces beside it."""

    kind: type[NetworkDriver]
    host: Host
    directory: Path
    new_endpoint: Callable[[], Endpoint]

    def driver(self, names: HostNames = NAMES) -> NetworkDriver:
        """Another driver object, as in the next daemon."""
        return self.kind(self.host, self.directory / names.tag, names)

    async def snapshot(self) -> object:
        """Objects on the host."""
        networks = await self.host.files.names(self.directory / NAMES.tag / "networks")
        return await self.host.links.names(), await self.host.firewall.tables(), networks


PORTS = [name for name in registry.names("network") if registry.load("network", name).capabilities.ports]
"""Drivers whose NICs have an end on the host; the others are in test_network_parents.py."""


@pytest.fixture(params=["fake", *PORTS])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each driver in turn."""
    directory = Path(tempfile.mkdtemp(prefix="isola-network-", dir="/tmp"))
    directory.chmod(0o711)
    try:
        if request.param == "fake":
            numbers = itertools.count()
            fake = fake_network_host(physical=())
            yield Subject(FakeNetwork, fake, directory, lambda: NetworkNamespace(Path(f"/netns/{next(numbers)}")))
            return
        with fresh_namespace() as namespace:
            kind = registry.load("network", request.param)
            yield Subject(kind, linux_host(), directory, lambda: namespace.guest().endpoint)
    finally:
        shutil.rmtree(directory)


async def completed(driver: NetworkDriver, name: str = "lab", **config: str) -> Network:
    """A network with all defaults, as in its record."""
    wanted = {key.replace("_", "."): value for key, value in config.items()}
    return Network(name, config=await driver.complete(wanted, ()))


def nic_of(driver: NetworkDriver, network: Network, number: int = 1, *, configure: bool = False) -> Nic:
    """A NIC with addresses of the network."""
    plan, mac = driver.plan(network), f"0a:69:73:00:00:{number:02x}"
    return Nic(
        instance_id=f"id{number}",
        instance_name=f"web{number}",
        device="eth0",
        interface="eth0",
        network=network.ref,
        mac=mac,
        host_link=driver.names.veth(f"id{number}", "eth0"),
        ipv4=str(plan.ipv4.ip + number) if plan.ipv4 else None,
        ipv6=str(eui64(plan.ipv6.network, mac)) if plan.ipv6 else None,
        configure=configure,
    )


async def test_the_driver_is_available(subject: Subject) -> None:
    probe = await subject.kind.probe(subject.host)
    assert probe.available, f"{probe.reason} ({probe.remedy})"
    assert probe.version


async def test_defaults_are_chosen_once(subject: Subject) -> None:
    driver = subject.driver()
    first = await completed(driver)
    assert await driver.complete(first.config, (), first.config) == first.config
    chosen = {key: "auto" for key in first.config if key.endswith(".address")}
    assert await driver.complete(chosen, (), first.config) == first.config
    others = [first]
    for number in range(5):
        others.append(Network(f"lab{number}", config=await driver.complete({}, others)))
    plans = [driver.plan(network) for network in others]
    assert len({plan.ipv4 for plan in plans}) == len({plan.ipv6 for plan in plans}) == 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ipv4.address", "10.1.2.3"),
        ("ipv4.address", "10.1.2.0/24"),
        ("ipv4.address", "fd42::1/64"),
        ("ipv6.address", "10.1.2.1/24"),
        ("ipv4.nat", "perhaps"),
        ("ipv4.dhcp.ranges", "10.1.2.9-10.1.2.3"),
        ("bridge.mtu", "12"),
        ("dns.domain", "a b\nuser=root"),
        ("dns.mode", "loud"),
        ("no.such.key", "1"),
    ],
)
async def test_invalid_values_are_refused_with_their_key(subject: Subject, key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await subject.driver().complete({key: value}, ())
    assert caught.value.field == f"config.{key}"
    assert caught.value.remedy


async def test_networks_of_another_daemon_keep_their_subnets(subject: Subject) -> None:
    other, driver = subject.driver(OTHERS), subject.driver()
    theirs = await completed(other)
    await act(subject.host, lambda op: other.start(op, theirs, ()))
    address = theirs.config["ipv4.address"]
    with pytest.raises(InvalidInput, match="overlaps that of link") as caught:
        await driver.complete({"ipv4.address": address}, ())
    assert caught.value.field == "config.ipv4.address"
    assert (await other.complete({"ipv4.address": address}, (), theirs.config))["ipv4.address"] == address
    assert (await other.complete({**theirs.config, "bridge.mtu": "1400"}, (), theirs.config))["ipv4.address"] == address
    await act(subject.host, lambda op: other.stop(op, theirs))
    for one in (other, driver):
        await one.close()


async def test_the_lifecycle_of_a_network_leaves_nothing(subject: Subject) -> None:
    driver, before = subject.driver(), await subject.snapshot()
    network = await completed(driver)
    nic, endpoint = nic_of(driver, network), subject.new_endpoint()
    await act(subject.host, lambda op: driver.start(op, network, ()))
    await act(subject.host, lambda op: driver.register(op, network, nic))
    await act(subject.host, lambda op: driver.attach(op, network, nic, endpoint))
    assert await subject.host.links.exists(nic.host_link)
    state = await driver.state(network)
    assert state["state"] == "up" and state["bridge"]["upper_devices"] == [nic.host_link]  # type: ignore[index]
    own = {f"{a['address']}/{a['netmask']}" for a in state["addresses"] if a["scope"] == "global"}  # type: ignore[attr-defined]
    assert own == {network.config["ipv4.address"], network.config["ipv6.address"]}
    assert list(await driver.leases(network)) == []
    for _ in range(2):
        await act(subject.host, lambda op: driver.detach(op, network, nic))
        await act(subject.host, lambda op: driver.unregister(op, network, nic))
    for _ in range(2):
        await act(subject.host, lambda op: driver.stop(op, network))
    assert await subject.snapshot() == before
    await driver.close()


async def test_a_virtual_machine_gets_a_tap(subject: Subject) -> None:
    driver = subject.driver()
    network = await completed(driver)
    nic = nic_of(driver, network)
    await act(subject.host, lambda op: driver.start(op, network, [nic]))
    await act(subject.host, lambda op: driver.attach(op, network, nic, HostTap()))
    with pytest.raises(AlreadyExists):
        await act(subject.host, lambda op: driver.attach(op, network, nic, HostTap()))
    view = await subject.host.links.find(nic.host_link)
    assert view is None, "the rollback of a refused second one uses its own name"
    await act(subject.host, lambda op: driver.attach(op, network, nic, HostTap(1_500_000)))
    view = await subject.host.links.find(nic.host_link)
    assert view is not None and (view.kind, view.master) == ("tun", driver.link(network))
    await act(subject.host, lambda op: driver.detach(op, network, nic))
    assert not await subject.host.links.exists(nic.host_link)
    await act(subject.host, lambda op: driver.stop(op, network))
    await driver.close()


async def test_later_failures_are_rolled_back(subject: Subject) -> None:
    driver, before = subject.driver(), await subject.snapshot()
    network = await completed(driver)

    async def work(op: Operation) -> None:
        await driver.start(op, network, ())
        nic = nic_of(driver, network)
        await driver.register(op, network, nic)
        await driver.attach(op, network, nic, subject.new_endpoint())
        raise HostFailure("the disk is full")

    with pytest.raises(HostFailure, match="the disk is full"):
        await act(subject.host, work)
    assert await subject.snapshot() == before
    await driver.close()


async def test_starting_again_repairs_without_interruptions(subject: Subject) -> None:
    first = subject.driver()
    network = await completed(first)
    kept, stale = nic_of(first, network, 1), nic_of(first, network, 2)
    await act(subject.host, lambda op: first.start(op, network, [stale]))
    await act(subject.host, lambda op: first.register(op, network, kept))
    await act(subject.host, lambda op: first.attach(op, network, kept, subject.new_endpoint()))
    await first.close()

    second = subject.driver()
    await act(subject.host, lambda op: second.start(op, network, [kept]))
    assert (await second.state(network))["bridge"]["upper_devices"] == [kept.host_link]  # type: ignore[index]
    await subject.host.links.delete(NAMES.bridge("lab"))
    await subject.host.firewall.delete(NAMES.table("lab"))
    await act(subject.host, lambda op: second.start(op, network, [kept]))
    assert (await second.state(network))["bridge"]["upper_devices"] == [kept.host_link]  # type: ignore[index]
    assert await subject.host.firewall.tables() == (NAMES.table("lab"),)
    await act(subject.host, lambda op: second.detach(op, network, kept))
    await act(subject.host, lambda op: second.stop(op, network))
    await second.close()


async def test_an_update_takes_effect_and_is_rolled_back(subject: Subject) -> None:
    driver = subject.driver()
    old = await completed(driver)
    new = replace(
        old, config=await driver.complete({**old.config, "bridge.mtu": "1400", "ipv6.address": "none"}, (), old.config)
    )
    await act(subject.host, lambda op: driver.start(op, old, ()))
    await act(subject.host, lambda op: driver.update(op, old, new, ()))
    state = await driver.state(new)
    assert state["mtu"] == 1400
    assert {a["family"] for a in state["addresses"]} == {"inet"}  # type: ignore[attr-defined]

    async def work(op: Operation) -> None:
        await driver.update(op, new, old, ())
        raise HostFailure("no")

    with pytest.raises(HostFailure):
        await act(subject.host, work)
    assert (await driver.state(new))["mtu"] == 1400
    await act(subject.host, lambda op: driver.stop(op, new))
    await driver.close()


async def test_foreign_links_survive(subject: Subject) -> None:
    driver = subject.driver()
    network = await completed(driver)
    link = driver.link(Network("lab"))
    assert link is not None
    await subject.host.links.create_bridge(Bridge(link, ("192.0.2.1/24",)))
    with pytest.raises(AlreadyExists):
        await act(subject.host, lambda op: driver.start(op, network, ()))
    await act(subject.host, lambda op: driver.stop(op, network))
    view = await subject.host.links.find(link)
    assert view is not None and "192.0.2.1" in [address.address for address in view.state.addresses]
    await subject.host.links.delete(link)
    await driver.close()


async def test_cleaning_keeps_known_and_foreign_links(subject: Subject) -> None:
    ours, theirs = subject.driver(), subject.driver(OTHERS)
    network, foreign = await completed(ours), await completed(theirs)
    nic, foreign_nic = nic_of(ours, network), nic_of(theirs, foreign)
    for driver, one, its_nic in ((ours, network, nic), (theirs, foreign, foreign_nic)):
        await act(subject.host, lambda op, d=driver, n=one: d.start(op, n, ()))  # type: ignore[misc]
        await act(subject.host, lambda op, d=driver, n=one, i=its_nic: d.attach(op, n, i, subject.new_endpoint()))  # type: ignore[misc]
    full = await subject.host.links.names()
    await ours.clean([network], [nic.host_link])
    assert await subject.host.links.names() == full
    await ours.close()

    later = subject.driver()
    await later.clean([], [])
    left = set(await subject.host.links.names())
    assert left & {nic.host_link, NAMES.bridge("lab")} == set()
    assert {foreign_nic.host_link, OTHERS.bridge("lab")} <= left
    assert await subject.host.firewall.tables() == (OTHERS.table("lab"),)
    assert await subject.host.files.names(subject.directory / NAMES.tag / "networks") == ()
    await act(subject.host, lambda op: theirs.detach(op, foreign, foreign_nic))
    await act(subject.host, lambda op: theirs.stop(op, foreign))
    await theirs.close()
    await later.close()


async def test_addresses_are_set_inside_on_request(subject: Subject) -> None:
    driver = subject.driver()
    network = await completed(driver, ipv6_address="none")
    nic = nic_of(driver, network, configure=True)
    assert nic.ipv6 is None and ip_interface(network.config["ipv4.address"])
    await act(subject.host, lambda op: driver.start(op, network, [nic]))
    await act(subject.host, lambda op: driver.attach(op, network, nic, subject.new_endpoint()))
    await act(subject.host, lambda op: driver.detach(op, network, nic))
    await act(subject.host, lambda op: driver.stop(op, network))
    await driver.close()
