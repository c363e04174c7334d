"""The process that is loaded in advance and forks one for each archive."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from archive_readers import eventually, readers
from tars import member, raw_header, tar

from isola.errors import HostFailure, InvalidInput, UnsafeArchive
from isola.host.archive.archives import LinuxArchives, UnpackReport
from isola.host.archive.forked import Ended, Forked, died
from isola.host.process import Child, LinuxProcesses

T = TypeVar("T")
PROBE = {"verb": "probe"}


class Counted(LinuxProcesses):
    """Keeps what it has started."""

    def __init__(self) -> None:
        self.started: list[Child] = []

    async def spawn(self, argv: Sequence[str], **options: Any) -> Child:
        child = await super().spawn(argv, **options)
        self.started.append(child)
        return child


@pytest.fixture
def processes() -> Counted:
    return Counted()


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """An archive whose reading takes long."""
    source = tmp_path / "long.tar"
    with source.open("wb") as file:
        file.write(raw_header(name=b"f", size=b"\x80" + (40 << 30).to_bytes(11, "big")))
        file.truncate(40 << 30)
    (tmp_path / "target").mkdir()
    return source


async def test_many_archives_need_one_program(processes: Counted, tmp_path: Path) -> None:
    archives = LinuxArchives(processes)
    (tmp_path / "a.tar").write_bytes(tar(member("a", b"content")))

    async def one(name: str) -> None:
        (tmp_path / name).mkdir()
        await archives.unpack(tmp_path / "a.tar", tmp_path / name)

    await asyncio.gather(*(one(f"target{number}") for number in range(8)))
    await one("later")
    assert len(processes.started) == 1
    assert (tmp_path / "later" / "a").read_bytes() == b"content"


async def test_without_requests_it_ends_and_a_later_request_starts_it_again(processes: Counted) -> None:
    forked = Forked(processes, idle=0.01)
    assert (await forked.run(PROBE)).status == 0
    assert await processes.started[0].wait() == 0
    assert (await forked.run(PROBE)).status == 0
    assert len(processes.started) == 2


async def test_a_request_during_the_pause_keeps_it(processes: Counted) -> None:
    forked = Forked(processes, idle=600)
    await forked.run(PROBE)
    await asyncio.gather(*(forked.run(PROBE) for _ in range(3)))
    assert len(processes.started) == 1


async def test_its_death_ends_its_processes_and_the_next_request_starts_another(
    processes: Counted, endless: Path
) -> None:
    archives = LinuxArchives(processes)
    work = asyncio.create_task(archives.unpack(endless, endless.parent / "target"))
    await eventually(lambda: readers(endless))
    processes.started[0].signal(signal.SIGKILL)
    with pytest.raises(HostFailure):
        await work
    await eventually(lambda: not readers(endless))
    assert await archives.lacks() == await archives.lacks()
    assert len(processes.started) == 2


async def test_a_failed_request_leaves_the_others(processes: Counted, endless: Path) -> None:
    """Cancelled, and of an unknown verb."""
    forked = Forked(processes)
    unpacking = {"source": str(endless), "target": str(endless.parent / "target"), "subtree": "", "whiteouts": False}
    limits = {"bytes": 1 << 40, "entries": 10, "ratio": 400}
    work = asyncio.create_task(forked.run({"verb": "unpack", **unpacking, "limits": limits}))
    await eventually(lambda: readers(endless))
    unknown = await forked.run({"verb": "no such verb"})
    assert (unknown.status, unknown.stderr) == (1, b"KeyError: 'no such verb'\n")
    assert readers(endless)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not readers(endless)
    assert (await forked.run(PROBE)).status == 0
    assert len(processes.started) == 1


async def test_it_ends_with_the_program_that_started_it(processes: Counted, endless: Path) -> None:
    """The kernel closes the connection, whatever that program died of."""
    forked = Forked(processes)
    assert (await forked.run(PROBE)).status == 0
    connection = forked._server
    assert connection is not None
    connection.close()
    assert await processes.started[0].wait() == 0


def test_it_loads_nothing_of_the_daemons_side() -> None:
    """An event loop and TLS would be a third of its start, and memory of every daemon."""
    loaded = "import sys, isola.host.archive.fork_server, isola.host.archive.archiver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", loaded], capture_output=True, text=True, check=True)
    there = set(done.stdout.split())
    assert "isola.host.archive.arriving" in there
    assert not there & {"asyncio", "ssl", "subprocess", "isola.host.archive.forked", "isola.host.process"}


class Arrival:
    """An archive of which only the beginning arrives, until ``rest``."""

    def __init__(self) -> None:
        self.rest = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield tar(member("a", b"content"))[:700]
        await self.rest.wait()


async def test_an_archive_that_arrives_is_unpacked_by_a_child_of_the_server(processes: Counted, tmp_path: Path) -> None:
    """Not by a child of a child; when it is killed, the others are not."""
    archives, arrivals = LinuxArchives(processes), (Arrival(), Arrival())
    assert await archives.lacks() == await archives.lacks()
    server = processes.started[0].ref.pid
    unpacking = list[asyncio.Task[UnpackReport]]()
    for number, arrival in enumerate(arrivals):
        before = confined(server)
        (tmp_path / str(number)).mkdir()
        unpacking.append(asyncio.create_task(archives.unpack_stream(aiter(arrival), tmp_path / str(number))))
        await eventually(lambda: confined(server) > before)  # noqa: B023 - called at once
    (killed,) = before
    assert not children(killed)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: killed not in confined(server))
    for arrival in arrivals:
        arrival.rest.set()
    results = await asyncio.gather(*unpacking, return_exceptions=True)
    assert [type(result) for result in results] == [UnsafeArchive, InvalidInput]
    assert not children(server)
    assert len(processes.started) == 1


async def test_a_target_that_cannot_become_a_root_is_reported(processes: Counted, tmp_path: Path) -> None:
    """Before there is a child; the server goes on."""
    archives, arrival = LinuxArchives(processes), Arrival()
    arrival.rest.set()
    with pytest.raises(HostFailure, match="Cannot confine"):
        await archives.unpack_stream(aiter(arrival), tmp_path / "missing")
    assert await archives.lacks() == await archives.lacks()
    assert len(processes.started) == 1


def test_whatever_a_confined_process_dies_of_is_the_archives_doing() -> None:
    assert isinstance(died(Ended(-signal.SIGSEGV, b"", b"", confined=True)), UnsafeArchive)
    assert isinstance(died(Ended(-signal.SIGSEGV, b"", b"")), HostFailure)
    assert isinstance(died(Ended(1, b"", b"", confined=True)), HostFailure)


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def confined(pid: int) -> set[int]:
    """Children in a PID namespace of their own."""
    found = set()
    for child in children(pid):
        with suppress(OSError):
            if os.readlink(f"/proc/{child}/ns/pid") != os.readlink(f"/proc/{pid}/ns/pid"):
                found.add(child)
    return found
