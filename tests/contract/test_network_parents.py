"""The contract of network drivers without ends on the host: with NICs that are links of a parent, or with none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import Guest, Netns, check, fresh_namespace
from network_host import act

from isola import registry
from isola.errors import InvalidInput, Unsupported
from isola.host.linux import linux_host
from isola.model.identity import HostNames
from isola.model.network import HostTap, Network, Nic
from isola.network import NetworkDriver

NAMES = HostNames("isola-7e57")
KINDS: dict[str, type[NetworkDriver]] = {name: registry.load("network", name) for name in registry.names("network")}
PARENTS = [name for name, kind in KINDS.items() if kind.capabilities.nics and not kind.capabilities.ports]
BARE = [name for name, kind in KINDS.items() if not kind.capabilities.nics]


@pytest.fixture
def namespace() -> Iterator[Netns]:
    with fresh_namespace() as made:
        yield made


@pytest.fixture(params=PARENTS)
async def driver(request: pytest.FixtureRequest, namespace: Netns) -> NetworkDriver:
    """With the links ``lan0`` and ``lan1`` beside it."""
    for name in ("lan0", "lan1"):
        await check("ip", "link", "add", name, "up", "type", "veth", "peer", "name", f"{name}-far")
        await check("ip", "link", "set", f"{name}-far", "up")
    directory = Path(tempfile.mkdtemp(prefix="isola-network-", dir="/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(directory))
    kind: type[NetworkDriver] = registry.load("network", request.param)
    return kind(linux_host(), directory, NAMES)


def nic_of(driver: NetworkDriver, network: Network, number: int) -> Nic:
    plan = driver.plan(network)
    assert plan.ipv4 is not None
    return Nic(
        instance_id=f"id{number}",
        instance_name=f"web{number}",
        device="eth0",
        interface="eth0",
        network=network.ref,
        mac=f"0a:69:73:00:00:{number:02x}",
        host_link=driver.names.veth(f"id{number}", "eth0"),
        ipv4=str(plan.ipv4.ip + number),
        ipv6=str(plan.ipv6.ip + number) if plan.ipv6 else None,
        configure=True,
    )


async def network(driver: NetworkDriver, name: str, **config: str) -> Network:
    wanted = {key.replace("_", "."): value for key, value in config.items()}
    return Network(name, config=await driver.complete(wanted, ()), driver=type(driver).__module__.rpartition(".")[2])


async def test_it_says_whether_it_works(driver: NetworkDriver) -> None:
    probe = await driver.probe(driver.host)
    assert probe.available and probe.version


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "config.parent"),
        ({"parent": "nosuch"}, "config.parent"),
        ({"parent": "lan0", "ipv4.address": "10.1.2.0/24"}, "config.ipv4.address"),
        ({"parent": "lan0", "ipv4.dhcp.ranges": "10.1.2.3-10.1.2.9"}, "config.ipv4.dhcp.ranges"),
        (
            {"parent": "lan0", "ipv4.address": "10.1.2.1/24", "ipv4.dhcp.ranges": "10.1.3.3-10.1.3.9"},
            "config.ipv4.dhcp.ranges",
        ),
        ({"parent": "lan0", "ipv4.nat": "true"}, "config.ipv4.nat"),
    ],
)
async def test_invalid_values_are_refused_with_their_key(
    driver: NetworkDriver, config: dict[str, str], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await driver.complete(config, ())
    assert caught.value.field == field and caught.value.remedy


async def test_subnets_of_other_networks_are_refused_and_free_ones_chosen(driver: NetworkDriver) -> None:
    first = await network(driver, "one", parent="lan0", ipv4_address="auto", ipv6_address="auto")
    own = first.config["ipv4.address"]
    assert "/" in own and await driver.complete(first.config, [], first.config) == first.config
    with pytest.raises(InvalidInput, match="overlaps that of network 'one'"):
        await driver.complete({"parent": "lan1", "ipv4.address": own}, [first])
    second = await driver.complete({"parent": "lan0", "ipv4.address": "auto"}, [first])
    assert second["ipv4.address"] != own


async def test_nics_on_one_parent_reach_each_other_and_leave_nothing(driver: NetworkDriver, namespace: Netns) -> None:
    lan = await network(driver, "lan", parent="lan0", ipv4_address="10.77.0.1/24", ipv6_address="fd42:77::1/64")
    other = await network(driver, "other", parent="lan1", ipv4_address="10.78.0.1/24", ipv4_routing="false")
    before = await driver.host.links.names()
    guests: list[Guest] = [namespace.guest() for _ in range(3)]
    for number, (guest, on) in enumerate(zip(guests, (lan, lan, other), strict=True), 8):
        await driver.connect(on, nic_of(driver, on, number), guest.endpoint)
    assert await driver.host.links.names() == before
    shown = await guests[0].check("ip", "-d", "address", "show", "eth0")
    assert "macvlan" in shown and "10.77.0.9/24" in shown and "fd42:77::9/64" in shown
    assert "default via 10.77.0.1" in await guests[0].check("ip", "route")
    assert "default" not in await guests[2].check("ip", "route")
    await guests[0].check("ping", "-c1", "-W5", "10.77.0.10")
    await driver.host.links.delete_inside("eth0", guests[0].endpoint.path)
    assert "eth0" not in await guests[0].check("ip", "link")
    assert await driver.leases(lan) == () and (await driver.state(lan))["type"]


async def test_a_tap_is_refused(driver: NetworkDriver) -> None:
    lan = await network(driver, "lan", parent="lan0", ipv4_address="10.77.0.1/24")
    with pytest.raises(Unsupported):
        await driver.connect(lan, nic_of(driver, lan, 8), HostTap(1000))


@pytest.mark.parametrize("kind", BARE)
async def test_without_nics_there_is_nothing_but_the_record(kind: str, namespace: Netns, tmp_path: Path) -> None:
    driver = KINDS[kind](linux_host(), tmp_path, NAMES)
    assert (await driver.probe(driver.host)).available
    before = await driver.host.links.names(), await driver.host.firewall.tables()
    only = Network("only", kind, config=await driver.complete({"user.a": "b", "user.c": ""}, ()))
    await act(driver.host, lambda op: driver.start(op, only, ()))
    assert only.config == {"user.a": "b"} and (await driver.state(only), await driver.leases(only)) == ({}, ())
    nic = Nic("id1", "web1", "eth0", "eth0", only.ref, "0a:69:73:00:00:01", driver.names.veth("id1", "eth0"))
    for refused in (driver.enroll(only, nic), driver.connect(only, nic, namespace.guest().endpoint)):
        with pytest.raises(Unsupported, match="settings for other networks") as caught:
            await refused
        assert caught.value.remedy
    with pytest.raises(InvalidInput, match="parent"):
        await driver.complete({"parent": "lan0"}, ())
    assert (await driver.host.links.names(), await driver.host.firewall.tables()) == before
    await act(driver.host, lambda op: driver.stop(op, only))
