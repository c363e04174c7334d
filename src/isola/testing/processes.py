"""A process table in memory; programs are coroutines."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import CommandFailed, HostFailure, TimedOut, WrongState
from isola.host.capture import Lines
from isola.host.process import HERE, Child, Completed, Place, ProcessRef
from isola.host.programs import remedy_for

_STDOUT_LIMIT = 16 << 20
_HARMLESS = frozenset({0, signals.SIGCONT, signals.SIGCHLD, signals.SIGWINCH, signals.SIGURG})
_FIRST_PID = 1000


@dataclass(eq=False)
class Call:
    """One run of a program: its argv, input, and the destinations of its output."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    input: bytes = b""
    descriptors: tuple[int | None, int | None, int | None] = (None, None, None)
    """Standard streams of a program that was spawned."""
    place: Place = HERE
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    on_line: Lines | None = None

    def out(self, data: bytes) -> None:
        """Write to standard output."""
        self.stdout += data

    def err(self, data: bytes) -> None:
        """Write to standard error."""
        self.stderr += data
        if self.on_line is not None:
            self.on_line.take(data)


Program = Callable[[Call], Awaitable[int]]
"""A coroutine that returns the exit status. It is cancelled when the process is killed."""


class FakeProcess:
    """A row of the process table; a child of the process that started it."""

    def __init__(self, ref: ProcessRef, call: Call) -> None:
        self._ref = ref
        self.call = call
        self.received: list[int] = []
        """Signals, in order."""
        self.ignores: set[int] = set()
        """Signals that do not end it."""
        self.streams_of: tuple[int, int] | None = None
        """Whose its standard streams are."""
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Future[int] | None = None

    @property
    def ref(self) -> ProcessRef:
        return self._ref

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self.status.done()

    async def wait(self) -> int:
        """Its exit status."""
        return await asyncio.shield(self.status)

    def signal(self, signum: int) -> None:
        """Ends it, unless it ignores this one."""
        if not self.running:
            return
        self.received.append(signum)
        if signum == signals.SIGKILL or (signum not in _HARMLESS and signum not in self.ignores):
            self.end(-signum)

    def end(self, status: int = 0) -> None:
        if self.running:
            self.status.set_result(status)
        if self._task is not None:
            self._task.cancel()

    def begin(self, program: Program) -> None:
        """Run its program."""
        self._task = asyncio.ensure_future(program(self.call))
        self._task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Future[int]) -> None:
        if task.cancelled() or not self.running:
            return
        error = task.exception()
        if error is None:
            self.status.set_result(task.result())
        else:
            self.status.set_exception(error)


class FakeProcesses:
    """A process table. ``programs`` has the available programs; every call is recorded in ``calls``."""

    def __init__(self, programs: Mapping[str, Program] | None = None) -> None:
        self.programs: dict[str, Program] = {
            "true": _true, "false": _false, "cat": _cat, "echo": _echo, "sleep": forever, **(programs or {})
        }  # fmt: skip
        self.table: dict[int, FakeProcess] = {}
        self.calls: list[Call] = []
        self._listeners: list[Callable[[ProcessRef], None]] = []
        self._ticks = 0
        self._next = _FIRST_PID

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float | None = 60,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        place: Place = HERE,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program of ``programs`` until it exits."""
        lines = Lines(on_line) if on_line else None
        process = self._start(Call(tuple(argv), env, cwd, stdin, place=place, on_line=lines))
        try:
            async with asyncio.timeout(timeout) as limit:
                status = await process.wait()
        except BaseException as error:
            process.end(-signals.SIGKILL)
            if isinstance(error, TimeoutError) and limit.expired():
                raise TimedOut(f"{argv[0]} did not end within {timeout:g} s") from None
            raise
        if lines is not None:
            lines.end()
        call = process.call
        if len(call.stdout) > _STDOUT_LIMIT:
            raise HostFailure(f"{argv[0]} wrote more than {_STDOUT_LIMIT >> 20} MiB to its standard output")
        if check and status != 0:
            raise CommandFailed(argv, status, call.stderr.decode(errors="replace"))
        return Completed(call.argv, status, bytes(call.stdout), bytes(call.stderr))

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        place: Place = HERE,
    ) -> Child:
        """Start a program of ``programs``."""
        return self._start(Call(tuple(argv), env, cwd, descriptors=(stdin, stdout, stderr), place=place))

    def add(self, *argv: str, pid: int | None = None) -> FakeProcess:
        """Add a foreign process, which runs until a test ends it. PIDs may be reused."""
        self._next = max(self._next + 1, (pid or 0) + 1)
        self._ticks += 1
        number = self._next - 1 if pid is None else pid
        process = FakeProcess(ProcessRef(number, self._ticks), Call(argv or ("process",)))
        self.table[number] = process
        process.status.add_done_callback(lambda _: self._tell(process))
        return process

    def when_ended(self, listener: Callable[[ProcessRef], None]) -> None:
        """``listener`` is called with each process that ends, in the next iteration of the event loop."""
        self._listeners.append(listener)

    def kill(self, pid: int, signum: int) -> None:
        """Signal the process that currently has this PID."""
        if self.identify(pid):
            self.table[pid].signal(signum)

    @property
    def running(self) -> list[FakeProcess]:
        """All that have not ended."""
        return [process for process in self.table.values() if process.running]

    def identify(self, pid: int) -> ProcessRef | None:
        """The process that currently has this PID."""
        process = self.table.get(pid)
        return process.ref if process and process.running else None

    def alive(self, ref: ProcessRef) -> bool:
        """Whether this process is still running; False if the PID was reused."""
        return self.identify(ref.pid) == ref

    def signal(self, ref: ProcessRef, signum: int) -> bool:
        """Signal this process; False if it has ended or the PID was reused."""
        if not self.alive(ref):
            return False
        self.table[ref.pid].signal(signum)
        return True

    def give_streams(self, ref: ProcessRef, uid: int, gid: int) -> None:
        """Kept in ``FakeProcess.streams_of``."""
        if not self.alive(ref):
            raise WrongState("The process has ended")
        self.table[ref.pid].streams_of = (uid, gid)

    async def gone(self, ref: ProcessRef) -> None:
        """Return once it has ended."""
        if self.alive(ref):
            await self.table[ref.pid].wait()

    def command_line(self, ref: ProcessRef) -> tuple[str, ...]:
        """Its arguments."""
        return self.table[ref.pid].call.argv if self.alive(ref) else ()

    def _tell(self, process: FakeProcess) -> None:
        for listener in self._listeners:
            listener(process.ref)

    def _start(self, call: Call) -> FakeProcess:
        self.calls.append(call)
        name = Path(call.argv[0]).name
        if name not in self.programs:
            raise CommandFailed(call.argv, 127, "no such program", remedy=remedy_for(name))
        process = self.add(*call.argv)
        process.call = call
        process.begin(self.programs[name])
        return process


async def _true(_: Call) -> int:
    return 0


async def _false(_: Call) -> int:
    return 1


async def _cat(call: Call) -> int:
    call.out(call.input)
    return 0


async def _echo(call: Call) -> int:
    call.out(" ".join(call.argv[1:]).encode() + b"\n")
    return 0


async def forever(_: Call) -> int:
    """Runs until it is killed."""
    await asyncio.get_running_loop().create_future()
    return 0
