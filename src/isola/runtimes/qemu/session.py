"""A running guest as this daemon knows it: its connections, and the end of its run."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from signal import SIGKILL
from typing import Any

from isola.errors import HostFailure, IsolaError, WrongState
from isola.host import Host
from isola.host.process import ProcessRef
from isola.model.instance import InterfaceState
from isola.model.last_run import Ending
from isola.runtimes.agent.agent import Agent
from isola.runtimes.qemu import ending, machine, record
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.qmp import Event, Qmp
from isola.runtimes.qemu.record import Run
from isola.runtimes.qemu.shares import Shares
from isola.runtimes.spec import RunSpec

log = logging.getLogger(__name__)
_GIVEN_UP = "internal-error"
"""State of a machine that its hypervisor has given up."""
_ENDED = frozenset({"shutdown", "guest-panicked", _GIVEN_UP})
"""States of a machine that does not go on."""
_PAUSED = frozenset({"paused", "prelaunch", "inmigrate", "postmigrate", "io-error"})
"""States of a machine that goes on after ``cont``; after an error of a disk, once that is repaired."""
AGENT_PORT = "agent-port"
"""The id of its device, for agents that are programs of a guest's system."""
_AGENTLESS = "wait until it has booted, or install the agent; without it, use its console, its screen or its network"
_SMALL = 256 << 20
"""Bytes of RAM that GRUB needs besides UEFI to load Debian's kernel: with 192 MiB it says that it has none left."""
_TIMEOUT = 5.0
"""Seconds that QEMU has to end after ``quit``."""
_ENDING = 1.0
"""Seconds in which it is seen whether it is ending itself, when one of its servers has ended."""
_LOOKING, _FRESH, _SILENT = 1.0, 0.5, 30.0
"""Seconds that an agent has to answer, after which it is asked again, and in which one that did not is left alone."""
_RESETS = frozenset({"guest-reset", "guest-panic"})


class Session:
    """One run; opened when it is started or adopted, and closed with its end."""

    def __init__(
        self, host: Host, layout: VmLayout, run: Run, spec: RunSpec, group: str, *, shares: Shares | None = None
    ) -> None:
        self.run = run
        self.spec = spec
        self.paused = False
        self.failure = ""
        """Why the hypervisor has given it up."""
        self.removed = False
        """Its processes are being killed on purpose."""
        self._host = host
        self._layout = layout
        self._group = group
        self._qmp: Qmp | None = None
        self._agent: Agent | None = None
        self._oom = False
        """As its agent has reported at its end."""
        self.shares = shares
        """If its agent is not its first process, but comes and goes with a program of the guest's."""
        self._opening = asyncio.Lock()
        self._interfaces: tuple[InterfaceState, ...] = ()
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._look_after = float("-inf")
        self._stopped: asyncio.Future[bool] = self._loop.create_future()
        """When the machine has stopped for good: whether it has restarted itself."""
        self._removed: dict[str, asyncio.Event] = {}
        """Devices that are being removed."""
        self._watch: asyncio.Task[int] | None = None

    # --- its connections ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect to the control socket, and begin to watch it. Raises HostFailure, TimedOut, WrongState."""
        if self._watch is not None:
            return
        qmp = Qmp(await self._host.sockets.connect(self._layout.socket(machine.CONTROL)), self._on_event)
        try:
            await qmp.open()
            found = await qmp.execute("query-status")
        except BaseException:
            qmp.close()
            raise
        self._qmp = qmp
        self._is_in(found)
        self._watch = asyncio.get_running_loop().create_task(self._end(), name=f"watch guest {self.run.id}")

    async def agent(self, seconds: float = 10.0) -> Agent:
        """The connection to the agent, made when it is first needed. Raises WrongState, TimedOut, HostFailure."""
        async with self._opening:
            self.require()
            if self._agent is None or self._agent.closed:
                if self.shares is not None:
                    await self._require_listener()
                stream = await self._host.sockets.connect(self._layout.socket(machine.AGENT))
                try:
                    self._agent = await Agent.connect(stream, self._host.clock, timeout=seconds)
                except BaseException:
                    stream.close()
                    raise
                if self.shares is not None:
                    await self._greet(self._agent, self.shares)
            return self._agent

    async def _greet(self, agent: Agent, shares: Shares) -> None:
        """What it cannot mount is missing, but commands are executed."""
        try:
            await shares.greet(agent)
        except IsolaError as error:
            log.error("Instance %s has not mounted a directory of the host: %s", self.run.id, error)

    async def _require_listener(self) -> None:
        """Raises WrongState if no program of the guest has opened the agent's port."""
        if not await self.has_listener():
            raise agentless(self.spec.limits.memory)

    async def has_listener(self) -> bool:
        """Whether a program of the guest has opened the agent's port; asked of the hypervisor."""
        found = await self.qmp.execute("query-chardev")
        known = found if isinstance(found, list) else []
        return any(each.get("label") == machine.AGENT and each.get("frontend-open") for each in known)

    def hold(self, *, paused: bool) -> None:
        """Its virtual CPUs were stopped, or run again; meanwhile the silence of its agent means nothing."""
        self.paused = paused
        if self._agent is not None:
            self._agent.suspended = paused

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """As the agent has reported them last; has them reported again. Also from other threads."""
        if not self.alive:
            return ()
        self._loop.call_soon_threadsafe(self._begin_look)
        return self._interfaces

    async def look(self) -> None:
        """Have its interfaces reported; waits a second at most, after which the answer may still come."""
        self._begin_look()
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=_LOOKING)

    def _begin_look(self) -> None:
        """No effect where it was just done, or the agent does not answer."""
        if not self.alive or self.paused or self._host.clock.monotonic() < self._look_after:
            return
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._ask(), name=f"look at guest {self.run.id}")

    async def _ask(self) -> None:
        fresh = _FRESH
        try:
            self._interfaces = await (await self.agent()).interfaces()
        except IsolaError:
            fresh = _SILENT
        self._look_after = self._host.clock.monotonic() + fresh

    @property
    def qmp(self) -> Qmp:
        """Raises WrongState if it has ended."""
        self.require()
        assert self._qmp is not None
        return self._qmp

    def leave(self) -> None:
        """Close the connections, as the end of the daemon does; the guest runs on."""
        for task in (self._watch, self._looking, self._asking):
            if task is not None:
                task.cancel()
        for connection in (self._agent, self._qmp):
            if connection is not None:
                connection.close()

    # --- its end ------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the guest runs or is paused."""
        return not self._stopped.done() and all(map(self._host.processes.alive, self.run.processes))

    def require(self) -> None:
        """Raises WrongState if it has ended."""
        if not self.alive:
            raise WrongState("The instance is not running", remedy="start it first")

    async def ended(self) -> int:
        """Wait for its end; the exit status. All its processes have ended then."""
        await self.open()
        assert self._watch is not None
        return await asyncio.shield(self._watch)

    def give_up(self) -> None:
        """It stands still, and does not go on: QEMU is ended as if the guest had ended by itself."""
        if not self._stopped.done():
            self._stopped.set_result(False)

    def oom_killed(self) -> bool:
        """Whether processes were killed because memory was used up: the guest's, or the hypervisor's."""
        return self._oom or self._host.cgroups.oom_kills(self._group) > 0

    async def removal(self, device: str, seconds: float) -> bool:
        """Whether the guest releases a device in time."""
        event = self._removed.setdefault(device, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self._removed.pop(device, None)

    def expect_removal(self, device: str) -> None:
        """Before it is asked for, because the answer may come first."""
        self._removed[device] = asyncio.Event()

    async def _end(self) -> int:
        """Watch all of its processes; when one ends, or the machine stops, end the others, and record the end."""
        watched: list[asyncio.Future[None]] = [
            asyncio.ensure_future(self._host.processes.gone(process)) for process in self.run.processes
        ]
        either: list[asyncio.Future[Any]] = [*watched, self._stopped]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in watched:
                each.cancel()
        quitting, status = await self._status()
        if self._looking is not None:
            self._looking.cancel()
        for connection in (self._agent, self._qmp):
            if connection is not None:
                connection.close()
        for process in (self.run.qemu, *dict(self.run.servers).values()):
            await self._finish(process, quitting=quitting)
        await self._host.processes.gone(self.run.monitor)
        oom = self.oom_killed()
        with suppress(IsolaError):  # its directory may have been removed meanwhile
            await record.write_ending(
                self._host, self._layout, Ending(status, self._host.clock.now(), oom, self.failure)
            )
        return status

    async def _status(self) -> tuple[bool, int]:
        """Whether QEMU ends by itself now, and the exit status."""
        if not self._stopped.done():
            await self._note_loss()
            self._stopped.set_result(False)
            return False, ending.KILLED
        assert self._qmp is not None
        try:
            report = await self._qmp.ring(machine.STATUS, 4096)
            kernel = await self._qmp.ring(machine.KERNEL_LOG)
            await self._qmp.execute("quit", timeout=_TIMEOUT)
        except IsolaError:
            return False, ending.PANICKED if self.failure else ending.KILLED
        self._oom = ending.out_of_memory(report)
        if self.failure:
            self.failure = ": ".join(filter(None, (self.failure, ending.last_words(kernel))))
            return True, ending.PANICKED
        return True, ending.status(report, kernel, reset=self._stopped.result())

    async def _note_loss(self) -> None:
        """None of its processes ends by itself before the machine does."""
        alive = self._host.processes.alive
        if self.removed or self.failure or self.oom_killed():
            return
        names = {record.FILES: "file server", record.TPM: "TPM"}
        lost = [
            names.get(name, name)
            for name, each in (*self.run.servers, ("monitor", self.run.monitor))
            if not alive(each)
        ]
        # Without the hypervisor the others end, too, and sooner than it has given back its memory.
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await self._host.processes.gone(self.run.qemu)
        self.failure = f"Its {lost[0] if lost and alive(self.run.qemu) else 'hypervisor'} was killed or has failed"

    async def _finish(self, process: ProcessRef, *, quitting: bool) -> None:
        """The servers end with their connections to QEMU."""
        if not quitting:
            self._host.processes.signal(process, SIGKILL)
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._host.processes.gone(process)
        except TimeoutError:
            self._host.processes.signal(process, SIGKILL)
        await self._host.processes.gone(process)

    # --- its state -------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        name, data = event["event"], event.get("data")
        found = data if isinstance(data, dict) else {}
        if name == "STOP":
            self.paused = True
            self._asking = self._loop.create_task(self._ask_state(), name=f"why guest {self.run.id} has stopped")
        elif name == "RESUME":
            self.paused = False
        elif name == "SHUTDOWN" and not self._stopped.done():
            self._stopped.set_result(found.get("reason") in _RESETS)
        elif name == "DEVICE_DELETED":
            # Devices that were there from the start may have a path alone.
            for each in (found.get("device"), found.get("path")):
                if (event_of := self._removed.get(str(each))) is not None:
                    event_of.set()
        elif name == "VSERPORT_CHANGE" and found.get("id") == AGENT_PORT:
            self._agent_changed(there=found.get("open") is True)

    def _agent_changed(self, *, there: bool) -> None:
        """A program of the guest has opened its port, or closed it."""
        if self._agent is not None:
            self._agent.close()
        if there:
            self._look_after = float("-inf")
            self._begin_look()

    async def _ask_state(self) -> None:
        """It may have been paused, or cannot go on."""
        with suppress(IsolaError):
            self._is_in(await self.qmp.execute("query-status"))

    def _is_in(self, found: object) -> None:
        state = str(found.get("status")) if isinstance(found, dict) else ""
        self.paused = state in _PAUSED
        if state == "io-error":
            log.error("Instance %s is paused: a disk of it could not be read or written", self.run.id)
        if state in _ENDED and not self._stopped.done():
            if state == _GIVEN_UP:
                self.failure = f"The hypervisor has given up the machine ({state})"
            self._stopped.set_result(False)


def failure(text: str, evidence: str) -> HostFailure:
    """With the last messages of the hypervisor or the guest's kernel."""
    return HostFailure(text, evidence=evidence.strip()[-2000:])


def agentless(memory: int | None) -> WrongState:
    """That no program has opened the agent's port; with too little memory for boot loaders, that too."""
    small = memory is not None and memory < _SMALL
    return WrongState(
        "No agent has answered in this virtual machine",
        evidence=f"it has {memory >> 20} MiB of memory" if small and memory is not None else "",
        remedy=f"{_AGENTLESS}; most systems do not boot with less than {_SMALL >> 20} MiB" if small else _AGENTLESS,
    )
