"""The name server of an instance on several networks: its files, its rules, and when it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from network_host import fake_network_host

from isola.host import Host
from isola.model.identity import HostNames
from isola.network.bridge.shared_names import SharedNames, Side, configuration, redirection
from isola.testing.firewall import FakeFirewall
from isola.testing.processes import Call, FakeProcess, FakeProcesses
from isola.testing.sockets import FakeSockets

NAMES = HostNames("isola-7e57")
FRONT = Side("front", "br-front", ("10.1.0.5", "fd01::5"), Path("/n/front"), "isola", True, "dnsmasq")
BACK = Side("back", "br-back", ("10.2.0.5",), Path("/n/back"), "lab", False, "dnsmasq")


class Bed:
    """A host on which dnsmasq goes to the background at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes = FakeProcesses({"dnsmasq": self.start})
        self.firewall = FakeFirewall()
        self.host: Host = dataclasses.replace(
            fake_network_host(), processes=self.processes, firewall=self.firewall, sockets=FakeSockets()
        )
        self.broken = 0

    async def start(self, call: Call) -> int:
        if self.broken:
            self.broken -= 1
            call.err(b"dnsmasq: failed to create listening socket: Address already in use")
            return 2
        process = self.processes.add(*call.argv)
        home = Path(call.argv[1].partition("=")[2]).parent
        (home / "dnsmasq.pid").write_text(f"{process.ref.pid}\n")
        return 0

    def names(self) -> SharedNames:
        return SharedNames(self.host, self.directory / "names", NAMES)

    @property
    def servers(self) -> list[FakeProcess]:
        return [process for process in self.processes.running if process.call.argv[0] == "dnsmasq"]


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_it_knows_all_names_and_asks_others_if_one_network_permits() -> None:
    lines = configuration((FRONT, BACK), 40001, Path("/home")).splitlines()
    assert {"port=40001", "interface=br-front", "interface=br-back", "local=/isola/", "local=/lab/"} <= set(lines)
    assert {"hostsdir=/n/front", "hostsdir=/n/back", "user=dnsmasq"} <= set(lines) and "no-resolv" not in lines
    assert "no-resolv" in configuration((BACK, dataclasses.replace(BACK, network="x")), 1, Path("/home")).splitlines()


def test_only_queries_of_the_instance_to_the_host_are_redirected() -> None:
    rules = redirection((FRONT, BACK), 40001)
    for link, source in (
        ("br-front", "ip saddr 10.1.0.5"),
        ("br-front", "ip6 saddr fd01::5"),
        ("br-back", "ip saddr 10.2.0.5"),
    ):
        assert (
            f'iifname "{link}" {source} fib daddr type local meta l4proto {{ tcp, udp }} th dport 53 redirect to :40001'
        ) in rules
    assert rules.count("redirect") == 3


async def test_it_runs_as_long_as_it_is_needed_and_keeps_its_port(bed: Bed) -> None:
    names = bed.names()
    await names.ensure("id1", (FRONT, BACK))
    await names.ensure("id1", (FRONT, BACK))
    (first,) = bed.servers
    (table,) = bed.firewall.bodies
    assert table.startswith("isola-7e57.") and ":32768" in bed.firewall.bodies[table]
    names.leave()
    again = bed.names()
    await again.ensure("id1", (FRONT, BACK))
    assert bed.servers == [first] and ":32768" in bed.firewall.bodies[table]
    await again.end("id1")
    await again.end("id1")
    assert bed.servers == [] and bed.firewall.bodies == {} and not (bed.directory / "names/id1").exists()


async def test_a_later_daemon_ends_what_it_has_not_started(bed: Bed) -> None:
    names = bed.names()
    await names.ensure("id1", (FRONT, BACK))
    names.leave()
    await bed.names().end("id1")
    assert bed.servers == [] and bed.firewall.bodies == {}


async def test_another_port_is_tried_and_a_failure_is_no_obstacle(bed: Bed) -> None:
    names, bed.broken = bed.names(), 1
    await names.ensure("id1", (FRONT, BACK))
    assert len(bed.servers) == 1 and ":32769" in next(iter(bed.firewall.bodies.values()))
    bed.broken = 100
    await names.ensure("id2", (FRONT, BACK))
    assert len(bed.servers) == 1 and len(bed.firewall.bodies) == 1
    await names.end("id2")
    await names.end("id1")
    assert bed.servers == []
