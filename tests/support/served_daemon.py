"""A daemon in memory with a real door, in a separate thread, whose instances run programs of this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from guest_tree import GuestTree

from isola.client import Client
from isola.daemon.build import Drivers
from isola.errors import NotFound
from isola.host import Host
from isola.model.instance import Address, InterfaceState
from isola.model.probe import Probe
from isola.model.reference import Ref
from isola.operations import Operation
from isola.testing.commands import FakeCommand, Program
from isola.testing.door import ServedWorld, world_in
from isola.testing.files import FakeRoot
from isola.testing.namespaces import LOOPBACK
from isola.testing.parts import World
from isola.testing.runtime import FakeRuntime
from isola.testing.sockets import FakeStream
from isola.testing.system import FakeSystem
from isola.testing.tree import Node

Work = Callable[[Operation], Awaitable[object]]


class AbsentRuntime(FakeRuntime):
    """A runtime that does not work on this host."""

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        return Probe(False, reason="hybrid cgroups", remedy="boot with cgroup v2 alone")


_BLOCK = 65536
_NOT_FOUND = 127


class _Slow:
    """An observer that calls a function when an operation reaches its first point."""

    def __init__(self) -> None:
        self.work: Work | None = None
        self.begun: list[Operation] = []

    async def reached(self, operation: Operation, point: str) -> None:
        if self.work is not None and operation not in self.begun:
            self.begun.append(operation)
            await self.work(operation)


class _Programs(dict[str, Program]):
    """A mapping that has all programs."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program

    def get(self, name: str, default: object = None) -> Program:
        return self._program


class ServedDaemon(ServedWorld):
    """``with ServedDaemon(directory) as daemon``: ``create`` creates instances, ``client`` reads them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, self._prepare_world)
        self.sizes: list[tuple[int, int]] = []
        """Window sizes (columns, lines) that were set on terminals."""
        self.signals: list[int] = []
        """Signals that commands were sent."""
        self._slow = _Slow()

    def _prepare_world(self, world: World) -> None:
        world.runtime.programs = _Programs(self._run_program)

    def make_world(self) -> World:
        limits = {"fs.inotify.max_user_instances": {"limit": 1024, "used": 800}}
        world = world_in(
            self.directory, FakeSystem(limits=limits, apparmor_label="unconfined"), Drivers({"crun": AbsentRuntime})
        )
        world.observer = self._slow
        return world

    @property
    def slow(self) -> Work | None:
        """A function that is called when an operation reaches its first point, before any effect."""
        return self._slow.work

    @slow.setter
    def slow(self, work: Work | None) -> None:
        self._slow.work = work

    @property
    def operations(self) -> list[Operation]:
        """Operations that were delayed, in the order of their start."""
        return self._slow.begun

    @property
    def client(self) -> Client:
        """A new client, whose requests are not in ``requests``."""
        return Client(self.directory, timeout=20)

    def look(self, ask: Callable[[Client], Any]) -> Any:
        """Call the API without an entry in ``requests``."""
        before = list(self.requests)
        with self.client as client:
            found = ask(client)
        self.requests[:] = before
        return found

    @property
    def instances(self) -> dict[str, Any]:
        """All instances of the API, by name."""
        return {info["name"]: info for info in self.look(lambda client: client.instances.all())}

    def create(self, name: str, *, start: bool = True, **wanted: Any) -> None:
        """Create an instance of the image ``tiny``."""
        self.do(self.world.create(name, start=start, **wanted))

    def give_address(self, name: str, address: str) -> None:
        """Give a running instance an IPv4 address on eth0."""
        eth0 = InterfaceState("eth0", (Address("inet", address, "24", "global"),))
        self.do(self._at(lambda: self._set_interfaces(name, eth0)))

    def _set_interfaces(self, name: str, *interfaces: InterfaceState) -> None:
        self.world.on_host(name).interfaces = (LOOPBACK, *interfaces)

    def tree(self, name: str) -> GuestTree:
        """The files of a running instance."""

        async def find() -> tuple[Node, int]:
            services = self.world.parts.services
            idmap = services.instances.get(Ref.default(name)).idmap
            async with services.instances.files(Ref.default(name)) as root:
                assert isinstance(root, FakeRoot)
                return root.node, idmap.base if idmap else 0

        return GuestTree(*self.do(find()))

    def echo_console(self, name: str, greeting: bytes) -> None:
        """Greet the next client of the instance's console, and send back what it types."""

        async def begin() -> None:
            self._echoing = asyncio.ensure_future(echo())

        async def echo() -> None:
            consoles = self.world.on_host(name).consoles
            while not consoles:  # noqa: ASYNC110 - no event tells that a client has come
                await asyncio.sleep(0.01)
            far = consoles[0].far
            await far.write(greeting)
            while data := await far.read():
                await far.write(data)

        self.do(begin())

    async def _at(self, work: Callable[[], object]) -> None:
        work()

    # --- programs -----------------------------------------------------------------------------------------------

    async def _run_program(self, command: FakeCommand) -> int:
        run = self._terminal if command.spec.terminal else self._pipes
        try:
            return await run(command)
        except FileNotFoundError:
            await command.stderr.write(f"{command.spec.command[0]}: no such program\n".encode())
            return _NOT_FOUND

    def _environment(self, command: FakeCommand) -> dict[str, str]:
        return {**command.spec.environment, "PATH": os.environ["PATH"]}

    async def _pipes(self, command: FakeCommand) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command.spec.command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment(command)
        )
        assert process.stdin and process.stdout and process.stderr
        outputs = [_drain(process.stdout, command.stdout), _drain(process.stderr, command.stderr)]
        inputs = [_feed(command.stdin, process.stdin), self._signal(command, process)]
        return await _attended(process, inputs, outputs)

    async def _terminal(self, command: FakeCommand) -> int:
        master, slave = pty.openpty()
        self._resize(master, command.size)
        command.on_resize = lambda: self._resize(master, command.size)
        # Children of a shell in the background ignore signals of the terminal.
        argv = ["env", "--default-signal=INT,QUIT", "setsid", "--ctty", *command.spec.command]
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=slave, stdout=slave, stderr=slave, env=self._environment(command)
        )
        os.close(slave)
        os.set_blocking(master, False)
        try:
            inputs = [_type(command.stdin, master), self._signal(command, process)]
            return await _attended(process, inputs, [_show(master, command.stdout)])
        finally:
            os.close(master)

    async def _signal(self, command: FakeCommand, process: asyncio.subprocess.Process) -> None:
        while True:
            number = await command.signals.get()
            self.signals.append(number)
            process.send_signal(number)

    def _resize(self, master: int, size: tuple[int, int]) -> None:
        columns, lines = size
        self.sizes.append((columns, lines))
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


async def _attended(
    process: asyncio.subprocess.Process,
    inputs: list[Coroutine[Any, Any, None]],
    outputs: list[Coroutine[Any, Any, None]],
) -> int:
    """Wait until all output is transferred and the process has ended; it is killed on cancellation."""
    helpers = [asyncio.ensure_future(work) for work in inputs]
    try:
        await asyncio.gather(*outputs)
        status = await process.wait()
        return status if status >= 0 else 128 - status
    finally:
        for helper in helpers:
            helper.cancel()
        # Kill it if it runs, and close its pipes while the loop runs; any await may be cancelled again.
        process._transport.close()  # type: ignore[attr-defined]


async def _feed(source: FakeStream, stdin: asyncio.StreamWriter) -> None:
    while data := await source.read():
        stdin.write(data)
        with suppress(ConnectionError):  # the command has closed its input
            await stdin.drain()
    stdin.close()


async def _drain(stream: asyncio.StreamReader, target: FakeStream) -> None:
    while data := await stream.read(_BLOCK):
        if target.far.closed:
            raise NotFound("nothing reads any more")
        await target.write(data)


async def _type(source: FakeStream, master: int) -> None:
    while data := await source.read():
        os.write(master, data)


async def _show(master: int, target: FakeStream) -> None:
    while data := await _read(master):
        await target.write(data)


async def _read(fd: int) -> bytes:
    """The next data, without a thread, which could not be cancelled."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
        return os.read(fd, _BLOCK)
    except OSError:  # the other end is closed
        return b""
    finally:
        loop.remove_reader(fd)
