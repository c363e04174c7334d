"""The runtime driver kind: runs an instance on this host. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from isola.host import Host
from isola.model.identity import HostNames
from isola.model.last_run import Ending
from isola.model.probe import Probe
from isola.operations import Operation
from isola.runtimes.capabilities import RuntimeCapabilities
from isola.runtimes.guest import Guest
from isola.runtimes.output import LogLine
from isola.runtimes.spec import RunSpec

Held = Callable[[Guest], Awaitable[None]]
CONSOLE_LOG = "console.log"
"""Name of the log of an instance's output, in the directory of its logs."""
RUNS = "run"
"""Name of the directory, in that of the daemon, for files that are obsolete after a boot of the host."""


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Restore:
    """A saved state from which a run continues."""

    path: Path
    """A directory that ``Guest.checkpoint`` of the same runtime has filled."""
    spend: Callable[[], Awaitable[None]] = _nothing
    """Awaited right before its programs go on: from then on they change files that the state depends on."""
    take_back: Callable[[], Awaitable[None]] = _nothing
    """Awaited if it is certain that they did not go on after all."""


class Runtime(ABC):
    """Runs instances by an engine. One object per daemon; all its state can be recovered from the host.

    ``directory`` is the daemon's: a runtime keeps its files of an instance under ``directory/run/<id>``, among them the
    plan of what was started, and the log of its output in ``directory/logs/<id>/console.log``, older generations beside
    it (``host.log_files``): lines ``TIME STREAM F|P CONTENT``, where the time has nanoseconds and a zone.
    """

    capabilities: ClassVar[RuntimeCapabilities]

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        self.host = host
        self.directory = directory
        self.names = names

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Whether it works on this host, with the version, or the reason and a remedy."""

    @abstractmethod
    async def run(
        self, op: Operation, spec: RunSpec, held: Held | None = None, *, restore: Restore | None = None
    ) -> Guest:
        """Start it; effects are pushed on ``op`` for rollback.

        ``held`` is called when the first process exists but has not executed its program yet, to attach devices.
        ``restore``: what it continues from; ``held`` is called before.

        Raises HostFailure with the engine's message, AlreadyExists, Unsupported (a part of the spec), WrongState (it
        cannot continue from this state).
        """

    @abstractmethod
    async def find(self, id: str) -> Guest | None:
        """The instance, if it is running on this host; used to adopt instances that an earlier daemon started."""

    @abstractmethod
    async def ending(self, id: str) -> Ending | None:
        """How the last run ended, after its end and until it is removed; the status as from ``Guest.ended``.

        None if there was none since the boot, or none was recorded. Waits for a run that is just ending.
        """

    @abstractmethod
    async def remove(self, id: str) -> None:
        """Kill all remaining processes and remove all traces except logs; no effect if there are none."""

    @abstractmethod
    async def owned(self) -> tuple[str, ...]:
        """Ids of all instances of which this runtime has traces on the host (files, processes, cgroups)."""

    @abstractmethod
    async def console_log(self, id: str) -> bytes:
        """Raw output (the end of its log, at most a MiB); also after the instance has ended."""

    @abstractmethod
    async def output(self, id: str) -> tuple[LogLine, ...]:
        """The same line by line, with when and where each came out."""

    @abstractmethod
    async def clear_console_log(self, id: str) -> None:
        """Truncate it."""
