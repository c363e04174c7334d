"""Published ports, as another machine, the host and neighbours reach them, under the administrator's own rules."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from command import Cli
from daemon import Daemon
from echoes import ask, echo, until_answer
from lxc_client import Lxc
from proxy_bed import Bed

HOST, OUTSIDE, LOOPBACK = "192.0.2.1", "192.0.2.2", "127.0.0.1"
HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::2"
ESTABLISHED = "ct state established,related accept;"


@dataclass
class Outside(Bed):
    """The same with another machine, on a link of the host."""

    machine: str = ""

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.machine}"]

    def ask(self, *where: str, kind: str = "tcp") -> str:
        return ask(self.enter, "hello", kind, *where)

    def is_dropped(self, *ways: tuple[str, ...]) -> bool:
        """Whether no way ``ADDRESS PORT [udp]`` is answered; all are tried at the same time."""

        def tried(way: tuple[str, ...]) -> str:
            enter = self.host if way[0] == LOOPBACK else self.enter
            return ask(enter, "hello", *(way[2:] or ("tcp",)), *way[:2], seconds=2)

        with ThreadPoolExecutor(len(ways)) as pool:
            return set(pool.map(tried, ways)) == {"error: TimeoutError"}

    def rules(self, *chains: str) -> None:
        """The administrator's table, instead of the one before."""
        text = "\n".join(("add table inet admin", "delete table inet admin", "table inet admin {", *chains, "}"))
        subprocess.run([*self.host, "nft", "-f", "-"], input=f"{text}\n".encode(), check=True)


@pytest.fixture
def bed(daemon: Daemon, lxc: Lxc, instance: str) -> Iterator[Outside]:
    machine = f"out{time.monotonic_ns() % 10**8}"
    made = Outside(daemon, lxc, instance, machine)
    made.configure()
    _run("ip", "netns", "add", machine)
    try:
        link = ("link", "add", "up0", "netns", str(daemon.netns), "type", "veth", "peer", "name", "eth0")
        _run("ip", *link, "netns", machine)
        for at, name, *addresses in ((str(daemon.netns), "up0", HOST, HOST6), (machine, "eth0", OUTSIDE, OUTSIDE6)):
            for address in addresses:
                prefix, more = ("64", ["nodad"]) if ":" in address else ("24", [])
                _run("ip", "-n", at, "addr", "add", f"{address}/{prefix}", "dev", name, *more)
            _run("ip", "-n", at, "link", "set", name, "up")
        with echo(made.inside, "tcp", "0.0.0.0", "80"), echo(made.inside, "udp", "0.0.0.0", "53"):
            yield made
    finally:
        made.rules()
        subprocess.run([*made.host, "nft", "delete", "table", "inet", "admin"], check=True)
        _run("ip", "-n", str(daemon.netns), "link", "del", "up0")
        _run("ip", "netns", "del", machine)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def publish(bed: Outside) -> None:
    bed.add("web", "listen=tcp:[::]:7000", "connect=tcp:0.0.0.0:80", "nat=true")
    bed.add("dns", "listen=udp:0.0.0.0:7053", "connect=udp:0.0.0.0:53", "nat=true")


def test_from_outside_with_the_clients_address_and_from_the_host(bed: Outside) -> None:
    publish(bed)
    assert bed.ask(HOST, "7000") == f"{OUTSIDE} hello"
    assert bed.ask(HOST, "7053", kind="udp") == f"{OUTSIDE} hello"
    for address in ("127.0.0.1", "::1", HOST):
        assert ask(bed.host, "hello", "tcp", address, "7000") == f"{bed.gateway} hello"
    assert ask(bed.host, "hello", "udp", "127.0.0.1", "7053") == f"{bed.gateway} hello"
    bed.daemon.kill()
    assert bed.ask(HOST, "7000") == f"{OUTSIDE} hello"
    bed.daemon.start()
    assert bed.ask(HOST, "7000") == f"{OUTSIDE} hello"
    bed.remove("web")
    assert bed.ask(HOST, "7000") == "error: ConnectionRefusedError"


def test_a_rule_on_input_blocks_them(bed: Outside) -> None:
    publish(bed)
    bed.rules("chain input { type filter hook input priority 0; tcp dport 7000 drop; udp dport 7053 drop; }")
    assert bed.is_dropped((HOST, "7000"), (HOST6, "7000"), (HOST, "7053", "udp"), (LOOPBACK, "7000"))
    bed.rules(f"chain input {{ type filter hook input priority 0; policy drop; {ESTABLISHED} }}")
    assert bed.is_dropped((HOST, "7000"))
    bed.rules(
        f"chain input {{ type filter hook input priority 0; policy drop; {ESTABLISHED}"
        f" ip saddr {OUTSIDE} ct state new tcp dport 7000 accept; }}"
    )
    until_answer(f"{OUTSIDE} hello", bed.enter, "hello", "tcp", HOST, "7000")
    assert bed.is_dropped((HOST6, "7000"))


def test_a_policy_on_forward_is_respected(bed: Outside) -> None:
    publish(bed)
    bed.rules(f"chain forward {{ type filter hook forward priority 0; policy drop; {ESTABLISHED} }}")
    assert bed.is_dropped((HOST, "7000"), (HOST, "7053", "udp"))
    bed.rules(
        f"chain forward {{ type filter hook forward priority 0; policy drop; {ESTABLISHED}"
        " meta l4proto tcp ct original proto-dst 7000 accept; }"
    )
    until_answer(f"{OUTSIDE} hello", bed.enter, "hello", "tcp", HOST, "7000")
    bed.rules(f"chain forward {{ type filter hook forward priority 0; ip daddr {bed.address} drop; }}")
    assert bed.is_dropped((HOST, "7000"))


def test_by_ipv6_from_outside(bed: Outside) -> None:
    bed.add("six", "listen=tcp:[::]:7006", "connect=tcp:[::]:86", "nat=true")
    with echo(bed.inside, "tcp", "::", "86"):
        until_answer(f"{OUTSIDE6} hello", bed.enter, "hello", "tcp", HOST6, "7006")
        assert ask(bed.host, "hello", "tcp", "::1", "7006") == f"::ffff:{bed.gateway} hello"


def test_a_port_that_is_taken_is_refused_and_one_that_is_free_is_chosen(bed: Outside, isola: Cli) -> None:
    publish(bed)
    command = ("config", "device", "add", bed.name, "other", "proxy", "listen=tcp:0.0.0.0:7000")
    said = isola(*command, "connect=tcp:0.0.0.0:81", "nat=true", check=False)
    assert said.returncode == 1 and "Bind for 0.0.0.0:7000 failed: port is already allocated" in said.stderr
    bed.add("any", "listen=tcp:0.0.0.0:0", "connect=tcp:0.0.0.0:80", "nat=true")
    port = bed.daemon.get(f"/1.0/instances/{bed.name}")["config"]["volatile.any.ports"]
    assert bed.ask(HOST, port) == f"{OUTSIDE} hello"
    bed.lxc("restart", "--force", bed.name)
    assert bed.daemon.get(f"/1.0/instances/{bed.name}")["config"]["volatile.any.ports"] == port


def test_ports_are_changed_while_the_instance_runs(bed: Outside) -> None:
    publish(bed)
    bed.lxc("config", "device", "set", bed.name, "web", "listen=tcp:0.0.0.0:7100")
    assert bed.ask(HOST, "7100") == f"{OUTSIDE} hello"
    assert bed.ask(HOST, "7000") == "error: ConnectionRefusedError"
    until_answer(f"{bed.gateway} hello", bed.host, "hello", "tcp", "127.0.0.1", "7100")


SCTP = """
import socket, struct, sys
def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
raw.settimeout(3)
if sys.argv[1] == "listen":
    print("ready", flush=True)
    data, (sender, _) = raw.recvfrom(1000)
    print(sender, struct.unpack("!H", data[22:24])[0], flush=True)
else:
    init = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 7)
    head = struct.pack("!HHI", 5000, int(sys.argv[2]), 0)
    packet = head + struct.pack("<I", crc(head + bytes(4) + init)) + init
    raw.sendto(packet, (sys.argv[1], 0))
"""


def test_sctp_is_forwarded_by_the_kernel(bed: Outside, isola: Cli) -> None:
    bed.add("signal", "listen=sctp:0.0.0.0:7132", "connect=sctp:0.0.0.0:2905", "nat=true")
    assert bed.publishers() == []
    with subprocess.Popen([*bed.inside, sys.executable, "-c", SCTP, "listen"], stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None and listener.stdout.readline() == b"ready\n"
        subprocess.run([*bed.enter, sys.executable, "-c", SCTP, HOST, "7132"], check=True)
        assert listener.stdout.read().decode().split() == [OUTSIDE, "2905"]
    command = ("config", "device", "add", bed.name, "again", "proxy", "listen=sctp:0.0.0.0:7131-7132")
    said = isola(*command, "connect=sctp:0.0.0.0:81", "nat=true", check=False)
    assert said.returncode == 1 and "Bind for 0.0.0.0:7132 failed: port is already allocated" in said.stderr
    said = isola(*command[:-1], "listen=sctp:0.0.0.0:7133", "connect=sctp:0.0.0.0:81", check=False)
    assert said.returncode == 1 and "SCTP is forwarded by the kernel only" in said.stderr
    bed.remove("signal")
    assert not bed.rewriting()


def test_a_change_of_one_port_disturbs_no_connection(bed: Outside) -> None:
    publish(bed)
    (before,) = bed.publishers()
    with echo(bed.inside, "tcp", "0.0.0.0", "81"):
        bed.add("other", "listen=tcp:0.0.0.0:7200", "connect=tcp:0.0.0.0:81", "nat=true")
        code = (
            "import socket,sys\ns=socket.create_connection(('127.0.0.1',7000))\nprint('open',flush=True)\n"
            "sys.stdin.readline()\ns.sendall(b'late')\ns.shutdown(1)\nprint(s.recv(100))"
        )
        argv = [*bed.host, sys.executable, "-c", code]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None and client.stdout.readline() == "open\n"
            bed.lxc("config", "device", "set", bed.name, "other", "listen=tcp:0.0.0.0:7201")
            bed.lxc("config", "device", "set", bed.name, "web", "listen=tcp:[::]:7000-7001")
            bed.remove("dns")
            said, _ = client.communicate("go\n", timeout=120)
            assert "late" in said
        assert ask(bed.host, "hello", "tcp", "127.0.0.1", "7201") == f"{bed.gateway} hello"
        assert ask(bed.host, "hello", "tcp", "127.0.0.1", "7001") == f"{bed.gateway} hello"
    assert bed.publishers() == [before]


SENDER = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("0.0.0.0", 5353))
client.settimeout(20)
for _ in range(2):
    client.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
    try:
        print(client.recv(100).decode(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    sys.stdin.readline()
    client.settimeout(1)
"""


def test_a_port_for_datagrams_that_is_removed_is_closed_for_present_senders(bed: Outside) -> None:
    publish(bed)
    argv = [*bed.enter, sys.executable, "-c", SENDER, HOST, "7053"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None and sender.stdout.readline() == f"{OUTSIDE} hello\n"
        bed.remove("dns")
        said, _ = sender.communicate("\n\n", timeout=120)
    assert said.split()[0] in ("TimeoutError", "ConnectionRefusedError")
