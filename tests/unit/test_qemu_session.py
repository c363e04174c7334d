"""A guest that QEMU pauses by itself, or gives up."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from channels import eventually
from qmp_server import Server

from isola.errors import WrongState
from isola.model.last_run import Ending
from isola.model.limits import Limits
from isola.runtimes import Root, RunSpec
from isola.runtimes.qemu import machine, record
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.record import Run
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.shares import Shares
from isola.testing.host import FakeHost, fake_host

LAYOUT = VmLayout("one", Path("/isola/run/one"), Path("/isola/logs/one"))
KERNEL = b"[ 1.0] booting\r\n[ 9.9] rcu: stalls\r\n"


@dataclass
class Bench:
    host: FakeHost
    session: Session
    qemu: Server

    async def stops(self, state: str) -> None:
        """QEMU stops the machine."""
        self.qemu.responses["query-status"] = {"return": {"status": state}}
        await self.qemu.send({"event": "STOP", "data": {}})


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    host = fake_host()
    await host.files.make_directory(LAYOUT.run)
    processes = [host.processes.add(name).ref for name in ("qemu", "monitor", "virtiofsd")]
    run = Run("one", processes[0], processes[1], ((record.FILES, processes[2]),))
    session = Session(host, LAYOUT, run, RunSpec("one", "one", Root(Path("/root")), ("init",)), "/one")
    waiting, opening = host.sockets.listen(LAYOUT.socket(machine.CONTROL)), asyncio.create_task(session.open())
    qemu = Server(await waiting.get())
    qemu.responses |= {
        "query-status": {"return": {"status": "running"}},
        "quit": {"return": {}},
        "ringbuf-read": {"return": base64.b64encode(KERNEL).decode()},
    }
    await opening
    yield Bench(host, session, qemu)
    session.leave()
    qemu.task.cancel()


async def test_a_machine_that_is_given_up_has_ended_with_the_reason(bench: Bench) -> None:
    await bench.stops("internal-error")
    await eventually(lambda: any(each["execute"] == "quit" for each in bench.qemu.commands))
    for process in bench.host.processes.running:
        process.end()
    assert await bench.session.ended() == 255
    assert not bench.session.alive
    assert "internal-error" in bench.session.failure and "rcu: stalls" in bench.session.failure
    found = await record.ending(bench.host, LAYOUT)
    assert isinstance(found, Ending) and (found.status, found.error) == (255, bench.session.failure)


async def test_a_paused_machine_has_not_ended(bench: Bench) -> None:
    for state in ("paused", "io-error"):
        await bench.stops(state)
        await eventually(lambda: bench.session.paused)
        await eventually(lambda: bench.qemu.commands[-1]["execute"] == "query-status")
        assert bench.session.alive and not bench.session.failure
        await bench.qemu.send({"event": "RESUME", "data": {}})
        await eventually(lambda: not bench.session.paused)


async def test_an_agent_that_does_not_answer_is_not_asked_again_at_once(bench: Bench) -> None:
    await bench.session.look()  # its port does not exist
    agents = bench.host.sockets.listen(LAYOUT.socket(machine.AGENT))
    await bench.session.look()
    assert agents.empty() and bench.session.interfaces() == ()
    await bench.host.clock.sleep(31)
    looking = asyncio.create_task(bench.session.look())
    await eventually(lambda: not agents.empty())
    looking.cancel()


@pytest.mark.parametrize(("memory", "told"), [(192 << 20, True), (256 << 20, False), (None, False)])
async def test_without_an_agent_too_little_memory_is_named(bench: Bench, memory: int | None, told: bool) -> None:
    bench.session.spec = dataclasses.replace(bench.session.spec, limits=Limits(memory=memory))
    bench.session.shares = Shares(bench.host, LAYOUT, bench.session.spec)
    bench.qemu.responses["query-chardev"] = {"return": [{"label": machine.AGENT, "frontend-open": False}]}
    with pytest.raises(WrongState, match="No agent has answered") as caught:
        await bench.session.agent()
    assert (caught.value.evidence == "it has 192 MiB of memory") is told
    assert ("256 MiB" in caught.value.remedy) is told
