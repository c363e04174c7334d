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
from isola.host.sockets import Stream
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.config import PATH
from isola.runtimes.oci.ends import Ends, Screen
from isola.runtimes.spec import ExecSpec

WhyNot = Callable[[str], Awaitable[int]]
"""Determines the exit status of a command that the engine could not run, from the end of its output.

Raises HostFailure if the command is not the cause.
"""
Inside = Callable[[int], ProcessRef | None]
"""The process of the instance with this PID."""

Deliver = Callable[[int], Awaitable[None]]
INSIDE = ".inside"
"""Suffix of the file that such an engine writes: the PID that the command has inside."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127
_BEGIN_SECONDS = 5.0
_POLL_SECONDS = 0.005
_END_SECONDS = 2.0
_LOG_SECONDS = 1.0


class OciExecution:
    """The engine is our child process for the duration of the command, and exits with its exit status."""

    def __init__(
        self,
        host: Host,
        child: Child,
        ends: Ends,
        pid_file: Path,
        *,
        terminal: bool,
        why_not: WhyNot,
        inside: Inside,
        deliver: Deliver | None = None,
    ) -> None:
        self._host = host
        self._child = child
        self._ends = ends
        self._pid_file = pid_file
        self._why_not = why_not
        self._inside = inside
        self._deliver = deliver
        self._reason = ""
        self._screen = Screen(ends.streams[0], self._last_output) if terminal else None
        self._command: ProcessRef | None = None
        self._status = asyncio.ensure_future(self._watch())

    @property
    def stdin(self) -> Stream:
        """Input of the command."""
        return self._screen or self._ends.streams[0]

    @property
    def stdout(self) -> Stream:
        """Output of the command."""
        return self._screen or self._ends.streams[1]

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        return None if self._screen else self._ends.streams[2]

    @property
    def refusal(self) -> str:
        """The engine's own error."""
        return self._reason

    def resize(self, width: int, height: int) -> None:
        """Resize our terminal; if the engine relays it, notify it by SIGWINCH."""
        if self._ends.terminal and not self._status.done():
            self._ends.terminal.resize(width, height)
            if self._ends.relayed:
                self._child.signal(signal.SIGWINCH)

    async def signal(self, signum: int) -> None:
        """To the command itself."""
        command = await self._find_command()
        if command is None or self._status.done():
            return
        if self._deliver is not None:
            await self._deliver(signum)
        else:
            self._host.processes.signal(command, signum)

    async def number(self) -> int:
        """Of the command itself."""
        command = await self._find_command()
        return command.pid if command is not None and not self._status.done() else 0

    async def wait(self) -> int:
        """Exit status as in a shell."""
        return await asyncio.shield(self._status)

    async def close(self) -> None:
        """Kill it if it is still running, and close all descriptors."""
        try:
            if not self._status.done():
                await self.signal(signal.SIGKILL)
                self._child.signal(signal.SIGKILL)
                await self.wait()
            if self._command is not None:
                # Wait for its end after the kill, but not for a frozen process, which ends only when it is thawed.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_END_SECONDS):
                        await self._host.processes.gone(self._command)
        finally:
            self._ends.close()
            for file in (self._pid_file, self._pid_file.with_suffix(INSIDE)):
                await self._host.files.remove_tree(file)

    async def _watch(self) -> int:
        status = await self._child.wait()
        if status == -signal.SIGKILL:  # killed by us: for a killed command the engine exits with 128 + signal
            return 128 - status
        # An engine that fails may be killed by SIGPIPE: this is not the command's exit status either.
        if status == 0 or not (await self._refused() or status < 0):
            return status
        return await self._why_not(self._reason)

    async def _refused(self) -> bool:
        """Whether the engine itself failed: then it has logged an error, whose text is not parsed."""
        log = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOG_SECONDS):
                while block := await self._ends.log.stream.read():
                    log += block
        errors = [line for line in map(_logged, log.splitlines()) if line.get("level") in ("error", "fatal", "panic")]
        self._reason = str(errors[-1].get("msg", "")) if errors else ""
        return bool(errors)

    async def _last_output(self) -> bytes:
        with contextlib.suppress(IsolaError):
            await self.wait()
        return f"{self._reason}\r\n".encode() if self._reason else b""

    async def _find_command(self) -> ProcessRef | None:
        """The command's process; waits until the engine has created it."""
        waited = 0.0
        while self._command is None and not self._status.done() and waited < _BEGIN_SECONDS:
            with contextlib.suppress(IsolaError):
                text = await self._host.files.read(self._pid_file)
                if text.strip().isdigit():
                    self._command = self._inside(int(text))
                    if self._command is not None or self._host.processes.identify(int(text)) is None:
                        return self._command
            await self._host.clock.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return self._command


@dataclass(frozen=True, slots=True)
class StandIn:
    """Of engines whose process on the host only stands for the command, which has our terminal itself."""

    options: Sequence[str]
    """Of the engine's ``exec``."""
    deliver: Deliver
    """Sends a signal to the command."""


async def execute(
    host: Host,
    engine: Caller,
    id: str,
    spec: ExecSpec,
    *,
    entry: bytes,
    pid_file: Path,
    handover: bool,
    why_not: WhyNot,
    inside: Inside,
    stands: StandIn | None = None,
    group: str = "",
) -> OciExecution:
    """Start a command in this group below the instance's; ``entry``: its OCI process entry, passed by a pipe."""
    process_json = host.sockets.pipe_to_child()
    socket = pid_file.with_suffix(".socket") if handover else None
    ends = Ends.open(host.sockets, spec, socket, direct=stands is not None)
    options = ends.options if stands is None else stands.options
    argv = [*engine.argv, *_arguments(ends, process_json.remote, pid_file, group), *options, id]
    stdin, stdout, stderr = ends.remotes
    try:
        child = await host.processes.spawn(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={"PATH": PATH},
            cwd=pid_file.parent,
            pass_fds=[process_json.remote, ends.log.remote],
            place=engine.place,
        )

        def made() -> OciExecution:
            deliver = stands.deliver if stands is not None else None
            return OciExecution(
                host, child, ends, pid_file, terminal=spec.terminal, why_not=why_not, inside=inside, deliver=deliver
            )

        ends.close_remotes()
        process_json.close_remote()
        try:
            await process_json.stream.write(entry)
            process_json.stream.close()
            await ends.settle(child, spec)
        except BaseException:
            await made().close()
            raise
        return made()
    except BaseException:
        ends.close()
        raise
    finally:
        process_json.close_remote()
        process_json.stream.close()


def _arguments(ends: Ends, process: int, pid_file: Path, group: str) -> list[str]:
    return [
        "--log", f"/dev/fd/{ends.log.remote}", "--log-format", "json",
        "exec", "--process", f"/dev/fd/{process}", "--pid-file", str(pid_file), *(["--cgroup", group] if group else ()),
    ]  # fmt: skip


def _logged(line: bytes) -> dict[str, object]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"level": "error", "msg": line.decode(errors="replace")}
