"""Processes: spawned, waited for and signalled in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int
    """Start time in clock ticks since boot, field 22 of ``/proc/PID/stat``."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended."""

    argv: tuple[str, ...]
    status: int
    """Exit status, or the negative number of the signal that killed it."""
    stdout: bytes
    stderr: bytes


class Child(Protocol):
    """A program that was started and belongs to the caller until it is waited for."""

    @property
    def ref(self) -> ProcessRef: ...

    async def wait(self) -> int:
        """Exit status, or the negative signal number. May be called by several waiters."""
        ...

    def signal(self, signum: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        ...


class Processes(Protocol):
    """Start programs, and look after processes that outlive us."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float | None = 60,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run to the end. ``on_line`` is told each line of standard error as it comes.

        Raises CommandFailed (status other than 0 with ``check``; program not found is status 127) or TimedOut.
        When cancelled or timed out the whole process group is killed and waited for first.
        """
        ...

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start and return at once, in a session of its own. A stream given as None is ``/dev/null``."""
        ...

    def identify(self, pid: int) -> ProcessRef | None:
        """The process that has this number now, or None (a zombie counts as gone)."""
        ...

    def alive(self, ref: ProcessRef) -> bool:
        """Whether that very process still runs."""
        ...

    def signal(self, ref: ProcessRef, signum: int) -> bool:
        """Signal that very process and no other; False when it is gone."""
        ...

    async def gone(self, ref: ProcessRef) -> None:
        """Return once the process has ended, whoever its parent is. Costs no polling (pidfd)."""
        ...
