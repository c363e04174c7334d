"""Adopting, starting, restarting and stopping the dnsmasq of a network."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from pathlib import Path

import pytest
from network_host import fake_network_host

from isola.errors import HostFailure
from isola.network.bridge.nameserver import Nameserver
from isola.testing.processes import Call, FakeProcess, FakeProcesses


class Dnsmasq:
    """A program that daemonizes and writes its PID to a file, as dnsmasq does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes = FakeProcesses({"dnsmasq": self.start})
        self.host = dataclasses.replace(fake_network_host(), processes=self.processes)
        self.broken = 0
        self.stderr = b"dnsmasq: bad option at line 3"
        self.forgets_its_file = False
        self.lingers = False
        self.may_start = asyncio.Event()
        self.may_start.set()
        directory.mkdir()

    async def start(self, call: Call) -> int:
        await self.may_start.wait()
        if self.broken:
            self.broken -= 1
            call.err(self.stderr)
            if self.lingers:  # the process in the background ends after the one that started it
                failed = self.processes.add(*call.argv)
                (self.directory / "dnsmasq.pid").write_text(f"{failed.ref.pid}\n")
                asyncio.get_running_loop().call_later(0.05, failed.end, 1)
            return 1
        process = self.processes.add(*call.argv)
        if not self.forgets_its_file:
            (self.directory / "dnsmasq.pid").write_text(f"{process.ref.pid}\n")
        return 0

    def nameserver(self) -> Nameserver:
        return Nameserver(self.host, self.directory)

    @property
    def servers(self) -> list[FakeProcess]:
        """Running dnsmasq processes."""
        return [process for process in self.processes.running if process.call.argv[0] == "dnsmasq"]


@pytest.fixture
def dnsmasq(tmp_path: Path) -> Dnsmasq:
    return Dnsmasq(tmp_path / "lab")


async def settle() -> None:
    """Let all pending tasks run; files are read in threads."""
    for _ in range(20):
        await asyncio.sleep(0.005)


async def test_it_is_started_once_and_ended(dnsmasq: Dnsmasq) -> None:
    server = dnsmasq.nameserver()
    await server.ensure("one")
    await server.ensure("one")
    (process,) = dnsmasq.servers
    assert server.pid == process.ref.pid
    assert (dnsmasq.directory / "dnsmasq.conf").read_text() == "one"
    await server.stop()
    await server.stop()
    assert dnsmasq.servers == [] and process.received == [signal.SIGTERM]
    await settle()
    assert dnsmasq.servers == []


async def test_the_next_daemon_adopts_it(dnsmasq: Dnsmasq) -> None:
    first, second = dnsmasq.nameserver(), dnsmasq.nameserver()
    await first.ensure("one")
    first.leave()
    before = dnsmasq.servers
    await second.ensure("one")
    assert dnsmasq.servers == before
    before[0].end(1)
    await settle()
    assert len(dnsmasq.servers) == 1 and dnsmasq.servers != before
    await second.stop()


async def test_a_changed_configuration_means_a_new_one(dnsmasq: Dnsmasq) -> None:
    server = dnsmasq.nameserver()
    await server.ensure("one")
    before = dnsmasq.servers
    await server.ensure("two")
    assert len(dnsmasq.servers) == 1 and dnsmasq.servers != before
    assert (dnsmasq.directory / "dnsmasq.conf").read_text() == "two"
    await settle()
    assert len(dnsmasq.servers) == 1
    await server.stop()


async def test_a_dying_dnsmasq_is_restarted_each_time(dnsmasq: Dnsmasq) -> None:
    server = dnsmasq.nameserver()
    await server.ensure("one")
    for _ in range(4):
        (process,) = dnsmasq.servers
        dnsmasq.broken = 2
        process.end(-9)
        await settle()
        assert len(dnsmasq.servers) == 1 and not process.running
    assert dnsmasq.host.clock.monotonic() > 1, "growing pauses"
    await server.stop()


async def test_another_process_with_its_pid_is_left_alone(dnsmasq: Dnsmasq) -> None:
    other = dnsmasq.processes.add("postgres", "--conf-file=/elsewhere")
    (dnsmasq.directory / "dnsmasq.pid").write_text(str(other.ref.pid))
    server = dnsmasq.nameserver()
    await server.stop()
    await server.ensure("one")
    assert other.received == [] and len(dnsmasq.servers) == 1
    await server.stop()
    assert other.running and other.received == []


async def test_an_invalid_pid_file_is_ignored(dnsmasq: Dnsmasq) -> None:
    (dnsmasq.directory / "dnsmasq.pid").write_text("x" * 99)
    server = dnsmasq.nameserver()
    await server.ensure("one")
    assert len(dnsmasq.servers) == 1
    await server.stop()


async def test_a_failed_start_of_dnsmasq_has_a_reason(dnsmasq: Dnsmasq) -> None:
    dnsmasq.broken = 1
    server = dnsmasq.nameserver()
    with pytest.raises(HostFailure, match="Cannot start dnsmasq for network 'lab': dnsmasq: bad option at line 3"):
        await server.ensure("one")
    await server.ensure("one")
    assert len(dnsmasq.servers) == 1
    await server.stop()


async def test_a_failed_dnsmasq_that_has_not_quite_ended_is_no_success(dnsmasq: Dnsmasq) -> None:
    dnsmasq.broken, dnsmasq.lingers = 1, True
    with pytest.raises(HostFailure, match="Cannot start dnsmasq for network 'lab': dnsmasq: bad option at line 3"):
        await dnsmasq.nameserver().ensure("one")
    assert dnsmasq.servers == []


async def test_exhausted_inotify_instances_have_a_remedy(dnsmasq: Dnsmasq) -> None:
    dnsmasq.broken, dnsmasq.stderr = 1, b"\ndnsmasq: failed to create inotify: Too many open files\n"
    with pytest.raises(HostFailure) as caught:
        await dnsmasq.nameserver().ensure("one")
    assert caught.value.message == "Cannot start dnsmasq for network 'lab'"
    assert caught.value.evidence == "dnsmasq: failed to create inotify: Too many open files"
    assert "fs.inotify.max_user_instances" in caught.value.remedy
    assert caught.value.code == "host_failure"


async def test_a_dnsmasq_that_ends_at_once_is_an_error(dnsmasq: Dnsmasq) -> None:
    dnsmasq.forgets_its_file = True
    with pytest.raises(HostFailure, match="ended at once"):
        await dnsmasq.nameserver().ensure("one")


async def test_reload_requests_are_merged(dnsmasq: Dnsmasq) -> None:
    server = dnsmasq.nameserver()
    await server.ensure("one")
    (process,) = dnsmasq.servers
    process.ignores.add(signal.SIGHUP)
    for _ in range(5):
        server.reload()
    await asyncio.sleep(0.3)
    assert process.received == [signal.SIGHUP]
    server.reload()
    server.hasten()
    server.hasten()
    assert process.received == [signal.SIGHUP] * 2
    server.reload()
    await server.stop()
    await asyncio.sleep(0.3)
    assert process.received == [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]


async def test_a_dnsmasq_that_does_not_end_is_killed(dnsmasq: Dnsmasq) -> None:
    server = dnsmasq.nameserver()
    await server.ensure("one")
    (process,) = dnsmasq.servers
    process.ignores.add(signal.SIGTERM)
    await server.stop()
    assert process.received == [signal.SIGTERM, signal.SIGKILL] and dnsmasq.servers == []


async def test_a_dnsmasq_of_a_cancelled_start_is_not_lost(dnsmasq: Dnsmasq) -> None:
    server = dnsmasq.nameserver()
    dnsmasq.may_start.clear()
    starting = asyncio.ensure_future(server.ensure("one"))
    await settle()
    starting.cancel()
    await settle()
    dnsmasq.may_start.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await server.stop()
    await settle()
    assert dnsmasq.servers == []
