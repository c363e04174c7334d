"""A guest with a kernel of its own: QEMU outside, an agent inside."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, Protocol

from isola.errors import HostFailure, InvalidInput, IsolaError, TimedOut, Unsupported, WrongState
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.guest_mounts import Tree
from isola.host.nodes import ANY_ACCESS, DeviceNumber
from isola.host.roots import Root
from isola.host.sockets import Packets, Stream
from isola.host.taps import open_tap
from isola.host.threads import in_thread
from isola.model.instance import InterfaceState
from isola.model.limits import Limits, Usage
from isola.model.network import NetworkNamespace
from isola.model.signals import HALTING, signal_number
from isola.model.stats import GroupStats, ProcessTable
from isola.runtimes.agent.agent import Agent
from isola.runtimes.agent.listing import table_of
from isola.runtimes.capabilities import Capability, RuntimeCapabilities
from isola.runtimes.guest import Execution
from isola.runtimes.oci.console import Attached, Console
from isola.runtimes.oci.layout import Layout
from isola.runtimes.output import Attachment
from isola.runtimes.qemu import machine, saving
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.limits import MIB, Sizes, memory_of, of_group
from isola.runtimes.qemu.qmp import violation
from isola.runtimes.qemu.session import Session
from isola.runtimes.spec import ExecSpec, RunSpec, TapNic

_HALTS = frozenset(map(signal_number, HALTING))
"""An init that gets one halts, and the machine would run on: it is asked to power it off instead."""
_UNPLUGGING = 15.0
"""Seconds that a guest has to release a NIC; it waits for five before it does anything."""
_BALLOONING = 30.0
_BALLOON_LOOK = 0.2
_BALLOON_SLACK = 4 * MIB
_WAKING, _WAKINGS = 2.0, 3
"""Seconds that a file server has to answer the first request of a guest that goes on, and how many there are."""
_LOOK, _LOOKS = 0.1, 100
"""Seconds between attempts to configure a NIC that was added, and how many there are."""


class Driver(Protocol):
    """The part of the runtime that a guest uses."""

    host: Host
    capabilities: ClassVar[RuntimeCapabilities]
    sizes: ClassVar[Sizes]

    def of_group(self, limits: Limits) -> Limits: ...

    def layout(self, id: str) -> Layout: ...

    def group(self, id: str) -> str: ...

    def park(self, id: str, packets: Packets) -> None: ...


class VmGuest:
    """One run of a virtual machine."""

    served: ClassVar[str] = ""
    """The directory inside that is the file server's; empty: the root."""

    def __init__(self, runtime: Driver, session: Session) -> None:
        self._runtime = runtime
        self._host = runtime.host
        self.session = session
        """For callers that depend on QEMU."""
        self._layout = runtime.layout(session.run.id)
        self._vm_layout = VmLayout.beside(self._layout)
        self._group = runtime.group(session.run.id)
        self.plan: RunSpec | None = session.spec

    @property
    def id(self) -> str:
        """The instance's."""
        return self.session.run.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VmGuest) and self.session.run == other.session.run

    def __hash__(self) -> int:
        return hash(self.session.run)

    # --- life ---------------------------------------------------------------------------------------------------

    async def settled(self) -> int | None:
        """Its agent has reported that the program is executed, before ``run`` returned."""
        return None if self.session.alive else await self.ended()

    async def ended(self) -> int:
        """As its agent has reported it; otherwise as the machine ended."""
        return await self.session.ended()

    async def request_stop(self) -> None:
        """By the agent; if that does not answer, by the power button."""
        if not self.session.alive:
            return
        try:
            agent, spec = await self.session.agent(seconds=5), self.session.spec
            if spec.system and spec.stop_signal not in _HALTS:
                await agent.signal(spec.stop_signal)
            else:
                await agent.request_stop()
        except IsolaError:
            if self.session.alive:
                await self.session.qmp.execute("system_powerdown")

    async def signal(self, signum: int) -> None:
        """To the first process, by the agent. SIGKILL ends the machine at once."""
        if not self.session.alive:
            return
        if signum == 9:
            self.session.removed = True
            self._host.processes.signal(self.session.run.qemu, signum)
            return
        await (await self.session.agent()).signal(signum)

    def frozen(self) -> bool:
        """Whether its virtual CPUs are stopped."""
        return self.session.paused and self.session.alive

    async def pause(self) -> None:
        """Stop its virtual CPUs."""
        await self.session.qmp.execute("stop")
        self.session.hold(paused=True)

    async def checkpoint(self, to: Path) -> None:
        """It stands still meanwhile, and goes on after a failure."""
        self._runtime.capabilities.require(Capability.CHECKPOINT)
        self.require_running()
        await self._ready_to_save()
        await self.pause()
        try:
            await self.write_state(to)
        except BaseException:
            await finish(asyncio.ensure_future(self.resume()))
            raise
        self.session.give_up()
        await self.session.ended()

    async def save(self, to: Path) -> None:
        """The same for one that is paused, which stays so."""
        await self.write_state(to)

    async def write_state(self, to: Path) -> None:
        """Of a machine that stands still."""
        await saving.save(self._host, self.session.qmp, self._vm_layout, to)

    async def _ready_to_save(self) -> None:
        """Raises WrongState."""
        if (await self.session.agent()).commands:
            raise WrongState(
                "Commands run in the instance, whose connections to their clients cannot be saved",
                remedy="end them first, also shells and consoles",
            )
        with suppress(IsolaError):  # its files belong to its memory, also after a power failure
            await (await self.session.agent()).sync()

    async def resume(self) -> None:
        """Its clock, which stood still meanwhile, is set, and its file server looks for what waits."""
        if not self.frozen():
            return
        await self.session.qmp.execute("cont")
        self.session.hold(paused=False)
        with suppress(IsolaError):
            agent = await self.session.agent()
            await self.set_clock(agent)
            await self._wake_file_server(agent)

    async def set_clock(self, agent: Agent) -> None:
        """To that of the host."""
        await agent.set_clock(int(self._host.clock.now().timestamp() * 1_000_000_000))

    async def _wake_file_server(self, agent: Agent) -> None:
        """By a request of its own, which cannot be answered from a cache; see ``machine.files``."""
        nothing = f"{self.served}/.{self._host.clock.token(16)}"
        for _ in range(_WAKINGS):
            with suppress(TimeoutError):
                async with asyncio.timeout(_WAKING), agent.files() as root:
                    await root.stat(nothing, follow=False)
                    return

    # --- inside -------------------------------------------------------------------------------------------------

    async def exec(self, spec: ExecSpec) -> Execution:
        """By the agent."""
        self.require_running()
        if not spec.command or any("\0" in text for text in (*spec.command, *spec.environment, spec.cwd)):
            raise InvalidInput("The command must have at least one argument, and no NUL", field="command")
        agent = await self.session.agent()
        return await agent.exec(spec)

    @asynccontextmanager
    async def files(self) -> AsyncIterator[Root]:
        """By the agent."""
        self.require_running()
        async with (await self.session.agent()).files() as root:
            yield root

    async def console(self) -> Stream:
        """By the monitor's socket."""
        self._require_terminal()
        return Console(await self._host.sockets.connect_packets(self._layout.attach))

    async def display(self, protocol: str = "spice") -> Stream:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.DISPLAY)
        raise AssertionError

    async def process_table(self) -> ProcessTable:
        """By the agent."""
        self.require_running()
        return table_of(await (await self.session.agent()).processes())

    async def attach(self) -> Attachment:
        """By the monitor's socket."""
        self.session.require()
        return Attached(await self._host.sockets.connect_packets(self._layout.attach), self._park)

    def _park(self, packets: Packets) -> None:
        """Only an input that a client can end has to be protected from its end."""
        spec = self.session.spec
        if spec.stdin and spec.stdin_once and not spec.terminal:
            self._runtime.park(self.id, packets)
        else:
            packets.close()

    async def resize_console(self, width: int, height: int) -> None:
        """By the agent, which owns the terminal."""
        self._require_terminal()
        await (await self.session.agent()).resize(max(0, width), max(0, height))

    # --- watched ------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """PID of the hypervisor."""
        return self.session.run.qemu.pid if self.session.alive else 0

    def numbers(self) -> tuple[int, ...]:
        """Its kernel has numbers of its own."""
        return ()

    def stats(self) -> GroupStats:
        """Of the hypervisor with its file server."""
        return self._host.cgroups.stats(self._group)

    def usage(self) -> Usage:
        """Of the hypervisor with its file server."""
        return self._host.cgroups.usage(self._group)

    def oom_killed(self) -> bool:
        """Of the guest's processes it is known at its end."""
        return self.session.oom_killed()

    def failure(self) -> str:
        """As its session knows it."""
        return self.session.failure

    async def look(self) -> None:
        """By its agent."""
        await self.session.look()

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """As its agent has reported last."""
        return self.session.interfaces()

    def refused_ports(self) -> Mapping[str, int]:
        """Its own kernel has its sockets."""
        return {}

    async def refused_calls(self) -> Mapping[tuple[int, str], int]:
        """The same."""
        return {}

    async def limit(self, limits: Limits) -> None:
        """Memory by the balloon, which can be as large as the RAM it was started with; CPU time by the host."""
        ram, wanted = memory_of(self.session.spec.limits), memory_of(limits)
        if wanted > ram:
            raise Unsupported(
                f"The memory of a running virtual machine cannot grow beyond the {ram // MIB} MiB it was started with",
                remedy="restart the instance",
                field="config.limits.memory",
            )
        group = of_group(limits)
        if self.session.paused:
            raise WrongState("The instance is frozen", remedy="resume it first")
        await self._balloon(wanted)
        await self._host.cgroups.limit(self._group, group)

    async def _balloon(self, wanted: int) -> None:
        """Raises TimedOut if the guest does not give back its memory; then it gets all of it again."""
        qmp = self.session.qmp
        await qmp.execute("balloon", {"value": wanted})
        end = self._host.clock.monotonic() + _BALLOONING
        while (has := await self._memory()) > wanted + _BALLOON_SLACK:
            if self._host.clock.monotonic() > end:
                await qmp.execute("balloon", {"value": memory_of(self.session.spec.limits)})
                raise TimedOut(
                    f"The guest gives back memory down to {has // MIB} MiB only", remedy="stop programs in it first"
                )
            await self._host.clock.sleep(_BALLOON_LOOK)

    async def _memory(self) -> int:
        """Bytes of RAM that are not in the balloon."""
        found = await self.session.qmp.execute("query-balloon")
        actual = found.get("actual") if isinstance(found, dict) else None
        if not isinstance(actual, int):
            raise violation(found)
        return actual

    # --- NICs ---------------------------------------------------------------------------------------------------

    async def plug(self, nic: TapNic) -> None:
        """Into the first free slot."""
        qmp, name = self.session.qmp, machine.name_of(nic.link)
        try:
            descriptor = await in_thread(open_tap, nic.link)
        except OSError as error:
            raise HostFailure(f"The tap {nic.link} cannot be opened", evidence=str(error)) from error
        try:
            await qmp.execute("getfd", {"fdname": f"fd-{name}"}, descriptor=descriptor)
        finally:
            os.close(descriptor)
        await qmp.execute("netdev_add", {"type": "tap", "id": f"tap-{name}", "fd": f"fd-{name}"})
        try:
            await self.insert(machine.nic_properties(nic.link, nic.mac) | {"romfile": ""})
            if not self.frozen():
                await self.configure(nic)
        except BaseException:
            await self.unplug(nic.link)
            raise

    async def configure(self, nic: TapNic) -> None:
        """Its kernel takes a moment to find it."""
        agent = await self.session.agent()
        for _ in range(_LOOKS):
            try:
                return await agent.configure(nic)
            except HostFailure:
                await self._host.clock.sleep(_LOOK)
        await agent.configure(nic)

    async def insert(self, properties: Mapping[str, object]) -> None:
        """A device into the first slot that is free. Raises Unsupported if none is."""
        spec = self.session.spec
        for number in range(machine.HOT_PLUG_PORTS + len(spec.nics) + len(spec.disks)):
            placed = {**properties, "bus": machine.port_name(number)}
            try:
                return await self.session.qmp.execute("device_add", placed)  # type: ignore[no-any-return]
            except HostFailure as error:
                if "not found" in error.evidence:
                    break  # it has no more
                if "already" not in error.evidence and "in use" not in error.evidence:
                    raise
        raise Unsupported(
            "The virtual machine has no free slot",
            evidence=f"at most {machine.HOT_PLUG_PORTS} NICs and disks can be added while it runs",
            remedy="restart the instance, or remove another one first",
        )

    async def unplug(self, link: str) -> None:
        """The guest is asked; whether or not it releases the NIC, the tap is closed."""
        if not self.session.alive:
            return
        name, qmp = machine.name_of(link), self.session.qmp
        self.session.expect_removal(f"nic-{name}")
        if await worked(qmp.execute, "device_del", {"id": f"nic-{name}"}) and not self.frozen():
            await self.session.removal(f"nic-{name}", _UNPLUGGING)
        await worked(qmp.execute, "netdev_del", {"id": f"tap-{name}"})

    async def keep_network(self, namespace: NetworkNamespace) -> None:
        """Raises Unsupported: its NICs end in taps."""
        raise Unsupported("A virtual machine has no network namespace")

    # --- mounts -------------------------------------------------------------------------------------------------

    async def mount(self, tree: Tree, target: str) -> None:
        """Below its root as the file server sees it, and so the guest."""
        self.session.require()
        idmap = self.session.spec.idmap
        owner = idmap.base if idmap is not None else 0
        await self._host.guest_mounts.put(self.session.run.server, tree, target, owner=owner)

    async def unmount(self, number: int) -> None:
        """The same."""
        await self._host.guest_mounts.take(self.session.run.server, number)

    async def mounts(self) -> frozenset[int]:
        """Those of the file server."""
        self.session.require()
        return await self._host.guest_mounts.there(self.session.run.server)

    async def let_open(self, device: DeviceNumber, *, allowed: bool, access: str = ANY_ACCESS) -> None:
        """Raises Unsupported: devices of the host are not those of its kernel."""
        self._runtime.capabilities.require(Capability.DEVICES)

    def root(self) -> AbstractContextManager[int]:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.SOCKETS)
        raise AssertionError

    # --- how ----------------------------------------------------------------------------------------------------

    def require_running(self) -> None:
        self.session.require()
        if self.frozen():
            raise WrongState("The instance is frozen", remedy="resume it first")

    def _require_terminal(self) -> None:
        self.session.require()
        if not self.session.spec.terminal:
            raise Unsupported("The instance was started without a terminal", remedy="read its log instead")


async def worked(work: Callable[..., object], *arguments: object) -> bool:
    """Whether QEMU has accepted it."""
    try:
        result = work(*arguments)
        if asyncio.iscoroutine(result):
            await result
    except HostFailure:
        return False
    return True
