"""NICs on unmanaged links, and rate limits of NICs, by Debian's ``lxc``."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from audit import records
from daemon import Daemon
from echoes import ask, echo
from lxc_client import Lxc

RATE = 8_000_000
"""Bits a second."""
_SENDER = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(4000):
    try:
        sender.sendto(bytes(1000), (sys.argv[1], 7100))
    except OSError:
        pass
"""
_COUNTER = """
import socket, time
counter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
counter.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
counter.bind(("0.0.0.0", 7100))
print("ready", flush=True)
got = len(counter.recv(65536))
counter.settimeout(1)
begun = last = time.monotonic()
try:
    while True:
        got += len(counter.recv(65536))
        last = time.monotonic()
except TimeoutError:
    print(got, last - begun)
"""


@pytest.fixture
def far() -> Iterator[list[str]]:
    """Enters the network namespace of another machine."""
    name = f"isola-far-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield ["nsenter", f"--net=/run/netns/{name}"]
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def lan(daemon: Daemon, far: list[str]) -> Iterator[str]:
    """A link of the host with a neighbour (198.51.100.1) at its other end."""
    name, machine = f"lan{uuid.uuid4().hex[:6]}", far[-1].rpartition("/")[2]
    try:
        daemon.inside("ip", "link", "add", name, "up", "type", "veth", "peer", "name", "far0", "netns", machine)
        for arguments in ("link set far0 up", "addr add 198.51.100.1/24 dev far0"):
            daemon.inside("ip", "-n", machine, *arguments.split())
        yield name
    finally:
        daemon.inside("ip", "link", "del", name, check=False)


def inside(lxc: Lxc, name: str) -> list[str]:
    return ["nsenter", "-t", str(lxc.daemon.pid(name)), "-n"]


def host(lxc: Lxc) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{lxc.daemon.netns}"]


def run(enter: list[str], *argv: str) -> str:
    return subprocess.run([*enter, *argv], check=True, capture_output=True, text=True).stdout


def address(lxc: Lxc, name: str, interface: str, value: str) -> None:
    run(inside(lxc, name), "ip", "link", "set", interface, "up")
    run(inside(lxc, name), "ip", "addr", "add", value, "dev", interface)


def test_macvlan_reaches_neighbours_of_its_parent(lxc: Lxc, instance: str, lan: str, far: list[str]) -> None:
    command = ("config", "device", "add", instance, "eth7", "nic", "nictype=macvlan", "name=eth7")
    lxc(*command, f"parent={lan}", "hwaddr=10:66:6a:00:00:77")
    assert "10:66:6a:00:00:77" in lxc("exec", instance, "--", "ip", "link", "show", "eth7")
    with echo(far, "tcp", "198.51.100.1", "80"):
        address(lxc, instance, "eth7", "198.51.100.2/24")
        assert ask(inside(lxc, instance), "hello", "tcp", "198.51.100.1", "80") == "198.51.100.2 hello"
        lxc.daemon.kill()
        lxc.daemon.start()
        assert ask(inside(lxc, instance), "hello", "tcp", "198.51.100.1", "80") == "198.51.100.2 hello"
        lxc("restart", "--force", instance)
        address(lxc, instance, "eth7", "198.51.100.2/24")
        assert ask(inside(lxc, instance), "hello", "tcp", "198.51.100.1", "80") == "198.51.100.2 hello"
    lxc("config", "device", "set", instance, "eth7", "mtu=1400")
    assert "mtu 1400" in lxc("exec", instance, "--", "ip", "link", "show", "eth7")
    lxc("config", "device", "remove", instance, "eth7")
    assert "eth7" not in lxc("exec", instance, "--", "cat", "/proc/net/dev")
    assert lan in lxc.daemon.links()


def test_a_bridge_of_the_host_and_a_name_in_use(lxc: Lxc, instance: str, lan: str, far: list[str]) -> None:
    lxc.daemon.inside("ip", "link", "add", "own0", "up", "type", "bridge")
    lxc.daemon.inside("ip", "link", "set", lan, "master", "own0")
    try:
        command = ("config", "device", "add", instance, "eth6", "nic", "nictype=bridged", "parent=own0", "name=eth6")
        lxc(*command, "host_name=port6")
        address(lxc, instance, "eth6", "198.51.100.3/24")
        with echo(far, "tcp", "198.51.100.1", "80"):
            assert ask(inside(lxc, instance), "hello", "tcp", "198.51.100.1", "80") == "198.51.100.3 hello"
        before = set(lxc.daemon.links())
        again = [argument.replace("eth6", "eth5") for argument in command]
        lxc(*again, "host_name=port6", status=1)
        lxc(*again, f"host_name={lan}", status=1)
        lxc("config", "device", "add", instance, "more", "nic", "nictype=p2p", "name=eth6", status=1)
        lxc("config", "device", "add", instance, "more", "nic", "nictype=bridged", "parent=none0", status=1)
        assert set(lxc.daemon.links()) <= before  # links of other tests may still go
        lxc("config", "device", "remove", instance, "eth6")
        assert "port6" not in lxc.daemon.links() and {"own0", lan} <= set(lxc.daemon.links())
    finally:
        lxc.daemon.inside("ip", "link", "del", "own0")


def test_p2p_and_routed_nics_transfer_packets(lxc: Lxc, instance: str) -> None:
    add = ("config", "device", "add", instance, "eth8", "nic", "name=eth8")
    lxc(*add, "nictype=routed", "ipv4.address=192.0.2.7")
    with echo(inside(lxc, instance), "tcp", "192.0.2.7", "80"):
        assert ask(host(lxc), "hello", "tcp", "192.0.2.7", "80").endswith(" hello")
    lxc("config", "device", "remove", instance, "eth8")
    assert "192.0.2.7" not in run(host(lxc), "ip", "route")
    lxc(*add, "nictype=p2p", "ipv4.routes=192.0.2.8/32", "host_name=pair8")
    address(lxc, instance, "eth8", "192.0.2.8/32")
    run(inside(lxc, instance), "ip", "route", "add", "192.0.2.1", "dev", "eth8")
    run(host(lxc), "ip", "addr", "add", "192.0.2.1/32", "dev", "pair8")
    with echo(inside(lxc, instance), "tcp", "192.0.2.8", "80"):
        assert ask(host(lxc), "hello", "tcp", "192.0.2.8", "80").endswith(" hello")
    lxc("config", "device", "remove", instance, "eth8")
    assert "pair8" not in lxc.daemon.links()


def test_a_subnet_is_routed_to_a_nic_of_a_network(lxc: Lxc, instance: str, lan: str, far: list[str]) -> None:
    """Also from outside, past the network's firewall, and back with its own address."""
    lxc("config", "device", "override", instance, "eth0", "ipv4.routes=192.0.2.40/29", "limits.priority=6")
    own = lxc.daemon.get(f"/1.0/instances/{instance}")["config"]["volatile.eth0.ipv4"]
    try:
        (line,) = [each for each in run(host(lxc), "ip", "route").splitlines() if each.startswith("192.0.2.40/29")]
        assert line.startswith(f"192.0.2.40/29 via {own} dev ")
        run(inside(lxc, instance), "ip", "addr", "add", "192.0.2.41/32", "dev", "lo")
        gateway = lxc.daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"].split("/")[0]
        address(lxc, instance, "eth0", f"{own}/24")
        run(inside(lxc, instance), "ip", "route", "replace", "default", "via", gateway)
        run(host(lxc), "ip", "addr", "add", "198.51.100.254/24", "dev", lan)
        run(far, "ip", "route", "add", "192.0.2.40/29", "via", "198.51.100.254")
        with echo(inside(lxc, instance), "tcp", "192.0.2.41", "80"):
            assert ask(far, "hello", "tcp", "192.0.2.41", "80") == "198.51.100.1 hello"
        lxc("config", "device", "set", instance, "eth0", "ipv4.routes=192.0.2.48/29")
        assert "192.0.2.40/29" not in run(host(lxc), "ip", "route")
    finally:
        lxc("config", "device", "remove", instance, "eth0")
    assert "192.0.2.48/29" not in run(host(lxc), "ip", "route")


def test_rates_are_enforced_in_both_directions_and_changed_live(lxc: Lxc, instance: str) -> None:
    id = records(lxc.daemon, "instances")[instance]["id"]
    link = lxc.daemon.names.veth(id, "eth0")
    lxc("config", "device", "override", instance, "eth0", "limits.max=8Mbit")
    lxc("config", "device", "set", instance, "eth0", "limits.egress=8Mbit")
    assert "rate 8Mbit" in run(host(lxc), "tc", "qdisc", "show", "dev", link)
    table = lxc.daemon.names.device_table(id, "eth0")
    assert "limit rate over 1000000 bytes/second" in run(host(lxc), "nft", "list", "table", "bridge", table)
    own = lxc.daemon.get(f"/1.0/instances/{instance}")["config"]["volatile.eth0.ipv4"]
    gateway = lxc.daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"].split("/")[0]
    address(lxc, instance, "eth0", f"{own}/24")
    # The burst: a full bucket and the queue, worth a second.
    for sender, target, counting, burst in (
        (host(lxc), own, inside(lxc, instance), 200_000),
        (inside(lxc, instance), gateway, host(lxc), RATE // 8 + 10_000),
    ):
        got, seconds = transferred(sender, target, counting)
        assert 50_000 < got <= burst + seconds * RATE / 8 * 1.05, (got, seconds)
    lxc("config", "device", "set", instance, "eth0", "limits.max=", "limits.egress=")
    assert "tbf" not in run(host(lxc), "tc", "qdisc", "show", "dev", link)
    got, _ = transferred(inside(lxc, instance), gateway, host(lxc))
    assert got > 2_000_000


def transferred(sender: list[str], target: str, counting: list[str]) -> tuple[int, float]:
    """Bytes of 4 MB of datagrams that arrive, and seconds between the first and the last."""
    counter = subprocess.Popen([*counting, sys.executable, "-c", _COUNTER], stdout=subprocess.PIPE, text=True)
    assert counter.stdout is not None
    assert counter.stdout.readline() == "ready\n"
    run([*sender, sys.executable, "-c", _SENDER], target)
    said = counter.communicate(timeout=120)[0].split()
    return int(said[0]), float(said[1])
