"""A guest of gVisor: its processes are known to its own kernel alone, which is a process of the host."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import ClassVar, Protocol

from isola.errors import CommandFailed, HostFailure, NotFound, TimedOut, WrongState
from isola.host.nodes import ANY_ACCESS, DeviceNumber
from isola.host.process import ProcessRef
from isola.model.instance import InterfaceState
from isola.model.limits import Limits
from isola.model.stats import ProcessTable
from isola.runtimes.capabilities import Capability, RuntimeCapabilities
from isola.runtimes.guest import Execution
from isola.runtimes.gvisor import refusals
from isola.runtimes.oci.config import PATH, exec_process
from isola.runtimes.oci.execution import INSIDE, StandIn, execute
from isola.runtimes.oci.guest import Engine, OciGuest
from isola.runtimes.oci.layout import MONITOR_SUFFIX
from isola.runtimes.oci.record import Found
from isola.runtimes.spec import ExecSpec

_LOOK, _LONGEST, _IDLE_LOOKS = 0.002, 1.0, 25
_SAVED = 300.0
"""Seconds in which its state has to be written."""
_NOTES_END = 2.0
"""Seconds in which what was logged before its end has to be noted."""
_CACHES = ("active_file", "inactive_file")
"""What the kernel keeps of files, which is in no state."""
_ANSWER = 10.0
"""Seconds in which its kernel has to answer."""


class Sandboxes(Engine, Protocol):
    """The part of the runtime that a guest uses."""

    capabilities: ClassVar[RuntimeCapabilities]

    def called(self, id: str) -> str: ...

    async def argv(self, id: str) -> list[str]: ...

    async def limit_ports(self, found: OciGuest, limits: Limits, *, again: bool) -> None: ...

    def taken(self, id: str) -> Sequence[InterfaceState]: ...


class GvisorGuest(OciGuest):
    """Its first process is the kernel, ``sentry``; another one, the gofer, opens its files."""

    def __init__(self, runtime: Sandboxes, found: Found, gofer: ProcessRef) -> None:
        super().__init__(runtime, found)
        self._sandboxes = runtime
        self._gofer = gofer

    @property
    def world(self) -> ProcessRef:
        """The gofer."""
        return self._gofer

    async def limit(self, limits: Limits) -> None:
        """Also of what its own network stack sends."""
        await super().limit(limits)
        await self._sandboxes.limit_ports(self, limits, again=True)

    async def refused_calls(self) -> Mapping[tuple[int, str], int]:
        """As its kernel has logged them; at its end all of them. Raises HostFailure if nothing reads that log."""
        noted, end = self._layout.run / refusals.NOTED, self._host.clock.monotonic() + _NOTES_END
        if not self._started.confinement.system_calls or not await self._host.files.exists(noted):
            return {}
        while True:
            alive, noting = self._alive(), await self._is_noting()
            data = await self._host.files.read(noted)
            if refusals.is_whole(data) or (alive and noting):
                return refusals.read(data)
            if alive:
                raise HostFailure(
                    "The process that notes refused calls of the sandbox was ended",
                    remedy="calls are refused as before; restart the instance for reports",
                )
            if not noting or self._host.clock.monotonic() > end:
                return refusals.read(data)
            await self._host.clock.sleep(0.01)

    async def _is_noting(self) -> bool:
        with suppress(NotFound):
            text = (await self._host.files.read(self._layout.run / refusals.READER)).strip()
            return text.isdigit() and self._host.cgroups.holds(self._group, int(text))
        return False

    # --- life ---------------------------------------------------------------------------------------------------

    async def settled(self) -> int | None:
        """A system counts as started when its processes wait for an event, or after a second."""
        end, idle, last = self._host.clock.monotonic() + _LONGEST, 0, -1
        while self._host.processes.alive(self.processes.init):
            if not self._started.system or idle >= _IDLE_LOOKS or self._host.clock.monotonic() > end:
                return None
            await self._host.clock.sleep(_LOOK)
            _, cpu_ns = self._host.cgroups.activity(self._group)
            idle, last = (idle + 1 if cpu_ns == last else 0), cpu_ns
        return await self.ended()

    async def signal(self, signum: int) -> None:
        """To its first process, by its kernel; SIGKILL ends the kernel itself, which needs no answer."""
        if signum == SIGKILL:
            await super().signal(signum)
        elif self._alive():
            await self._kill([str(signum)])

    async def _kill(self, arguments: Sequence[str]) -> None:
        """No effect if there is no such process any more. Raises HostFailure if its kernel does not answer."""
        argv = [
            *await self._sandboxes.argv(self.id),
            "kill",
            *arguments[:-1],
            self._sandboxes.called(self.id),
            arguments[-1],
        ]
        try:
            await self._host.processes.run(argv, timeout=_ANSWER, check=False, env={"PATH": PATH})
        except (CommandFailed, TimedOut) as error:
            if self._alive():
                raise HostFailure(
                    "The sandbox does not answer", evidence=str(error), remedy="stop it forcibly"
                ) from error

    async def checkpoint(self, to: Path) -> None:
        """By its kernel, which then ends."""
        self._require()
        if self.frozen():
            raise WrongState("The instance is frozen", remedy="resume it first")
        if [name for name in await self._host.files.names(self._layout.commands) if name.endswith(INSIDE)]:
            raise WrongState(
                "Commands run in the instance, whose connections to their clients cannot be saved",
                remedy="end them first, also shells and consoles",
            )
        await self._require_space_for_state(to)
        name = self._sandboxes.called(self.id)
        argv = [*await self._sandboxes.argv(self.id), "checkpoint", "--image-path", str(to), name]
        try:
            await self._host.processes.run(argv, timeout=_SAVED, env={"PATH": PATH})
        except (CommandFailed, TimedOut) as error:
            raise HostFailure(
                "The state of the instance could not be saved",
                evidence=error.evidence or str(error),
                remedy="check free space in the daemon's directory, or stop it without its state",
            ) from error
        try:
            async with asyncio.timeout(_ANSWER):
                await self._host.processes.gone(self.processes.init)
        except TimeoutError:
            await super().signal(SIGKILL)
        await self._host.files.flush(*[to / each for each in await self._host.files.names(to)], to)

    async def _require_space_for_state(self, place: Path) -> None:
        """Raises HostFailure: its kernel does not survive a state that cannot be written."""
        found, space = self.stats(), await self._host.files.space(place)
        known = found.memory_stats
        needed = max(0, found.memory - sum(known.get(f"total_{kind}", known.get(kind, 0)) for kind in _CACHES))
        if needed > (free := space.total - space.used):
            raise HostFailure(
                "There is no room for the state of the instance, which runs on",
                evidence=f"it has {needed >> 20} MiB in memory, and {free >> 20} MiB are free",
                remedy="free space in the daemon's directory, or stop it without its state",
            )

    async def process_table(self) -> ProcessTable:
        """By its kernel, which names programs without their arguments."""
        self._require()
        if self.frozen():
            raise WrongState("The instance is frozen", remedy="resume it first")
        argv = [*await self._sandboxes.argv(self.id), "ps", self._sandboxes.called(self.id)]
        try:
            done = await self._host.processes.run(argv, timeout=_ANSWER, env={"PATH": PATH})
        except (CommandFailed, TimedOut) as error:
            raise HostFailure("The sandbox does not answer", evidence=str(error)) from error
        lines = done.stdout.decode(errors="replace").splitlines()
        titles = tuple(lines[0].split()) if lines else ()
        return ProcessTable(titles, tuple(tuple(line.split(None, len(titles) - 1)) for line in lines[1:]))

    # --- inside -------------------------------------------------------------------------------------------------

    async def _execute(self, spec: ExecSpec, pid_file: Path) -> Execution:
        inside = pid_file.with_suffix(INSIDE)

        async def deliver(signum: int) -> None:
            with suppress(NotFound):
                number = (await self._host.files.read(inside)).decode().strip()
                if number.isdigit():
                    await self._kill(["--pid", number, str(signum)])

        return await execute(
            self._host,
            await self._runtime.joiner(self.id),
            self._sandboxes.called(self.id),
            spec,
            entry=json.dumps(exec_process(spec, self._process)).encode(),
            pid_file=pid_file,
            handover=False,
            why_not=lambda reason: self._why_not(spec, reason),
            inside=self.process_inside,
            stands=StandIn(["--internal-pid-file", str(inside)], deliver),
        )

    def process_inside(self, pid: int) -> ProcessRef | None:
        """The process of the host that stands for a command."""
        found = self._host.processes.identify(pid)
        return found if found is not None and self._host.cgroups.holds(self._group + MONITOR_SUFFIX, pid) else None

    async def end_command(self, name: str) -> None:
        """Also inside: the process on the host only stands for it."""
        if not name.endswith(INSIDE):
            await super().end_command(name)
            return
        text = (await self._host.files.read(self._layout.commands / name)).decode().strip()
        if text.isdigit() and not self.frozen():
            await self._kill(["--pid", text, str(int(SIGKILL))])

    # --- watched ------------------------------------------------------------------------------------------------

    def numbers(self) -> tuple[int, ...]:
        """Its kernel, its gofer, and what stands for its processes and commands."""
        beside = self._host.cgroups.processes(self._group + MONITOR_SUFFIX)
        return (*super().numbers(), *(pid for pid in beside if pid != self.processes.monitor.pid))

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """Those of its network namespace, with the addresses that its network stack has taken from them."""
        taken = {each.name: each.addresses for each in self._sandboxes.taken(self.id)}
        return tuple(
            dataclasses.replace(each, addresses=tuple(dict.fromkeys((*taken.get(each.name, ()), *each.addresses))))
            for each in super().interfaces()
        )

    # --- devices ------------------------------------------------------------------------------------------------

    async def let_open(self, device: DeviceNumber, *, allowed: bool, access: str = ANY_ACCESS) -> None:
        """Raises Unsupported."""
        self._sandboxes.capabilities.require(Capability.DEVICES)

    @contextmanager
    def root(self) -> Iterator[int]:
        """Raises Unsupported: sockets and devices in it are those of another kernel."""
        self._sandboxes.capabilities.require(Capability.SOCKETS)
        with super().root() as found:
            yield found
