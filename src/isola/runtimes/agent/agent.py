"""The agent in a guest, as the host's runtimes use it. All its methods raise WrongState after the connection's end."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

from isola.errors import IsolaError
from isola.host.clock import Clock
from isola.host.roots import Root
from isola.host.sockets import Stream
from isola.model.instance import InterfaceState
from isola.runtimes.agent import reports
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.connection import Connection, Welcome
from isola.runtimes.agent.execution import AgentExecution, execute
from isola.runtimes.agent.files import open_files
from isola.runtimes.agent.methods import GuestMount, Method, Work, write_mount
from isola.runtimes.agent.wire import EPOCH_SIZE
from isola.runtimes.agent.worker import Worker
from isola.runtimes.spec import ExecSpec, TapNic

_MOUNT_SECONDS = 60.0
_TIMEOUT = 10.0
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a guest that was restored from another one's snapshot must have for itself; empty: unchanged."""

    entropy: bytes = b""
    """Up to 64 random bytes."""
    hostname: str = ""
    machine_id: str = ""


class Agent:
    """One connection with one agent."""

    def __init__(self, connection: Connection, welcome: Welcome) -> None:
        self._connection = connection
        self.welcome = welcome
        """As it was at the beginning."""
        self._interfaces: tuple[InterfaceState, ...] = ()
        self._stats: reports.GuestStats | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed = float("-inf")

    @classmethod
    async def connect(cls, stream: Stream, clock: Clock, *, timeout: float | None = None) -> Agent:
        """Owns the stream. Raises WrongState, HostFailure, Unsupported, TimedOut: no answer for ``timeout`` seconds.

        A guest that has not booted yet finds the greeting when its agent opens the port.
        """
        connection = Connection(stream)
        return cls(connection, await connection.open(bytes.fromhex(clock.token(EPOCH_SIZE)), timeout or _TIMEOUT))

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return not self._connection.alive

    @property
    def suspended(self) -> bool:
        """Whether the guest is paused, so that it is not missed when it is silent. Its runtime sets it."""
        return self._connection.suspended

    @suspended.setter
    def suspended(self, paused: bool) -> None:
        self._connection.suspended = paused

    @property
    def last_interfaces(self) -> tuple[InterfaceState, ...]:
        """As they were reported last; never blocks. Asking for them has them reported again, once a second at most."""
        self._refresh()
        return () if self.closed else self._interfaces

    @property
    def last_stats(self) -> reports.GuestStats | None:
        """The same for what the guest uses; None before the first report."""
        self._refresh()
        return None if self.closed else self._stats

    @property
    def commands(self) -> int:
        """How many run for clients of this connection."""
        return self._connection.commands

    def close(self) -> None:
        """All commands and requests of this connection end. No effect if it is closed."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._connection.close()

    # --- the first process ---------------------------------------------------------------------------------------

    async def prepare(self, plan: Writer) -> None:
        """Mount the root and all that is below it; once. ``plan`` is from ``plan_of``."""
        await self._tell(Method.PREPARE, plan, seconds=_MOUNT_SECONDS)

    async def start(self) -> None:
        """Execute the program."""
        await self._tell(Method.START, seconds=_MOUNT_SECONDS)

    async def ended(self) -> tuple[int, str]:
        """Wait for the end of an application's program: its exit status, and why it could not be executed.

        Raises WrongState if the connection ends before, as it does at the end of a system image.
        """
        return await reports.shielded(self._connection.first)

    async def signal(self, signum: int) -> None:
        """To the first process."""
        await self._tell(Method.SIGNAL, Writer().number("I", signum))

    async def request_stop(self) -> None:
        """A clean shutdown: the stop signal of an application, the power-off of a system's init."""
        await self._tell(Method.STOP)

    async def resize(self, width: int, height: int) -> None:
        """Of the console."""
        sizes = (min(max(0, size), 65535) for size in (width, height))
        await self._tell(Method.RESIZE, Writer().number("HH", *sizes))

    async def power(self, *, restart: bool = False) -> None:
        """Write all to disk and end the machine at once."""
        await self._tell(Method.POWER, Writer().flag(restart))

    # --- commands and files --------------------------------------------------------------------------------------

    async def exec(self, spec: ExecSpec) -> AgentExecution:
        """Also raises InvalidInput."""
        return await execute(self._connection, spec)

    def files(self) -> AbstractAsyncContextManager[Root]:
        """Its file system, including all mounts inside."""
        return open_files(self._connection)

    # --- the system ----------------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Returns when the agent has answered."""
        await self._tell(Method.PING)

    async def configure(self, nic: TapNic) -> None:
        """Name, MTU, addresses and routes of a NIC, found by its MAC address, which is set up."""
        await self._tell(Method.CONFIGURE, reports.write_network(nic))

    async def set_up_loopback(self) -> None:
        """``lo`` is down in a kernel that has just booted."""
        await self._tell(Method.CONFIGURE, Writer().text("").text("lo").number("III", 0, 0, 0))

    async def interfaces(self) -> tuple[InterfaceState, ...]:
        """With addresses and counters, including ``lo``."""
        return reports.read_interfaces(await self._connection.request(Method.INTERFACES))

    async def stats(self) -> reports.GuestStats:
        """Of the whole guest."""
        return reports.read_stats(await self._connection.request(Method.STATS))

    async def processes(self) -> tuple[reports.Process, ...]:
        """At most 2048, with numbers of the guest."""
        return reports.read_processes(await self._connection.request(Method.PROCESSES))

    async def set_clock(self, nanoseconds: int) -> None:
        """Since 1970."""
        await self._tell(Method.CLOCK, Writer().number("Q", nanoseconds))

    async def identify(self, identity: Identity) -> None:
        """Give it an identity of its own."""
        body = Writer().text(identity.entropy).text(identity.hostname).text(identity.machine_id)
        await self._tell(Method.IDENTITY, body)

    async def mount(self, mount: GuestMount) -> None:
        """By the guest's kernel; the mount point is created."""
        body = Writer()
        write_mount(body, mount)
        await self._once(mount.target, Work.MOUNT, body)

    async def unmount(self, target: str) -> None:
        """Even if it is busy."""
        await self._once(target, Work.UNMOUNT, Writer().text(target))

    async def set_sysctl(self, name: str, value: str) -> None:
        """A parameter of the guest's kernel, as in sysctl(8)."""
        await self._once(name, Work.SYSCTL, Writer().text(name).text(value))

    async def use_cpus(self, count: int) -> int:
        """So many of those that it has; returns how many it uses, which is less where it has not found all yet."""
        return (await self._once("/", Work.CPUS, Writer().number("I", count))).number("I")

    async def sync(self) -> None:
        """Write all to disk."""
        await self._once("/", Work.SYNC, Writer())

    async def freeze(self) -> int:
        """Stop writing on file systems of block devices, for a snapshot; returns how many there are."""
        return (await self._once("/", Work.FREEZE, Writer())).number("I")

    async def thaw(self) -> int:
        """The opposite."""
        return (await self._once("/", Work.THAW, Writer())).number("I")

    def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        running = self._refreshing is not None and not self._refreshing.done()
        if self.closed or running or loop.time() < self._refreshed + _FRESH_SECONDS:
            return
        self._refreshing = loop.create_task(self._observe())

    async def _observe(self) -> None:
        with suppress(IsolaError):
            self._interfaces = await self.interfaces()
            self._stats = await self.stats()
        self._refreshed = asyncio.get_running_loop().time()

    async def _tell(self, method: Method, body: Writer | None = None, *, seconds: float = 30.0) -> None:
        (await self._connection.request(method, body, seconds=seconds)).end()

    async def _once(self, path: str, operation: Work, body: Writer) -> Reader:
        worker = await Worker.open(self._connection)
        try:
            return await worker.work(path, operation, body, seconds=_MOUNT_SECONDS)
        finally:
            await worker.close()
