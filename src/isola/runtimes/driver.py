"""The runtime driver kind: runs an instance on this host. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from isola.host import Host
from isola.host.process import ProcessRef
from isola.host.sockets import Stream
from isola.model.identity import HostNames, IdRange
from isola.model.instance import Status
from isola.model.limits import Limits, Usage
from isola.model.network import Endpoint
from isola.model.probe import Probe
from isola.operations import Operation


@dataclass(frozen=True, slots=True)
class RuntimeCapabilities:
    """Facts others may rely on instead of asking for a driver's name."""

    isolations: frozenset[str]
    """Isolation levels it gives: ``container``, ``sandbox``, ..."""
    shares_kernel: bool = True
    pause: bool = False
    checkpoint: bool = False
    live_limits: bool = False
    console: bool = False


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All a runtime needs to run an instance; pure values, no host handles."""

    id: str
    hostname: str
    root: Path
    """Mounted root file system; ids in it are already shifted."""
    idmap: IdRange
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = "0"
    """``uid`` or ``uid:gid`` or names as in the image's /etc/passwd."""
    system: bool = False
    """A distribution with its own init: writable cgroup, /run as tmpfs, a console."""
    limits: Limits = field(default_factory=Limits)
    tmpfs: int = 0
    """Bytes that each tmpfs made for it may hold; 0: as the kernel likes."""
    terminals: int = 0
    """Most pseudo-terminals; 0: as many as the host has."""
    lxcfs: Path | None = None
    """Where lxcfs is mounted on the host, when it is."""
    network: Endpoint | None = None
    """What its NICs end in; None: a network namespace made for the run, with ``lo`` alone."""


@dataclass(frozen=True, slots=True)
class Running:
    """An instance that is on the host: its first process, and the monitor that outlives the daemon."""

    id: str
    init: ProcessRef
    monitor: ProcessRef


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command inside a running instance."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str = "/"
    user: int = 0
    group: int = 0
    groups: tuple[int, ...] = ()
    terminal: bool = False
    width: int = 0
    height: int = 0


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


class Runtime(ABC):
    """Runs instances by an engine. One object per daemon; keeps nothing that the host does not know.

    ``directory`` is the daemon's: a runtime keeps its files of an instance under ``directory/run/<id>`` and the
    console's log in ``directory/logs/<id>/console.log``.
    """

    capabilities: ClassVar[RuntimeCapabilities]

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        self.host = host
        self.directory = directory
        self.names = names

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Does it work here, which version, and if not why and what to do."""

    @abstractmethod
    async def create(self, op: Operation, spec: RunSpec) -> Running:
        """Make the instance's first process, held before its program; effects are pushed on ``op`` for rollback."""

    @abstractmethod
    async def start(self, op: Operation, id: str) -> None:
        """Let the program run. Raises HostFailure with the engine's words."""

    @abstractmethod
    async def settled(self, running: Running, *, system: bool) -> int | None:
        """Return after ``start`` once the program shows a sign of life: None, or its exit status if it ended first.

        Of a ``system`` that is more than to run: it has children or groups of its own, or waits for something. What
        shows nothing at all for a short time counts as alive.
        """

    @abstractmethod
    async def find(self, id: str) -> Running | None:
        """The instance if it is on this host and alive: how a new daemon adopts what an old one started."""

    @abstractmethod
    async def status(self, id: str) -> Status:
        """RUNNING, FROZEN or STOPPED."""

    @abstractmethod
    async def ended(self, running: Running) -> int:
        """Return once the instance has ended: exit status, 128 + signal (129: it asks for a reboot)."""

    @abstractmethod
    async def signal(self, id: str, signum: int) -> None:
        """To the first process; fine when it is gone."""

    @abstractmethod
    async def pause(self, id: str) -> None:
        """Freeze all processes."""

    @abstractmethod
    async def resume(self, id: str) -> None:
        """Thaw them."""

    @abstractmethod
    async def remove(self, id: str) -> None:
        """Kill whatever is left and remove every trace but the logs; fine when nothing is there."""

    @abstractmethod
    async def exec(self, id: str, spec: ExecSpec) -> Execution:
        """Start a command inside. Raises WrongState when the instance does not run."""

    @abstractmethod
    async def console(self, id: str) -> Stream:
        """Attach to the console of a running instance."""

    @abstractmethod
    async def resize_console(self, id: str, width: int, height: int) -> None:
        """Tell the console its window size."""

    @abstractmethod
    async def console_log(self, id: str) -> bytes:
        """What the console has shown since the start (the last MiB), raw."""

    @abstractmethod
    async def clear_console_log(self, id: str) -> None:
        """Forget it."""

    @abstractmethod
    async def limit(self, id: str, limits: Limits) -> None:
        """Change the limits of a running instance."""

    @abstractmethod
    def usage(self, id: str) -> Usage:
        """What it uses now; quick, never blocks."""

    @abstractmethod
    async def owned(self) -> tuple[str, ...]:
        """Ids of all instances of which this runtime has traces on the host (files, processes, cgroups)."""
