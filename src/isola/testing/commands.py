"""Commands inside fake instances: programs of the tests, with the streams of real ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from isola.host.sockets import Stream
from isola.runtimes import ExecSpec
from isola.testing.sockets import FakeStream, stream_pair

KILLED = 137
_NOT_FOUND = 127
_numbers = itertools.count(200_000)


@dataclass
class FakeCommand:
    """A command that runs inside a fake instance; the argument of programs in ``FakeRuntime.programs``."""

    spec: ExecSpec
    stdin: FakeStream
    stdout: FakeStream
    stderr: FakeStream
    size: tuple[int, int]
    signals: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    on_resize: Callable[[], None] = lambda: None
    """Called when ``size`` has changed."""


Program = Callable[[FakeCommand], Awaitable[int]]


class FakeExecution:
    """A program of ``FakeRuntime.programs`` with its streams."""

    def __init__(self, spec: ExecSpec, program: Program | None) -> None:
        self._stdin, far_in = stream_pair()
        self._stdout, far_out = (self._stdin, far_in) if spec.terminal else stream_pair()
        self._stderr, far_err = (self._stdin, far_in) if spec.terminal else stream_pair()
        self._terminal = spec.terminal
        self.refusal = ""
        self._number = next(_numbers)
        self.command = FakeCommand(spec, far_in, far_out, far_err, (spec.width, spec.height))
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run(program))

    @property
    def stdin(self) -> Stream:
        """Where to write."""
        return self._stdin

    @property
    def stdout(self) -> Stream:
        """Where to read."""
        return self._stdout

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        return None if self._terminal else self._stderr

    def resize(self, width: int, height: int) -> None:
        """Set the size."""
        self.command.size = (width, height)
        self.command.on_resize()

    async def signal(self, signum: int) -> None:
        """SIGKILL ends it; other signals are passed to the program."""
        if signum == 9:
            self.kill(KILLED)
        self.command.signals.put_nowait(signum)

    async def number(self) -> int:
        return 0 if self._status.done() else self._number

    async def wait(self) -> int:
        """Exit status."""
        return await asyncio.shield(self._status)

    async def close(self) -> None:
        """Kill it."""
        self.kill(KILLED)
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()

    def kill(self, status: int) -> None:
        """End with a status unless it has ended."""
        self._end(status)
        self._task.cancel()

    async def _run(self, program: Program | None) -> None:
        if program is None:
            self.refusal = f"executable file `{self.command.spec.command[0]}` not found in $PATH"
            await (self.command.stdout if self._terminal else self.command.stderr).write(f"{self.refusal}\n".encode())
        self._end(_NOT_FOUND if program is None else await program(self.command))

    def _end(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)
        for stream in (self.command.stdout, self.command.stderr):
            stream.close()
