"""A command inside an instance, run by the engine's ``exec``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.errors import IsolaError
from isola.host import Host
from isola.host.process import Child, ProcessRef
from isola.host.sockets import Pipe, Sockets, Stream, Terminal
from isola.runtimes.driver import ExecSpec
from isola.runtimes.oci.config import PATH

WhyNot = Callable[[], Awaitable[int]]
"""Finds the status for a command that the engine could not run."""

NOT_EXECUTABLE = 126
NOT_FOUND = 127
_BEGIN_SECONDS = 5.0
_POLL_SECONDS = 0.005
_LOG_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ends:
    """What a command is connected by: a terminal, or three pipes; and where the engine writes its errors."""

    terminal: Terminal | None
    pipes: tuple[Pipe, ...]
    log: Pipe

    @classmethod
    def open(cls, sockets: Sockets, spec: ExecSpec) -> Ends:
        """As the command wants it."""
        log = sockets.pipe_from_child()
        if spec.terminal:
            return cls(sockets.terminal(spec.width, spec.height, raw=True), (), log)
        return cls(None, (sockets.pipe_to_child(), sockets.pipe_from_child(), sockets.pipe_from_child()), log)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Ours of standard input, output and, without a terminal, error."""
        return (self.terminal.stream, self.terminal.stream) if self.terminal else tuple(p.stream for p in self.pipes)

    @property
    def remotes(self) -> tuple[int, ...]:
        """The child's of standard input, output and error."""
        return (self.terminal.slave,) * 3 if self.terminal else tuple(pipe.remote for pipe in self.pipes)

    def close_remotes(self) -> None:
        """After the child has them."""
        for pipe in (*self.pipes, self.log):
            pipe.close_remote()
        if self.terminal:
            self.terminal.close_slave()

    def close(self) -> None:
        """Give back every descriptor."""
        self.close_remotes()
        for stream in (*self.streams, self.log.stream):
            stream.close()


class OciExecution:
    """The engine runs as our child for as long as the command does, and ends with its exit status."""

    def __init__(self, host: Host, child: Child, ends: Ends, pid_file: Path, why_not: WhyNot) -> None:
        self._host = host
        self._child = child
        self._ends = ends
        self._pid_file = pid_file
        self._why_not = why_not
        self._command: ProcessRef | None = None
        self._resizing: asyncio.Future[None] | None = None
        self._status = asyncio.ensure_future(self._watch())

    @property
    def stdin(self) -> Stream:
        """Where to write."""
        return self._ends.streams[0]

    @property
    def stdout(self) -> Stream:
        """Where to read."""
        return self._ends.streams[1]

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        return None if self._ends.terminal else self._ends.streams[2]

    def resize(self, width: int, height: int) -> None:
        """Ours, and the one inside: the engine copies between them but old ones do not hand the size on."""
        if self._ends.terminal and not self._status.done():
            self._ends.terminal.resize(width, height)
            self._child.signal(signal.SIGWINCH)
            if self._resizing:
                self._resizing.cancel()
            self._resizing = asyncio.ensure_future(self._resize_inside(width, height))

    async def signal(self, signum: int) -> None:
        """To the command itself."""
        command = await self._find_command()
        if command is not None and not self._status.done():
            self._host.processes.signal(command, signum)

    async def wait(self) -> int:
        """Exit status as a shell gives it."""
        return await asyncio.shield(self._status)

    async def close(self) -> None:
        """Kill it if it still runs and give back every descriptor."""
        try:
            if not self._status.done():
                await self.signal(signal.SIGKILL)
                self._child.signal(signal.SIGKILL)
                await self.wait()
        finally:
            if self._resizing:
                self._resizing.cancel()
            self._ends.close()
            await self._host.files.remove_tree(self._pid_file)

    async def _resize_inside(self, width: int, height: int) -> None:
        command = await self._find_command()
        if command is not None:
            self._host.sockets.resize_of(command, width, height)

    async def _watch(self) -> int:
        status = await self._child.wait()
        if status < 0:
            return 128 - status
        if status == 0 or not await self._refused():
            return status
        return await self._why_not()

    async def _refused(self) -> bool:
        """Whether the status is the engine's own: then it has logged an error. The text is for people, not for us."""
        log = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOG_SECONDS):
                while block := await self._ends.log.stream.read():
                    log += block
        return any(_level(line) in ("error", "fatal", "panic") for line in log.splitlines())

    async def _find_command(self) -> ProcessRef | None:
        """The command's process; waits for the engine to make it."""
        waited = 0.0
        while self._command is None and not self._status.done() and waited < _BEGIN_SECONDS:
            with contextlib.suppress(IsolaError):
                text = await self._host.files.read(self._pid_file)
                if text.strip().isdigit():
                    self._command = self._host.processes.identify(int(text))
                    return self._command
            await self._host.clock.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return self._command


async def execute(
    host: Host, engine: Sequence[str], id: str, spec: ExecSpec, *, entry: bytes, pid_file: Path, why_not: WhyNot
) -> OciExecution:
    """Start a command; ``entry`` is its OCI process entry, which travels through a pipe: there is no file of it."""
    words = host.sockets.pipe_to_child()
    ends = Ends.open(host.sockets, spec)
    argv = [
        *engine, "--log", f"/dev/fd/{ends.log.remote}", "--log-format", "json",
        "exec", "--process", f"/dev/fd/{words.remote}", "--pid-file", str(pid_file),
        *(["--tty"] if spec.terminal else []), id,
    ]  # fmt: skip
    stdin, stdout, stderr = ends.remotes
    try:
        child = await host.processes.spawn(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={"PATH": PATH},
            cwd=pid_file.parent,
            pass_fds=[words.remote, ends.log.remote],
        )
        ends.close_remotes()
        words.close_remote()
        execution = OciExecution(host, child, ends, pid_file, why_not)
        try:
            await words.stream.write(entry)
        except BaseException:
            await execution.close()
            raise
        return execution
    except BaseException:
        ends.close()
        raise
    finally:
        words.close_remote()
        words.stream.close()


def _level(line: bytes) -> str:
    try:
        return str(json.loads(line).get("level", ""))
    except (ValueError, AttributeError):
        return "error"
