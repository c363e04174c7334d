"""Supervised helper programs, on a host in memory."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from isola.errors import HostFailure
from isola.host.companion import FIRST_DELAY, LAST_DELAY, Companion
from isola.testing.clock import FakeClock
from isola.testing.host import fake_host
from isola.testing.processes import FakeProcess

FILE, MARK = Path("/run/pump.pid"), "--of=water"


class Pump:
    """A host with a companion whose starts are counted, and may fail."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.host = fake_host(clock=self.clock)
        self.processes: list[FakeProcess] = []
        self.failures = 0

    def companion(self) -> Companion:
        return Companion(self.host, "pump", pid_file=FILE, mark=MARK, start=self.start)

    async def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise HostFailure("no water")
        self.processes.append(self.host.processes.add("pump", MARK))
        await self.host.files.make_directory(FILE.parent)
        await self.host.files.write(FILE, f"{self.processes[-1].ref.pid}\n".encode())


async def test_it_is_started_once_and_adopted_by_the_next_daemon() -> None:
    pump = Pump()
    first, second = pump.companion(), pump.companion()
    await asyncio.gather(first.ensure(), first.ensure())
    first.leave()
    await second.ensure()
    assert len(pump.processes) == 1 and second.running == pump.processes[0].ref
    await second.stop()
    assert not pump.processes[0].running and second.running is None
    await second.stop()


async def test_a_dying_companion_is_restarted_with_increasing_pauses() -> None:
    pump = Pump()
    companion = pump.companion()
    await companion.ensure()
    for pause in (FIRST_DELAY * 2, FIRST_DELAY * 4, FIRST_DELAY * 8):
        count = len(pump.processes)
        pump.processes[-1].end(1)
        await pump.clock.advance(pause * 0.9)
        assert len(pump.processes) == count
        await pump.clock.advance(pause * 0.2)
        assert len(pump.processes) == count + 1
    await pump.clock.advance(LAST_DELAY * 2)
    count = len(pump.processes)
    pump.failures = 2
    pump.processes[-1].end(1)
    await pump.clock.advance(FIRST_DELAY)
    assert pump.failures == 1, "one that ran for long is started again soon"
    await pump.clock.advance(1)
    assert len(pump.processes) == count + 1
    companion.leave()
    pump.processes[-1].end(1)
    await pump.clock.advance(LAST_DELAY * 2)
    assert len(pump.processes) == count + 1, "it is no longer supervised"


async def test_an_outdated_companion_is_ended_before_the_next_is_prepared() -> None:
    pump = Pump()
    seen: list[bool] = []
    companion = pump.companion()
    await companion.ensure()

    async def fits() -> bool:
        return bool(seen)

    async def prepare() -> None:
        seen.append(pump.processes[0].running)

    await companion.ensure(fits=fits, prepare=prepare)
    assert seen == [False] and len(pump.processes) == 2
    await companion.ensure(fits=fits, prepare=prepare)
    assert seen == [False] and len(pump.processes) == 2


async def test_another_process_with_its_pid_is_neither_adopted_nor_ended() -> None:
    pump = Pump()
    other = pump.host.processes.add("database")
    await pump.host.files.make_directory(FILE.parent)
    await pump.host.files.write(FILE, str(other.ref.pid).encode())
    companion = pump.companion()
    await companion.stop()
    assert other.running and await companion.find() is None
    await companion.ensure()
    companion.signal(signal.SIGHUP)
    assert not other.received and pump.processes[0].received == [signal.SIGHUP]


async def test_a_failing_first_start_is_raised() -> None:
    pump = Pump()
    pump.failures = 1
    companion = pump.companion()
    with pytest.raises(HostFailure, match="no water"):
        await companion.ensure()
    assert companion.running is None
