"""The contract of the links port: for the fake, and for Linux in a separate network namespace."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from netns import fresh_namespace

from isola.errors import AlreadyExists, HostFailure, InvalidInput, IsolaError, NotFound, WrongState
from isola.host.link_kinds import Bridge, Inside, Loop, Macvlan, Pair, Routing, Tap
from isola.host.links import Links, LinuxLinks
from isola.host.process import LinuxProcesses
from isola.host.static_routes import Route
from isola.testing.links import FakeLinks

BRIDGE = Bridge("br0", ("10.1.2.1/24", "fd42::1/64"), mtu=1400, mac="0a:69:73:00:00:01", alias="isola:lab")


@dataclass
class Subject:
    """An implementation, and network namespaces."""

    links: Links
    new_namespace: Callable[[], Path]
    gone: Callable[[], Path]
    """A namespace that has ended."""
    look_inside: Callable[[Path], dict[str, set[str]]]
    """Links in a namespace -> their addresses."""

    def pair(self, host: str = "is0a1b2c3d", peer: str = "eth0") -> Pair:
        return Pair(host, peer, "br0", mac="0a:69:73:00:00:02", mtu=1400)


@pytest.fixture(params=["fake", "linux"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Each implementation in turn."""
    if request.param == "fake":
        fake = FakeLinks(physical=())
        numbers = iter(range(1000, 2000))

        def look(namespace: Path) -> dict[str, set[str]]:
            return {
                name: set(inside.addresses if inside else ())
                for (owner, name), (_, inside) in (*fake.inside.items(), *fake.macvlans.items())
                if owner == namespace
            }

        def gone() -> Path:
            ended = Path(f"/netns/{next(numbers)}")
            fake.vanish(ended)
            return ended

        yield Subject(fake, lambda: Path(f"/netns/{next(numbers)}"), gone, look)
        return
    with fresh_namespace() as namespace:
        plain = tmp_path / "left"  # the remaining file after a reboot of the host
        plain.touch()
        ended = iter((plain, tmp_path / "none"))
        links = LinuxLinks(LinuxProcesses())
        yield Subject(links, lambda: namespace.guest().endpoint.path, lambda: next(ended), _look_inside)


def _look_inside(namespace: Path) -> dict[str, set[str]]:
    answer = subprocess.run(["nsenter", f"--net={namespace}", "ip", "-j", "addr"], stdout=subprocess.PIPE, check=True)
    return {
        link["ifname"]: {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}
        for link in orjson.loads(answer.stdout)
        if link["ifname"] != "lo"
    }


def _global(view: object) -> set[str]:
    return {f"{a.address}/{a.netmask}" for a in view.state.addresses if a.scope == "global"}  # type: ignore[attr-defined]


async def test_a_bridge_has_the_requested_properties(subject: Subject) -> None:
    assert not await subject.links.exists("br0")
    assert await subject.links.find("br0") is None
    await subject.links.create_bridge(BRIDGE)
    view = await subject.links.find("br0")
    assert view is not None
    assert (view.name, view.kind, view.alias, view.master) == ("br0", "bridge", "isola:lab", "")
    assert (view.state.mtu, view.state.hwaddr, view.state.state) == (1400, "0a:69:73:00:00:01", "up")
    assert _global(view) == {"10.1.2.1/24", "fd42::1/64"}
    assert await subject.links.exists("br0")
    assert "10.1.2.0/24" in await subject.links.routes()
    with pytest.raises(AlreadyExists):
        await subject.links.create_bridge(BRIDGE)
    assert _global(await subject.links.find("br0")) == {"10.1.2.1/24", "fd42::1/64"}


@pytest.mark.parametrize("name", ["all", "default", "", "much-too-long-name", "a b", "x\nlink del lo", "a/b", "$(x)"])
async def test_invalid_names_of_links_are_refused(subject: Subject, name: str) -> None:
    before = await subject.links.names()
    with pytest.raises(IsolaError):
        await subject.links.create_bridge(Bridge(name))
    assert await subject.links.names() == before


async def test_a_bridge_changes_its_addresses(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    await subject.links.set_addresses("br0", ["10.9.9.1/25"], 1300, "0a:69:73:00:00:09")
    view = await subject.links.find("br0")
    assert view is not None and _global(view) == {"10.9.9.1/25"}
    assert (view.state.mtu, view.state.hwaddr) == (1300, "0a:69:73:00:00:09")
    await subject.links.set_addresses("br0", BRIDGE.addresses, 1400)
    assert _global(await subject.links.find("br0")) == set(BRIDGE.addresses)
    with pytest.raises(HostFailure):
        await subject.links.set_addresses("absent", [], 1500)


async def test_the_peer_of_a_pair_is_inside(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    namespace = subject.new_namespace()
    inside = Inside(("10.1.2.7/24", "fd42::7/64"), ("10.1.2.1", "fd42::1"))
    await subject.links.connect(subject.pair(), namespace, inside)
    assert subject.look_inside(namespace) == {"eth0": {"10.1.2.7/24", "fd42::7/64"}}
    view = await subject.links.find("is0a1b2c3d")
    assert view is not None and (view.kind, view.master, view.state.mtu) == ("veth", "br0", 1400)
    with pytest.raises(AlreadyExists):
        await subject.links.connect(subject.pair(), subject.new_namespace())
    await subject.links.delete("is0a1b2c3d")
    await subject.links.delete("is0a1b2c3d")
    assert subject.look_inside(namespace) == {}


async def test_linux_sets_up_the_far_end_without_programs() -> None:
    with fresh_namespace() as host:
        links = LinuxLinks(LinuxProcesses())
        await links.create_bridge(BRIDGE)
        links._processes = NoProcesses()  # type: ignore[assignment]
        first, second = host.guest(), host.guest()
        inside = Inside(("10.1.2.7/24", "fd42::7/64"), ("10.1.2.1", "fd42::1"), metric=77)
        await links.connect(
            Pair("is1", "eth0", "br0", "0a:69:73:00:00:02", 1400, "10.1.2.7"), first.endpoint.path, inside
        )
        routed = Inside(("10.5.5.5/32", "fd55::5/128"), ("169.254.0.1", "fe80::1"), onlink=True)
        await links.connect(Pair("is2", "eth0", "", "0a:69:73:00:00:03"), second.endpoint.path, routed)
        shown = orjson.loads(await first.check("ip", "-j", "-d", "addr"))
        assert "UP" in shown[0]["flags"] and "UP" in shown[1]["flags"] and shown[1]["mtu"] == 1400
        own = {each["local"]: each for each in shown[1]["addr_info"] if each["scope"] == "global"}
        assert own["10.1.2.7"]["broadcast"] == "10.1.2.255" and not own["fd42::7"].get("tentative")
        assert "default via 10.1.2.1 dev eth0 metric 77" in await first.check("ip", "route")
        assert "default via fd42::1 dev eth0 metric 77" in await first.check("ip", "-6", "route")
        assert "default via 169.254.0.1 dev eth0 metric 1024 onlink" in await second.check("ip", "route")
        assert "default via fe80::1 dev eth0 metric 1024" in await second.check("ip", "-6", "route")
        assert "is1" not in _links_with_ipv6(), "a port has no address"
        with pytest.raises(HostFailure):
            await links.connect(
                Pair("is3", "eth1", "br0", "0a:69:73:00:00:04"), first.endpoint.path, Inside((), ("10.99.0.1",))
            )
        assert not await links.exists("is3") and "eth1" not in _look_inside(first.endpoint.path)


def _links_with_ipv6() -> str:
    return Path("/proc/thread-self/net/if_inet6").read_text()


class NoProcesses:
    """No program is started."""

    async def run(self, argv: list[str], **_: object) -> None:
        raise AssertionError(argv)


async def test_linux_waits_for_links_of_ended_namespaces_and_deletes_those_that_stay() -> None:
    with fresh_namespace() as host:
        links = LinuxLinks(LinuxProcesses())
        guest, held = host.guest(), host.guest()
        for name, one in (("is1", guest), ("is2", held)):
            await links.connect(Pair(name, "eth0", "", "0a:69:73:00:00:02"), one.endpoint.path)
        guest.end()
        await links.delete("is1", "none", vanishing=True)
        assert not await links.exists("is1")
        await links.delete("is2", vanishing=True)
        assert not await links.exists("is2"), "although a process keeps the namespace"


async def test_a_failed_pair_leaves_nothing(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    namespace = subject.new_namespace()
    await subject.links.connect(subject.pair(), namespace)
    with pytest.raises(HostFailure):
        await subject.links.connect(subject.pair(host="is99999999"), namespace)
    with pytest.raises(HostFailure):
        await subject.links.connect(Pair("is99999999", "eth1", "nobridge", "0a:69:73:00:00:03"), namespace)
    with pytest.raises(InvalidInput):
        await subject.links.connect(subject.pair(host="is99999999", peer="eth1 up\nlink del br0"), namespace)
    for _ in range(2):
        with pytest.raises(WrongState):
            await subject.links.connect(subject.pair(host="is99999999"), subject.gone())
    assert not await subject.links.exists("is99999999")
    assert set(subject.look_inside(namespace)) == {"eth0"}


async def test_a_tap_is_a_port_of_its_bridge(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    await subject.links.create_tap(Tap("is0a1b2c3d", "br0", owner=1_500_000, mtu=1400))
    view = await subject.links.find("is0a1b2c3d")
    assert view is not None and (view.kind, view.master, view.state.mtu) == ("tun", "br0", 1400)
    with pytest.raises(AlreadyExists):
        await subject.links.create_tap(Tap("is0a1b2c3d", "br0"))
    with pytest.raises(HostFailure):
        await subject.links.create_tap(Tap("is99999999", "nobridge"))
    with pytest.raises(InvalidInput):
        await subject.links.create_tap(Tap("eth1 up\nlink del br0", "br0"))
    assert not await subject.links.exists("is99999999")
    await subject.links.delete("is0a1b2c3d")
    assert not await subject.links.exists("is0a1b2c3d")


async def test_a_tap_is_its_owners_and_has_no_address_of_its_own(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    await subject.links.create_tap(Tap("is0a1b2c3d", "br0", owner=(1 << 32) - 2))
    view = await subject.links.find("is0a1b2c3d")
    assert view is not None and view.state.state == "up" and view.state.addresses == ()
    if isinstance(subject.links, LinuxLinks):
        shown = await LinuxProcesses().run(["ip", "-j", "-d", "link", "show", "is0a1b2c3d"])
        (found,) = orjson.loads(shown.stdout)
        assert found["linkinfo"]["info_data"] == {
            "type": "tap", "pi": False, "vnet_hdr": False, "multi_queue": False, "persist": True, "user": (1 << 32) - 2
        }  # fmt: skip
        assert found["inet6_addr_gen_mode"] == "none"


async def test_a_tap_may_be_no_port_of_a_bridge(subject: Subject) -> None:
    await subject.links.create_tap(Tap("is0a1b2c3d", ""))
    view = await subject.links.find("is0a1b2c3d")
    assert view is not None and view.kind == "tun" and not view.master
    await subject.links.delete("is0a1b2c3d")


async def test_ports_join_a_recreated_bridge(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    await subject.links.connect(subject.pair(), subject.new_namespace())
    await subject.links.delete("br0")
    await subject.links.create_bridge(BRIDGE)
    await subject.links.join("br0", ["is0a1b2c3d", "isnobody"])
    await subject.links.join("br0", ["is0a1b2c3d"])
    view = await subject.links.find("is0a1b2c3d")
    assert view is not None and view.master == "br0"


async def test_links_are_listed_and_deleted(subject: Subject) -> None:
    await subject.links.create_bridge(Bridge("br0"))
    await subject.links.create_bridge(Bridge("br1"))
    await subject.links.create_bridge(Bridge("other"))
    assert await subject.links.names("br") == ("br0", "br1")
    assert {view.name for view in await subject.links.all()} >= {"lo", "br0", "br1", "other"}
    await subject.links.delete("br0", "absent", "br1")
    assert await subject.links.names("br") == ()
    assert await subject.links.exists("other")
    for name in ("..", "../conf", "all", ""):
        assert not await subject.links.exists(name)
        assert await subject.links.find(name) is None


async def test_concurrent_pairs_are_all_created(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    guests = [subject.new_namespace() for _ in range(5)]
    await asyncio.gather(
        *(subject.links.connect(subject.pair(host=f"is{n:08x}"), guest) for n, guest in enumerate(guests))
    )
    assert [set(subject.look_inside(guest)) for guest in guests] == [{"eth0"}] * 5


async def test_forwarding_is_enabled_per_link() -> None:
    with fresh_namespace():
        links, conf = LinuxLinks(LinuxProcesses()), Path("/proc/sys/net")
        await links.create_bridge(Bridge("up0"))
        (conf / "ipv6/conf/up0/accept_ra").write_text("1")
        await links.create_bridge(BRIDGE)
        await links.enable_forwarding("br0", ipv4=True, ipv6=True)
        assert (conf / "ipv4/ip_forward").read_text() == (conf / "ipv4/conf/br0/forwarding").read_text() == "1\n"
        assert (conf / "ipv6/conf/all/forwarding").read_text() == "1\n"
        assert (conf / "ipv6/conf/up0/accept_ra").read_text() == "2\n", (
            "the host must still accept advertisements of its router"
        )
        assert (conf / "ipv6/conf/br0/accept_ra").read_text() == "0\n"
        await links.enable_forwarding("br0", ipv4=False, ipv6=False)
        assert (
            (conf / "ipv4/conf/br0/forwarding").read_text() == (conf / "ipv6/conf/br0/forwarding").read_text() == "0\n"
        )


async def test_an_address_is_announced_on_an_existing_link(subject: Subject) -> None:
    with pytest.raises(HostFailure, match="br0"):
        await subject.links.announce("br0", "0a:69:73:00:00:02", "10.1.2.9")
    await subject.links.create_bridge(BRIDGE)
    await subject.links.announce("br0", "0a:69:73:00:00:02", "10.1.2.9")


async def test_a_datagram_cannot_be_sent_over_a_missing_link(subject: Subject) -> None:
    with pytest.raises(HostFailure, match="br0"):
        await subject.links.send("br0", "10.1.2.1", 67, b"x")
    await subject.links.create_bridge(BRIDGE)
    await subject.links.send("br0", "10.1.2.1", 67, b"x")


async def test_a_macvlan_exists_only_inside(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    namespace, link = subject.new_namespace(), Macvlan("br0", "eth0", "0a:69:73:00:00:05")
    before = await subject.links.names()
    await subject.links.create_macvlan(link, namespace, Inside(("10.1.2.8/24",)))
    assert subject.look_inside(namespace) == {"eth0": {"10.1.2.8/24"}} and await subject.links.names() == before
    with pytest.raises(HostFailure):
        await subject.links.create_macvlan(link, namespace)
    with pytest.raises(NotFound):
        await subject.links.create_macvlan(Macvlan("nolink", "eth1", "0a:69:73:00:00:06"), namespace)
    with pytest.raises(WrongState):
        await subject.links.create_macvlan(link, subject.gone())
    await subject.links.delete_inside("eth0", namespace)
    await subject.links.delete_inside("eth0", namespace)
    await subject.links.delete_inside("eth0", subject.gone())
    assert subject.look_inside(namespace) == {}


@pytest.mark.parametrize(
    ("mode", "inside"), [("bridge", None), ("bridge", Inside(("10.1.2.8/24",))), ("passthru", Inside(("10.1.2.8/24",)))]
)
async def test_a_macvlan_waits_until_its_predecessor_is_gone(
    subject: Subject, mode: str, inside: Inside | None
) -> None:
    """Whose namespace has ended, but is removed by the kernel later: it has the MAC address, or all of the parent."""
    await subject.links.create_bridge(BRIDGE)
    former, namespace = subject.new_namespace(), subject.new_namespace()
    link = Macvlan("br0", "eth0", "0a:69:73:00:00:05", mode=mode)
    await subject.links.create_macvlan(link, former, Inside())
    task = asyncio.ensure_future(subject.links.create_macvlan(link, namespace, inside))
    done, _ = await asyncio.wait({task}, timeout=0.5)
    assert not done
    await subject.links.delete_inside("eth0", former)
    await task
    assert subject.look_inside(namespace) == {"eth0": set(inside.addresses if inside else ())}


async def test_a_pair_without_a_bridge_is_routed_to(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    namespace = subject.new_namespace()
    inside = Inside(("192.0.2.5/32",), ("169.254.0.1",), onlink=True)
    await subject.links.connect(Pair("is0a1b2c3d", "eth0", "", mac="0a:69:73:00:00:02"), namespace, inside)
    routing = Routing(("169.254.0.1/32",), ("192.0.2.5/32", "2001:db8::5/128"), ("192.0.2.5", "2001:db8::5"), "br0")
    await subject.links.route("is0a1b2c3d", routing)
    await subject.links.route("is0a1b2c3d", routing)
    view = await subject.links.find("is0a1b2c3d")
    assert view is not None and view.master == ""
    await subject.links.unproxy(routing)
    await subject.links.unproxy(routing)
    with pytest.raises(HostFailure):
        await subject.links.route("nolink", routing)


async def test_ports_are_isolated_and_shaped(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    await subject.links.connect(subject.pair(), subject.new_namespace())
    for isolated in (True, True, False):
        await subject.links.isolate("is0a1b2c3d", isolated=isolated)
    for rate in (10**7, 10**10, None, None):
        await subject.links.shape("is0a1b2c3d", rate)
    with pytest.raises(HostFailure):
        await subject.links.isolate("nolink", isolated=True)
    with pytest.raises(HostFailure):
        await subject.links.shape("nolink", 10**7)


async def test_a_loop_is_completed_when_it_is_there_and_removed_by_one_end(subject: Subject) -> None:
    loop = Loop("is7e57-gate", "is7e57-gate-in")
    for _ in range(2):
        await subject.links.create_loop(loop)
        assert {loop.near, loop.far} <= set(await subject.links.names("is7e57-gate"))
    views = [view for view in await subject.links.all() if view.name in (loop.near, loop.far)]
    assert [(view.kind, view.state.state) for view in views] == [("veth", "up"), ("veth", "up")]
    await subject.links.delete(loop.near)
    assert await subject.links.names("is7e57-gate") == ()


async def test_connections_wait_for_links_that_are_seen_off() -> None:
    with fresh_namespace() as host:
        links = LinuxLinks(LinuxProcesses())
        guest, next_guest = host.guest(), host.guest()
        await links.connect(Pair("is1", "eth0", "", "0a:69:73:00:00:02"), guest.endpoint.path)
        guest.end()
        links.delete_vanishing("is1")
        await links.connect(Pair("is1", "eth0", "", "0a:69:73:00:00:03"), next_guest.endpoint.path)
        assert await links.exists("is1")
        links.delete_vanishing("is1")
        await links.connect(Pair("is2", "eth1", "", "0a:69:73:00:00:04"), next_guest.endpoint.path)
        assert not await links.exists("is1"), "although its namespace has not ended"


async def test_routes_through_instances_come_and_go(subject: Subject) -> None:
    await subject.links.create_bridge(BRIDGE)
    routes = [
        Route("192.0.2.0/28", "br0", "10.1.2.7"),
        Route("192.0.2.32/32", "br0"),
        Route("2001:db8:7::/64", "br0", "fd42::7"),
    ]
    subnets = {"192.0.2.0/28", "2001:db8:7::/64"}
    for _ in range(2):
        await subject.links.add_routes(routes)
    assert subnets <= {*await subject.links.routes(), *(route.subnet for route in static(subject.links))}
    await subject.links.create_bridge(Bridge("br1", ("10.1.3.1/24",)))
    other = [Route("192.0.2.64/28", "br1"), Route("192.0.2.0/28", "br1")]
    with pytest.raises(AlreadyExists, match=r"192\.0\.2\.0/28"):
        await subject.links.add_routes(other)
    await subject.links.remove_routes(other)
    with pytest.raises(AlreadyExists):
        await subject.links.add_routes([Route("192.0.2.0/28", "br0")])
    await subject.links.remove_routes(routes)
    await subject.links.remove_routes(routes)
    assert not subnets & {*await subject.links.routes(), *(route.subnet for route in static(subject.links))}
    await subject.links.add_routes(other)
    with pytest.raises(HostFailure):
        await subject.links.add_routes([Route("198.51.100.0/24", "br1"), Route("198.51.100.0/25", "nolink")])
    assert "198.51.100.0/24" not in await subject.links.routes()


def static(links: Links) -> list[Route]:
    return list(links.static.values()) if isinstance(links, FakeLinks) else []
