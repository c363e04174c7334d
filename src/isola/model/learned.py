"""What a workload has used under test, and the configuration that permits that and no more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from isola.model.capabilities import BY_NUMBER, EVERY
from isola.model.file_change import ChangeKind, FileChange
from isola.model.ports import joined
from isola.model.recorded import Recorded
from isola.model.system_calls import NAMES

CALLS, WRITABLE = "security.syscalls.allow", "isola.paths.writable"
LISTEN, CONNECT = "isola.ports.listen", "isola.ports.connect"
PORTS, OPENED = "user.learned.ports", "user.learned.opened"
_MOST_PATHS = 200
_MOST_OPENED = 100
_LONGEST_PATH = 200
_ALWAYS_WRITABLE = ("/tmp", "/var/tmp")
"""Temporary files are gone when their directories are compared."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Until now."""

    calls: tuple[str, ...]
    capabilities: tuple[str, ...]
    written: tuple[str, ...]
    """Directories in its root in which something was written; ``/`` if the root itself was."""
    opened: tuple[str, ...]
    """Directories in its root of whose files some were opened."""
    ports: tuple[str, ...]
    """``tcp/80``: those on which it listens for others."""
    listens: tuple[str, ...] | None = None
    """All ports to which it was bound; None: not known."""
    connects: tuple[str, ...] | None = None
    """Ports of others that it has used."""
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
        for key, ports in ((LISTEN, self.listens), (CONNECT, self.connects)):
            if ports is not None:
                found[key] = ",".join(ports) or "none"
        if self.ports and self.listens is None:
            found[PORTS] = ",".join(self.ports)
        if self.opened:
            found[OPENED] = ",".join(self.opened)
        return found


def learned(seen: Recorded, changed: Collection[FileChange], ports: Iterable[str], *, mounted: Set[str]) -> Learned:
    """``changed``: what in its root differs from its image; ``ports``: those on which it has been seen to listen.

    ``mounted``: those on which every instance has something mounted.
    """
    numbers, written = set(seen.calls), directories(changed, mounted)
    notes = [f"not recorded: {what}" for what in seen.missed]
    if unknown := sorted(numbers - NAMES.keys()):
        notes.append(f"system calls without a known name are left out: {', '.join(map(str, unknown))}")
    if seen.calls_of_32_bit:
        notes.append("system calls of 32-bit programs are left out: such programs will not run")
    if "/" in written or len(written) > _MOST_PATHS:
        notes.append("the root stays writable: something is written at its top, or in too many directories")
    return Learned(
        tuple(sorted(NAMES[number] for number in numbers if number in NAMES)),
        tuple(sorted(BY_NUMBER[number] for number in seen.capabilities if number < len(BY_NUMBER))),
        written,
        fewer(seen.opened, _MOST_OPENED),
        tuple(sorted(set(ports), key=lambda port: (port.partition("/")[0], int(port.partition("/")[2])))),
        joined(seen.listens | set(ports)) if seen.listens is not None else None,
        joined(seen.connects) if seen.connects is not None else None,
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
    return topmost({named(path) for path in written} | set(_ALWAYS_WRITABLE))


def topmost(paths: Set[str]) -> tuple[str, ...]:
    """Without those below another one."""
    found: list[str] = []
    for path in sorted(paths, key=_below):
        if not (found and path.startswith(_below(found[-1]))):
            found.append(path)
    return tuple(sorted(found))


def fewer(paths: Collection[str], most: int) -> tuple[str, ...]:
    """At most so many: the deepest ones are replaced by those above them."""
    found = {named(path) for path in paths}
    while len(found) > most:
        depth = max(path.count("/") for path in found)
        found = {(path.rpartition("/")[0] or "/") if path.count("/") == depth else path for path in found}
        if found == {"/"} or depth == 1:
            return ("/",)
    return tuple(sorted(found))


def named(path: str) -> str:
    """The path, or the nearest one above it that can be an item of a list.

    Programs name their directories as they like: a directory ``x,/etc`` would otherwise stand for ``/etc``.
    """
    kept: list[str] = []
    for part in path.split("/")[1:]:
        if "," in part or not part.isprintable() or part != part.strip() or part == "..":
            break
        kept.append(part)
    while len("/".join(kept)) > _LONGEST_PATH:
        kept.pop()
    return "/" + "/".join(kept)


def _below(path: str) -> str:
    return path.rstrip("/") + "/"
