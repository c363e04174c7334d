"""What a workload has used under test, and the configuration that permits that and no more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from isola.model.capabilities import BY_NUMBER, EVERY
from isola.model.file_change import ChangeKind, FileChange
from isola.model.system_calls import NAMES

CALLS, WRITABLE, PORTS = "security.syscalls.allow", "isola.paths.writable", "user.learned.ports"
_MOST_PATHS = 200
_ALWAYS_WRITABLE = ("/tmp", "/var/tmp")
"""Temporary files are gone when their directories are compared."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Until now."""

    calls: tuple[str, ...]
    capabilities: tuple[str, ...]
    written: tuple[str, ...]
    """Directories in its root in which something was written; ``/`` if the root itself was."""
    ports: tuple[str, ...]
    """``tcp/80``: those on which it listens for others."""
    notes: tuple[str, ...] = ()
    """What is left out, and why."""

    @property
    def config(self) -> dict[str, str]:
        """Keys of a profile; system calls on lines of their own, so that two profiles can be compared."""
        found = {CALLS: "\n".join(self.calls), "isola.capabilities.drop": EVERY}
        if self.capabilities:
            found["isola.capabilities.add"] = ",".join(self.capabilities)
        if "/" not in self.written and len(self.written) <= _MOST_PATHS:
            found[WRITABLE] = ",".join(self.written) or "none"
        if self.ports:
            found[PORTS] = ",".join(self.ports)
        return found


def learned(
    calls: Iterable[int],
    capabilities: Iterable[int],
    changed: Collection[FileChange],
    ports: Iterable[str],
    *,
    mounted: Set[str],
    compat: bool,
) -> Learned:
    """``changed``: what in its root differs from its image; ``compat``: 32-bit programs have run.

    ``mounted``: those on which every instance has something mounted.
    """
    numbers, written = set(calls), directories(changed, mounted)
    notes = []
    if unknown := sorted(numbers - NAMES.keys()):
        notes.append(f"system calls without a known name are left out: {', '.join(map(str, unknown))}")
    if compat:
        notes.append("system calls of 32-bit programs are left out: such programs will not run")
    if "/" in written or len(written) > _MOST_PATHS:
        notes.append("the root stays writable: something is written at its top, or in too many directories")
    return Learned(
        tuple(sorted(NAMES[number] for number in numbers if number in NAMES)),
        tuple(sorted(BY_NUMBER[number] for number in set(capabilities) if number < len(BY_NUMBER))),
        written,
        tuple(sorted(set(ports), key=lambda port: (port.partition("/")[0], int(port.partition("/")[2])))),
        tuple(notes),
    )


def directories(changed: Collection[FileChange], mounted: Set[str] = frozenset()) -> tuple[str, ...]:
    """The topmost directories in which entries were made, removed or written.

    A directory that only differs because its entries do is none of them.
    """
    inner = {change.path.rpartition("/")[0] for change in changed}
    written = {
        change.path.rpartition("/")[0] or "/"
        for change in changed
        if change.path not in mounted and (change.kind is not ChangeKind.MODIFIED or change.path not in inner)
    }
    found = sorted(written | set(_ALWAYS_WRITABLE))
    return tuple(path for path in found if not any(path.startswith(_below(other)) for other in found if other != path))


def _below(path: str) -> str:
    return path.rstrip("/") + "/"
