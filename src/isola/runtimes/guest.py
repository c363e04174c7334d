"""A guest: an instance that runs on this host, whatever runs it. No process and no path of the host's shows here."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from isola.host.guest_mounts import Tree
from isola.host.nodes import DeviceNumber
from isola.host.roots import Root
from isola.host.sockets import Stream
from isola.model.instance import InterfaceState
from isola.model.limits import Limits, Usage
from isola.model.network import NetworkNamespace
from isola.runtimes.output import Attachment
from isola.runtimes.spec import ExecSpec, RunSpec, TapNic


class Execution(Protocol):
    """A command that runs inside an instance; ends with the daemon."""

    @property
    def stdin(self) -> Stream:
        """Where to write; with a terminal the same stream as ``stdout``."""
        ...

    @property
    def stdout(self) -> Stream: ...

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        ...

    def resize(self, width: int, height: int) -> None: ...

    async def signal(self, signum: int) -> None:
        """To the command itself, inside."""
        ...

    async def wait(self) -> int:
        """Exit status as a shell gives it: 128 + signal, 126 not executable, 127 not found."""
        ...

    async def close(self) -> None:
        """Kill it if it still runs and give back every descriptor."""
        ...


class Life(Protocol):
    """How a run goes on and comes to its end."""

    async def settled(self) -> int | None:
        """Return once the guest shows a sign of life: None, or its exit status if it ended first.

        Of a system that is more than to run: it has children or groups of its own, or waits for something. What shows
        nothing at all for a short time counts as alive.
        """
        ...

    async def ended(self) -> int:
        """Return once the guest has ended: exit status, 128 + signal (129: it asks for a reboot)."""
        ...

    async def request_stop(self) -> None:
        """Ask for a clean end, which may never come: a signal to an init, a power button; fine when it has ended."""
        ...

    async def signal(self, signum: int) -> None:
        """To the first process; fine when it has ended. Raises Unsupported."""
        ...

    def frozen(self) -> bool:
        """Whether it is paused; quick, never blocks."""
        ...

    async def pause(self) -> None:
        """Stop it in its tracks. Raises WrongState when it has ended, Unsupported."""
        ...

    async def resume(self) -> None:
        """Let it go on; fine when it is not paused."""
        ...


class Inside(Protocol):
    """Ways into it. All raise WrongState when it has ended, and Unsupported."""

    async def exec(self, spec: ExecSpec) -> Execution:
        """Start a command. Raises WrongState also when the guest is paused, InvalidInput."""
        ...

    def files(self) -> AbstractAsyncContextManager[Root]:
        """Its file system as it sees it, with everything mounted."""
        ...

    async def console(self) -> Stream:
        """Attach to the terminal of its first process."""
        ...

    async def attach(self) -> Attachment:
        """To what its first process says from now on, and to its input; also while it is held before its program."""
        ...

    async def resize_console(self, width: int, height: int) -> None:
        """Tell that terminal its window size."""
        ...


class Watched(Protocol):
    """What it uses, and may use."""

    @property
    def number(self) -> int:
        """The process number that people are shown (the API's ``pid``); 0: none. Nothing is found or done by it."""
        ...

    def usage(self) -> Usage:
        """What it uses now; quick, never blocks, nothing when it has ended."""
        ...

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """Its interfaces with addresses and counters, ``lo`` among them; quick, never blocks, none when it has ended.

        Hardware addresses and the MTU need not be known.
        """
        ...

    async def limit(self, limits: Limits) -> None:
        """Change what it may use. Raises Unsupported."""
        ...

    async def plug(self, nic: TapNic) -> None:
        """Take the tap for one more NIC. A guest whose NICs end in a namespace sees them by itself."""
        ...

    async def keep_network(self, namespace: NetworkNamespace) -> None:
        """Keep the network namespace it runs in, which an engine made, where those of instances are kept.

        Raises WrongState when it has ended, AlreadyExists, HostFailure, Unsupported where its NICs end in taps.
        """
        ...

    async def unplug(self, link: str) -> None:
        """Let go of the tap of this name; fine when it is not plugged in."""
        ...


class Plugged(Protocol):
    """What is mounted in it and let through to it beside what it was started with.

    All raise WrongState when it has ended, and Unsupported where it has a kernel of its own.
    """

    async def mount(self, tree: Tree, target: str) -> None:
        """Mount it on an absolute path inside, which is made where it is missing. Raises InvalidInput, HostFailure."""
        ...

    async def unmount(self, number: int) -> None:
        """Unmount a tree by its number, busy or not; fine when it is not there. Raises HostFailure."""
        ...

    async def mounts(self) -> frozenset[int]:
        """Numbers of all that is mounted inside."""
        ...

    async def let_open(self, device: DeviceNumber, *, allowed: bool) -> None:
        """Whether nodes of this device can be opened inside; what every instance may open stays so."""
        ...

    def root(self) -> AbstractContextManager[int]:
        """A descriptor of its root directory, for a program of ours that resolves paths in it."""
        ...


class Guest(Life, Inside, Watched, Plugged, Protocol):
    """One run of an instance. Guests are equal if they are the same run."""

    @property
    def id(self) -> str:
        """The instance's."""
        ...

    @property
    def plan(self) -> RunSpec | None:
        """What was started; None of a guest that a daemon started which did not write it down."""
        ...
