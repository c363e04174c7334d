"""A guest: a running instance, independent of its runtime. This interface has no PIDs and no paths of the host."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from isola.host.guest_mounts import Tree
from isola.host.nodes import ANY_ACCESS, DeviceNumber
from isola.host.roots import Root
from isola.host.sockets import Stream
from isola.model.disk import Disk
from isola.model.instance import InterfaceState
from isola.model.limits import Limits, Usage
from isola.model.network import NetworkNamespace
from isola.model.stats import GroupStats, ProcessTable
from isola.runtimes.output import Attachment
from isola.runtimes.spec import ExecSpec, RunSpec, TapNic


class Execution(Protocol):
    """A command that runs inside an instance; ends with the daemon."""

    @property
    def stdin(self) -> Stream:
        """The stream for input; with a terminal the same as ``stdout``."""
        ...

    @property
    def stdout(self) -> Stream: ...

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        ...

    @property
    def refusal(self) -> str:
        """After its end: why it could not be executed, as the engine says it; empty if it was executed."""
        ...

    def resize(self, width: int, height: int) -> None: ...

    async def signal(self, signum: int) -> None:
        """Send a signal to the command inside."""
        ...

    async def number(self) -> int:
        """The PID for display only; 0 if there is none any more, or the guest has its own kernel."""
        ...

    async def wait(self) -> int:
        """Exit status as in a shell: 128 + signal, 126 not executable, 127 not found."""
        ...

    async def close(self) -> None:
        """Kill it if it is still running, and close all descriptors."""
        ...


class Life(Protocol):
    """The life cycle of a run."""

    async def settled(self) -> int | None:
        """Wait until the guest counts as started; returns None, or its exit status if it ended before.

        A system container counts as started when it has child processes or control groups, or waits for an
        event, or
        after a short time without any of these.
        """
        ...

    async def ended(self) -> int:
        """Wait for the end of the guest; returns its exit status, or 128 + signal (129: it requests a reboot)."""
        ...

    async def request_stop(self) -> None:
        """Request a clean shutdown, which may be ignored: a signal to init, a power button. No effect after its end."""
        ...

    async def signal(self, signum: int) -> None:
        """Send a signal to the first process; no effect if it has ended. Raises Unsupported."""
        ...

    def frozen(self) -> bool:
        """Whether it is paused; never blocks."""
        ...

    async def pause(self) -> None:
        """Freeze it. Raises WrongState if it has ended, Unsupported."""
        ...

    async def resume(self) -> None:
        """Thaw it; no effect if it is not paused."""
        ...

    async def checkpoint(self, to: Path) -> None:
        """Save its memory and processes in an empty directory, durably, and end it.

        Raises WrongState if it has ended, is paused or cannot be saved now, HostFailure (it may have ended, too),
        Unsupported.
        """
        ...


class Inside(Protocol):
    """Access to the inside. All methods raise WrongState if it has ended, and Unsupported."""

    async def exec(self, spec: ExecSpec) -> Execution:
        """Start a command. Also raises WrongState if the guest is paused, and InvalidInput."""
        ...

    def files(self) -> AbstractAsyncContextManager[Root]:
        """Its file system, including all mounts inside."""
        ...

    async def console(self) -> Stream:
        """Attach to the terminal of its first process."""
        ...

    async def display(self, protocol: str = "spice") -> Stream:
        """A new connection to its screen, by ``spice`` or ``vnc``; viewers open several. Also while it is paused."""
        ...

    async def attach(self) -> Attachment:
        """To what its first process says from now on, and to its input; also while it is held before its program."""
        ...

    async def resize_console(self, width: int, height: int) -> None:
        """Set the window size of that terminal."""
        ...


class Watched(Protocol):
    """Resource usage and limits."""

    @property
    def number(self) -> int:
        """The PID for display only (the API's ``pid``); 0: none."""
        ...

    def numbers(self) -> tuple[int, ...]:
        """PIDs of all its processes on the host, for display only; never blocks; empty if it has its own kernel."""
        ...

    def stats(self) -> GroupStats:
        """All that is measured of it, without its interfaces; never blocks; zeros if it has ended."""
        ...

    def usage(self) -> Usage:
        """Current usage; never blocks; zeros if it has ended."""
        ...

    def oom_killed(self) -> bool:
        """Whether the kernel has killed one of its processes because its memory was used up; never blocks.

        Also after its end, until it is removed.
        """
        ...

    def failure(self) -> str:
        """Which failure of its hypervisor, or of a process that it needs, has ended it; empty: none."""
        ...

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """Its interfaces with addresses and counters, including ``lo``; never blocks; empty if it has ended.

        Hardware addresses and the MTU may be missing.
        """
        ...

    async def limit(self, limits: Limits) -> None:
        """Change its limits. Raises Unsupported."""
        ...

    def refused_ports(self) -> Mapping[str, int]:
        """How often it was refused a port since its limits were set, by ``listen tcp/80``; never blocks.

        None where the host does not see them.
        """
        ...

    async def refused_calls(self) -> Mapping[tuple[int, str], int]:
        """How often its filter refused a call since it was started, by its number and the program, ``?`` if unknown.

        None where the host's kernel reports them itself, and where there is no filter. Large counts may lag.
        """
        ...

    async def plug(self, nic: TapNic) -> None:
        """Add a NIC that is a tap. NICs in a network namespace need no call."""
        ...

    async def keep_network(self, namespace: NetworkNamespace) -> None:
        """Keep alive its network namespace, which an engine has created, under the path for those of instances.

        Raises WrongState if it has ended, AlreadyExists, HostFailure, Unsupported if its NICs are taps.
        """
        ...

    async def unplug(self, link: str) -> None:
        """Remove the tap of this name; no effect if it does not exist."""
        ...


class Plugged(Protocol):
    """Mounts and devices that are added after its start.

    All methods raise WrongState if it has ended, and Unsupported if it has its own kernel.
    """

    async def mount(self, tree: Tree, target: str) -> None:
        """Mount it on an absolute path inside, which is created if it does not exist. Raises InvalidInput,
        HostFailure.
        """
        ...

    async def unmount(self, number: int) -> None:
        """Unmount a tree by its mount id, even if it is busy; no effect if it does not exist. Raises HostFailure."""
        ...

    async def mounts(self) -> frozenset[int]:
        """Ids of all mounts inside."""
        ...

    async def let_open(self, device: DeviceNumber, *, allowed: bool, access: str = ANY_ACCESS) -> None:
        """Permit or deny opening this device inside, for reading, writing or creating nodes.

        The devices that every instance may open are not affected.
        """
        ...

    def root(self) -> AbstractContextManager[int]:
        """A descriptor of its root directory, for helper programs that resolve paths in it."""
        ...


@runtime_checkable
class Serving(Protocol):
    """A run whose connections are seen from outside."""

    def clients(self) -> int:
        """TCP connections that others have opened to its programs; 0 if it has ended. Blocks shortly."""
        ...


@runtime_checkable
class Listing(Protocol):
    """A run whose processes are known to its own kernel."""

    async def process_table(self) -> ProcessTable:
        """As its kernel numbers them. Raises WrongState if it has ended or is paused, HostFailure, TimedOut."""
        ...


@runtime_checkable
class WithDisks(Protocol):
    """A run with block devices of its own, whether or not its root is one of them.

    All methods raise WrongState if it has ended, HostFailure.
    """

    async def disks(self) -> frozenset[str]:
        """Names of all disks that it has now."""
        ...

    async def add_disk(self, disk: Disk) -> None:
        """Raises AlreadyExists, InvalidInput, Unsupported if no place is left, or none can be added while it runs."""
        ...

    async def remove_disk(self, name: str) -> None:
        """Also if the guest still uses it; no effect if it does not exist."""
        ...

    async def resize_disk(self, name: str, size: int) -> None:
        """Grow it to this number of bytes, its file too. Raises NotFound, InvalidInput if it is larger already."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A run whose interfaces are known to its own kernel, which reports them."""

    async def look(self) -> None:
        """Have them reported, for ``interfaces``; waits a second at most."""
        ...


@runtime_checkable
class Standing(Protocol):
    """A run that is saved while it stands still, and goes on afterwards."""

    async def save(self, to: Path) -> None:
        """Save its memory and processes in an empty directory, durably; it is paused, and stays so.

        Raises HostFailure, Unsupported, WrongState.
        """
        ...


class Guest(Life, Inside, Watched, Plugged, Protocol):
    """One run of an instance. Guests are equal if they are the same run."""

    @property
    def id(self) -> str:
        """The id of the instance."""
        ...

    @property
    def plan(self) -> RunSpec | None:
        """The spec with which it was started; None if an old daemon did not record it."""
        ...
