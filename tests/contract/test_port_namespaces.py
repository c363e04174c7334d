"""The contract of ``Namespaces``; the real one is compared with ``ip`` in a separate network namespace."""

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from descriptors import descriptors

from isola.errors import AlreadyExists, HostFailure, NotFound, WrongState
from isola.host.namespaces import LinuxNamespaces, Namespaces, parse_ipv4, parse_routes
from isola.host.process import Child, LinuxProcesses, ProcessRef
from isola.model.identity import IdRange
from isola.model.instance import Address, InterfaceState
from isola.testing.namespaces import FakeNamespaces

PROCESSES = LinuxProcesses()


@dataclass
class Side:
    namespaces: Namespaces
    process: ProcessRef


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    """A process in its own network namespace."""
    child = await PROCESSES.spawn(["unshare", "--net", "sleep", "600"])
    ours = os.readlink("/proc/self/ns/net")
    for _ in range(6000):
        if os.readlink(f"/proc/{child.ref.pid}/ns/net") != ours:
            break
        await asyncio.sleep(0.01)
    yield child
    child.signal(signal.SIGKILL)
    await child.wait()


async def inside(child: Child, *commands: str) -> None:
    for command in commands:
        await PROCESSES.run(["nsenter", f"--net=/proc/{child.ref.pid}/ns/net", *command.split()])


@pytest.fixture(params=["fake", "linux"])
async def side(request: pytest.FixtureRequest, child: Child) -> Side:
    """A namespace with ``lo`` and one more interface."""
    if request.param == "fake":
        fake = FakeNamespaces()
        eth0 = Address("inet", "10.1.2.3", "24", "global"), Address("inet6", "fd42::3", "64", "global")
        first = ProcessRef(1000, 1)
        fake.set_interfaces(first, InterfaceState("eth0", eth0))
        return Side(fake, first)
    await inside(
        child,
        "ip link set lo up",
        "ip link add eth0 type bridge",
        "ip link set eth0 up",
        "ip addr add 10.1.2.3/24 dev eth0",
        "ip addr add fd42::3/64 dev eth0 nodad",
    )
    return Side(LinuxNamespaces(), child.ref)


def test_loopback_is_among_the_interfaces(side: Side) -> None:
    (loopback,) = [link for link in side.namespaces.interfaces(side.process) if link.name == "lo"]
    assert loopback.type == "loopback"
    assert set(loopback.addresses) == {
        Address("inet", "127.0.0.1", "8", "local"),
        Address("inet6", "::1", "128", "local"),
    }


def test_addresses_have_prefix_and_scope(side: Side) -> None:
    (eth0,) = [link for link in side.namespaces.interfaces(side.process) if link.name == "eth0"]
    wanted = {Address("inet", "10.1.2.3", "24", "global"), Address("inet6", "fd42::3", "64", "global")}
    assert wanted <= set(eth0.addresses)
    assert eth0.type == "broadcast"


def test_an_ended_process_has_no_interfaces(side: Side) -> None:
    assert side.namespaces.interfaces(ProcessRef(2**22 - 1, 1)) == ()


def test_a_process_with_a_reused_pid_is_not_read(side: Side) -> None:
    earlier = replace(side.process, started=side.process.started - 1)
    assert side.namespaces.interfaces(side.process)
    assert side.namespaces.interfaces(earlier) == ()
    with pytest.raises(WrongState):
        side.namespaces.hold_mounts(earlier)


async def test_a_user_namespace_is_held_for_the_requested_time(side: Side) -> None:
    before = held()
    async with side.namespaces.user(IdRange(1_500_000)) as one, side.namespaces.user(IdRange(1_600_000)) as two:
        assert one != two
        if isinstance(side.namespaces, FakeNamespaces):
            assert [idmap.base for idmap in side.namespaces.users] == [1_500_000, 1_600_000]
    assert held() == before
    if isinstance(side.namespaces, FakeNamespaces):
        assert side.namespaces.users == []


def held() -> int:
    """User namespaces that this process holds by descriptors."""
    return sum(target.startswith("user:") for _, target in descriptors())


async def test_a_network_namespace_stays_until_it_is_removed(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "netns" / "web"
    assert not side.namespaces.has_network(file)
    await side.namespaces.remove_network(file)
    with pytest.raises(WrongState):
        async with side.namespaces.user_of_network(file):
            pass
    await side.namespaces.make_network(file, IdRange(1_500_000))
    try:
        assert side.namespaces.has_network(file)
        with pytest.raises(AlreadyExists):
            await side.namespaces.make_network(file, IdRange(1_600_000))
        before = held()
        async with side.namespaces.user_of_network(file) as user:
            assert isinstance(user, Path)
        assert held() == before
    finally:
        await side.namespaces.remove_network(file)
    assert not side.namespaces.has_network(file)
    await side.namespaces.make_network(file, IdRange(1_600_000))
    await side.namespaces.remove_network(file)


async def test_the_network_namespace_of_a_process_can_be_kept(side: Side, tmp_path: Path) -> None:
    file = tmp_path / "netns" / "web"
    with pytest.raises(WrongState):
        await side.namespaces.keep_network(ProcessRef(2**22 - 1, 1), file)
    assert not side.namespaces.has_network(file)
    await side.namespaces.keep_network(side.process, file)
    try:
        assert side.namespaces.has_network(file)
        with pytest.raises(AlreadyExists):
            await side.namespaces.keep_network(side.process, file)
        if isinstance(side.namespaces, LinuxNamespaces):
            assert os.stat(file).st_ino == os.stat(f"/proc/{side.process.pid}/ns/net").st_ino
    finally:
        await side.namespaces.remove_network(file)
    assert not side.namespaces.has_network(file)


async def test_a_network_namespace_is_made_beside_another_one(side: Side, tmp_path: Path) -> None:
    first, second, file = tmp_path / "netns" / "db", tmp_path / "netns" / "web", tmp_path / "netns" / "other"
    with pytest.raises(WrongState):
        await side.namespaces.make_network(second, IdRange(1_500_000), beside=first)
    assert not side.namespaces.has_network(second)
    for path, beside in ((first, None), (second, first), (file, None)):
        await side.namespaces.make_network(path, IdRange(1_500_000), beside=beside)
    try:
        assert side.namespaces.has_network(second)
        if isinstance(side.namespaces, LinuxNamespaces):
            assert len({os.stat(path).st_ino for path in (first, second, file)}) == 3
            owners = []
            for path in (first, second, file):
                async with side.namespaces.user_of_network(path) as user:
                    owners.append(os.stat(user).st_ino)
            assert owners[0] == owners[1] != owners[2]
    finally:
        for path in (first, second, file):
            await side.namespaces.remove_network(path)


# From here on: tests with real namespaces only.


async def test_the_daemons_network_namespace_is_not_an_instances(tmp_path: Path) -> None:
    here = PROCESSES.identify(os.getpid())
    assert here is not None
    with pytest.raises(WrongState, match="daemon"):
        await LinuxNamespaces().keep_network(here, tmp_path / "web")
    assert os.listdir(tmp_path) == []


async def test_root_of_the_range_administers_its_network_namespace(tmp_path: Path) -> None:
    namespaces, file = LinuxNamespaces(), tmp_path / "web"
    file.touch()  # as after a reboot of the host
    assert not namespaces.has_network(file)
    await namespaces.make_network(file, IdRange(1_500_000))
    try:
        async with namespaces.user_of_network(file) as user:
            with user.open() as opened:
                owner = fcntl.ioctl(opened, 0xB704, b"\0" * 4)  # NS_GET_OWNER_UID
            assert int.from_bytes(owner, sys.byteorder) == 1_500_000
            enter = ["nsenter", f"--net={file}", f"--user={user}", "--setuid", "0"]
            before = await PROCESSES.run([*enter, "ip", "-j", "link"])
            assert "UP" in json.loads(before.stdout)[0]["flags"]
            await PROCESSES.run([*enter, "ip", "link", "set", "lo", "mtu", "1400"])
            listed = await PROCESSES.run([*enter, "ls", "-ln", "/proc/self/net/arp"])
            assert listed.stdout.split()[2:4] == [b"0", b"0"]
        links = await PROCESSES.run(["nsenter", f"--net={file}", "ip", "-j", "link"])
        assert [(link["ifname"], link["mtu"]) for link in json.loads(links.stdout)] == [("lo", 1400)]
    finally:
        await namespaces.remove_network(file)
    assert not file.exists() and os.getresuid() == (0, 0, 0)


async def test_many_network_namespaces_are_created_concurrently(tmp_path: Path) -> None:
    namespaces, files = LinuxNamespaces(), [tmp_path / str(number) for number in range(12)]
    await asyncio.gather(*(namespaces.make_network(file, IdRange(1_500_000)) for file in files))
    try:
        assert len({os.stat(file).st_ino for file in files}) == 12
    finally:
        await asyncio.gather(*(namespaces.remove_network(file) for file in files))
    assert os.listdir(tmp_path) == []


@pytest.fixture(params=["fake", "linux"])
async def routed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Namespaces, Path]]:
    """A network namespace with two default routes of IPv6, and one that leads nowhere."""
    path = tmp_path / "netns" / "routed"
    if request.param == "fake":
        fake = FakeNamespaces()
        await fake.make_network(path, IdRange(1 << 20))
        fake.default_routes[path] = 2
        yield fake, path
        return
    linux = LinuxNamespaces()
    await linux.make_network(path, IdRange(1 << 20))
    try:
        for command in (
            "link set lo up",
            "link add one type veth peer name two",
            "link set two up",
            "link set one up",
            "route add default via fe80::1 dev one metric 1",
            "route add default via fe80::2 dev one metric 2",
            "route add unreachable default metric 3",
            "route add fd42::/64 dev one",
        ):
            await PROCESSES.run(["nsenter", f"--net={path}", "ip", "-6", *command.split()])
        yield linux, path
    finally:
        await linux.remove_network(path)


async def test_links_ignore_routers(routed: tuple[Namespaces, Path]) -> None:
    namespaces, path = routed
    assert await namespaces.refuse_routers(path) == 2
    if isinstance(namespaces, LinuxNamespaces):
        settings = ["/proc/sys/net/ipv6/conf/one/accept_ra", "/proc/sys/net/ipv6/conf/default/accept_ra"]
        assert (await PROCESSES.run(["nsenter", f"--net={path}", "cat", *settings])).stdout == b"0\n0\n"
    assert await namespaces.refuse_routers(path, ipv6=False) == 0
    assert await namespaces.refuse_routers(path) == 0


async def test_the_daemon_does_not_ignore_routers(routed: tuple[Namespaces, Path]) -> None:
    before = settings_of_daemon()
    await routed[0].refuse_routers(routed[1], ipv6=False)
    assert settings_of_daemon() == before


async def test_parameters_of_a_network_namespace(routed: tuple[Namespaces, Path]) -> None:
    namespaces, path = routed
    wanted = {"ipv4/conf/one/log_martians": "1", "ipv6/conf/one/accept_ra": "2"}
    before = settings_of_daemon()
    await namespaces.set_parameters(path, wanted)
    if isinstance(namespaces, LinuxNamespaces):
        files = [f"/proc/sys/net/{name}" for name in wanted]
        assert (await PROCESSES.run(["nsenter", f"--net={path}", "cat", *files])).stdout == b"1\n2\n"
        with pytest.raises(HostFailure, match="Cannot write 'many' to"):
            await namespaces.set_parameters(path, {"ipv4/conf/one/log_martians": "many"})
    with pytest.raises(NotFound, match="/proc/sys/net/ipv4/conf/one/none is not a sysctl file"):
        await namespaces.set_parameters(path, {"ipv4/conf/one/none": "1"})
    with pytest.raises(WrongState, match="no network namespace"):
        await namespaces.set_parameters(path.with_name("none"), wanted)
    assert settings_of_daemon() == before


def settings_of_daemon() -> list[str]:
    return [
        Path(f"/proc/sys/net/ipv6/conf/{link}/{name}").read_text()
        for link, name in (("default", "accept_ra"), ("lo", "accept_ra"), ("all", "disable_ipv6"))
    ]


async def test_there_are_no_routers_of_a_network_namespace_that_is_not_there(
    routed: tuple[Namespaces, Path], tmp_path: Path
) -> None:
    with pytest.raises(WrongState, match="no network namespace"):
        await routed[0].refuse_routers(tmp_path / "none")


async def test_a_network_namespace_that_cannot_be_kept_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(HostFailure, match="network namespace"):
        await LinuxNamespaces().make_network(tmp_path / "no" / "such" / "place", IdRange(1_500_000))
    assert os.listdir(tmp_path) == []


async def test_a_user_namespace_belongs_to_the_first_id_of_its_range() -> None:
    async with LinuxNamespaces().user(IdRange(1_500_000, 1000)) as file:
        with file.open() as namespace:
            owner = fcntl.ioctl(namespace, 0xB704, b"\0" * 4)  # NS_GET_OWNER_UID
        assert int.from_bytes(owner, sys.byteorder) == 1_500_000
        done = await PROCESSES.run(["nsenter", f"--user={file}", "--setuid", "0", "cat", "/proc/self/uid_map"])
        assert done.stdout.split() == [b"0", b"1500000", b"1000"]
    assert os.getresuid() == (0, 0, 0)
    assert not file.exists()


_TALK = """
import socket, sys
heard = {address: socket.create_server((address, 0), family=family) for address, family in
         (("10.1.2.3", socket.AF_INET), ("127.0.0.1", socket.AF_INET), ("fd42::3", socket.AF_INET6))}
def call(address): return socket.create_connection(heard[address].getsockname()[:2]), heard[address].accept()
kept = [call("127.0.0.1")]
for address in ("10.1.2.3", "10.1.2.3", "fd42::3"): kept.append(call(address))
print("ready", flush=True); sys.stdin.readline()
"""


async def test_clients_are_connections_that_others_have_opened(child: Child) -> None:
    await inside(
        child,
        "ip link set lo up",
        "ip link add eth0 type bridge",
        "ip addr add 10.1.2.3/24 dev eth0",
        "ip addr add fd42::3/64 dev eth0 nodad",
        "ip link set eth0 up",
    )
    namespaces = LinuxNamespaces()
    assert namespaces.clients(child.ref) == 0
    program = ["nsenter", f"--net=/proc/{child.ref.pid}/ns/net", sys.executable, "-c", _TALK]
    talking = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert talking.stdout is not None and await talking.stdout.readline() == b"ready\n"
    assert namespaces.clients(child.ref) == 3, "not the one of loopback, and not the other ends"
    await talking.communicate(b"\n")
    assert namespaces.clients(child.ref) == 0
    assert namespaces.clients(replace(child.ref, started=child.ref.started - 1)) == 0


def test_a_process_that_has_ended_has_no_clients(side: Side) -> None:
    assert side.namespaces.clients(side.process) == 0
    assert side.namespaces.clients(ProcessRef(2**22 - 1, 1)) == 0


async def test_interfaces_are_those_shown_by_ip(child: Child) -> None:
    await inside(
        child,
        "ip link set lo up",
        "ip link add eth0 type veth peer name other",
        "ip link add br0 type bridge",
        "ip link set eth0 up",
        "ip link set other up",
        "ip link set br0 up",
        "ip addr add 10.1.2.3/24 dev eth0",
        "ip addr add 10.1.2.4/24 dev eth0",
        "ip addr add 10.1.0.1/16 dev br0",
        "ip addr add 169.254.7.7/16 dev other",
        "ip addr add 192.168.5.129/25 dev br0",
        "ip addr add fd42::3/64 dev eth0 nodad",
        "ip route add default via 10.1.2.1",
        "ip route add unreachable 172.16.0.0/12",
    )
    talk = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x' * 100, ('127.0.0.1', 9))"
    await PROCESSES.run(["nsenter", f"--net=/proc/{child.ref.pid}/ns/net", "python3", "-c", talk])
    said = await PROCESSES.run(["nsenter", f"--net=/proc/{child.ref.pid}/ns/net", "ip", "-j", "-s", "addr"])
    seen = {link.name: link for link in LinuxNamespaces().interfaces(child.ref)}
    expected = {link["ifname"]: link for link in json.loads(said.stdout)}
    assert set(seen) == set(expected)
    for name, link in expected.items():
        addresses = {(row["local"], str(row["prefixlen"])) for row in link["addr_info"]}
        assert {(address.address, address.netmask) for address in seen[name].addresses} == addresses
    assert seen["lo"].packets_sent == expected["lo"]["stats64"]["tx"]["packets"] > 0
    assert seen["lo"].bytes_received == expected["lo"]["stats64"]["rx"]["bytes"] > 0
    scopes = {address.address: address.scope for address in seen["other"].addresses}
    assert scopes["169.254.7.7"] == "link"


async def test_an_address_without_a_prefix_belongs_to_the_default_route(child: Child) -> None:
    await inside(
        child,
        "ip link add eth0 type bridge",
        "ip link set eth0 up",
        "ip addr add 203.0.113.9/32 dev eth0",
        "ip route add default dev eth0",
    )
    (eth0,) = [link for link in LinuxNamespaces().interfaces(child.ref) if link.name == "eth0"]
    assert Address("inet", "203.0.113.9", "32", "global") in eth0.addresses


async def test_a_namespace_full_of_routes_is_read_quickly(child: Child) -> None:
    await inside(child, "ip link add eth0 type bridge", "ip link set eth0 up", "ip addr add 10.1.2.3/24 dev eth0")
    routes = "".join(f"route add 11.{n >> 8}.{n & 255}.0/24 dev eth0\n" for n in range(20_000))
    enter = ["nsenter", f"--net=/proc/{child.ref.pid}/ns/net"]
    await PROCESSES.run([*enter, "ip", "-batch", "-"], stdin=routes.encode())
    begun = time.process_time()
    (eth0,) = [link for link in LinuxNamespaces().interfaces(child.ref) if link.name == "eth0"]
    assert time.process_time() - begun < 0.5
    assert eth0.name == "eth0"


def test_a_shared_trie_is_read_once_per_address() -> None:
    leaf = "     |-- 10.1.2.3\n        /32 host LOCAL\n"
    routes = parse_routes("head\neth0 0002010A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n")
    assert list(parse_ipv4(f"Main:\n{leaf}Local:\n{leaf}", routes)) == [
        ("eth0", Address("inet", "10.1.2.3", "24", "global"))
    ]
