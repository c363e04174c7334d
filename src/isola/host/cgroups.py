"""Control groups: one path per instance, on a unified or a hybrid hierarchy alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure
from isola.host.cancellation import finish
from isola.host.cgroup_tree import Tree, subdirectories
from isola.host.cgroup_v1 import LegacyTrees
from isola.host.cgroup_v2 import UnifiedTree
from isola.host.proc import ProcessRef, hold, unseen
from isola.host.threads import in_thread
from isola.model.limits import Limits, Usage

_PATIENCE = 10.0
"""Seconds after which processes that do not die, or groups that cannot be removed, are a failure."""


class Cgroups(Protocol):
    """``path`` is relative to the root of every hierarchy, e.g. ``/isola/3f2a``. Reads do not block."""

    @property
    def layout(self) -> str:
        """``unified``, ``hybrid`` or ``legacy``."""
        ...

    @property
    def unified(self) -> Path | None:
        """Where the v2 hierarchy is mounted."""
        ...

    async def create(self, path: str, *, owner: int | None = None, monitor: str = "") -> None:
        """Create the group and its parents in every hierarchy; with ``owner`` delegate the v2 one to that id.

        ``monitor`` is a second group, for a process that supervises the first and has no limits: with v1 it is
        created only in the hierarchies needed to find, count and stop its processes. Existing groups are kept.
        """
        ...

    async def exists(self, path: str) -> bool:
        """Whether the group is there in any hierarchy."""
        ...

    async def enter(self, path: str, process: ProcessRef) -> None:
        """Move the process into the group, in every hierarchy in which it is not in it already.

        Raises WrongState when it has ended, HostFailure.
        """
        ...

    async def limit(self, path: str, limits: Limits) -> None:
        """Set all limits; None removes one. Raises HostFailure naming the limit, e.g. memory below what is in use."""
        ...

    async def allow_devices(self, path: str, rules: Sequence[str]) -> bool:
        """Allow access to these devices only (``c 1:3 rwm``); False without the v1 controller ``devices``."""
        ...

    async def allow_device(self, path: str, rule: str, *, allowed: bool) -> bool:
        """Allow access to one more device (``c 10:232``), or remove it; False without the v1 controller ``devices``.

        Removing has no effect if the group does not exist. Raises HostFailure.
        """
        ...

    def usage(self, path: str) -> Usage:
        """What the group uses now; zeros if it does not exist."""
        ...

    def activity(self, path: str) -> tuple[int, int]:
        """The number of processes and threads of the group, and its CPU time (ns): a part of ``usage``."""
        ...

    def processes(self, path: str) -> Sequence[int]:
        """Numbers of all processes in the group and below."""
        ...

    def holds(self, path: str, pid: int) -> bool:
        """Whether the process is among ``processes(path)``; usually without reading them."""
        ...

    async def kill(self, path: str) -> None:
        """Kill every process in the group and below, and return once they have ended."""
        ...

    async def freeze(self, path: str, *, frozen: bool) -> None:
        """Freeze or thaw every process in the group and below, and return once it is done. Raises HostFailure."""
        ...

    def frozen(self, path: str) -> bool:
        """Whether the group is frozen; False if it does not exist."""
        ...

    async def remove(self, path: str) -> None:
        """Remove the group and those below it in every hierarchy; no effect if it is missing."""
        ...

    async def children(self, path: str) -> tuple[str, ...]:
        """Names of the groups directly below ``path`` in any hierarchy."""
        ...

    def directories(self, path: str, *, legacy: bool = False) -> tuple[Path, ...]:
        """The group's directory in each hierarchy: writing a PID to ``cgroup.procs`` in all of them enters it.

        With ``legacy`` in those of v1 only.
        """
        ...

    def directories_of_monitor(self, path: str) -> tuple[Path, ...]:
        """The same for the group of a monitor. With v1, entering them by ``tasks`` does not block."""
        ...


class LinuxCgroups:
    """Detects how this host mounts its hierarchies. Calls that may block run in a thread."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._unified: UnifiedTree | None = None
        legacy: list[Tree] = []
        # Symbolic links are aliases (``cpu`` for ``cpu,cpuacct``).
        names = () if (root / "cgroup.controllers").exists() else subdirectories(str(root))
        for directory in [root, *(root / name for name in sorted(names))]:
            if (directory / "cgroup.controllers").exists():
                self._unified = UnifiedTree(directory)
            elif (directory / "cgroup.procs").exists():
                legacy.append(Tree(directory, frozenset(directory.name.split(","))))
        self._legacy = LegacyTrees(legacy)
        self._trees: tuple[Tree, ...] = (*legacy, *([self._unified] if self._unified else []))

    @property
    def layout(self) -> str:
        """``unified``, ``hybrid`` or ``legacy``."""
        if not self._legacy.trees:
            return "unified"
        return "hybrid" if self._unified else "legacy"

    @property
    def unified(self) -> Path | None:
        """Where the v2 hierarchy is mounted."""
        return self._unified.root if self._unified else None

    async def create(self, path: str, *, owner: int | None = None, monitor: str = "") -> None:
        """Make the group in every hierarchy."""
        await _in_thread(lambda: self._create(path, owner, monitor))

    async def exists(self, path: str) -> bool:
        """Whether the group is there in any hierarchy."""
        return any(tree.exists(path) for tree in self._trees)

    async def enter(self, path: str, process: ProcessRef) -> None:
        """Put a process into the group, in every hierarchy."""
        await _in_thread(lambda: self._enter(path, process))

    async def limit(self, path: str, limits: Limits) -> None:
        await _in_thread(lambda: self._limiting().limit(path, limits))

    async def allow_devices(self, path: str, rules: Sequence[str]) -> bool:
        """Allow access to these devices only."""
        return await in_thread(self._legacy.allow_devices, path, rules)

    async def allow_device(self, path: str, rule: str, *, allowed: bool) -> bool:
        """Allow access to one more device, or remove it."""
        return await in_thread(self._legacy.allow_device, path, rule, allowed=allowed)

    def usage(self, path: str) -> Usage:
        """What the group uses now."""
        return self._limiting().usage(path)

    def activity(self, path: str) -> tuple[int, int]:
        """In two readings."""
        return self._limiting().activity(path)

    def processes(self, path: str) -> Sequence[int]:
        """Numbers of all processes in the group and below."""
        return sorted(set().union(*(tree.processes(path) for tree in self._trees)))

    def holds(self, path: str, pid: int) -> bool:
        """By ``/proc/PID/cgroup``, or by the groups' processes if the names differ (no cgroup namespace)."""
        inside = _memberships(pid)
        groups = (inside.get(self._key(tree), "") for tree in self._trees)
        return any(map(partial(_is_below, path), groups)) or pid in self.processes(path)

    async def kill(self, path: str) -> None:
        """Kill every process in the group and below."""
        await finish(self._kill(path))

    async def freeze(self, path: str, *, frozen: bool) -> None:
        """Stop, or let go on, every process in the group and below."""
        wait = 0.0005
        if not await self.exists(path):
            raise HostFailure(f"There is no control group {path}")
        for attempt in range(int(_PATIENCE / 0.05)):
            # The v1 freezer fails on processes that are about to fork. It is written again, and thawed in between,
            # because it may never finish otherwise.
            if frozen and attempt % 8 == 7:
                await _in_thread(lambda: self._freezing().freeze(path, frozen=False))
                wait = 0.0005
            await _in_thread(lambda: self._freezing().freeze(path, frozen=frozen))
            if self.frozen(path) == frozen:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.05)
        raise HostFailure(
            f"Cannot {'freeze' if frozen else 'thaw'} {path}", evidence="the kernel did not complete it in time"
        )

    def frozen(self, path: str) -> bool:
        """Whether the group is frozen."""
        return self._freezing().frozen(path)

    async def remove(self, path: str) -> None:
        """Remove the group and those below it in every hierarchy."""
        await finish(self._remove(path))

    async def children(self, path: str) -> tuple[str, ...]:
        """Names of the groups directly below ``path`` in any hierarchy."""
        return tuple(sorted({name for tree in self._trees for name in subdirectories(tree.directory(path))}))

    def directories(self, path: str, *, legacy: bool = False) -> tuple[Path, ...]:
        """Where the group is in each hierarchy, or in those of v1."""
        return tuple(Path(tree.directory(path)) for tree in (self._legacy.trees if legacy else self._trees))

    def directories_of_monitor(self, path: str) -> tuple[Path, ...]:
        """With v1, only in the hierarchies that a monitor needs."""
        return tuple(Path(tree.directory(path)) for tree in self._legacy.necessary or self._trees)

    def _limiting(self) -> UnifiedTree | LegacyTrees:
        return self._unified if self._unified and not self._legacy.trees else self._legacy

    def _freezing(self) -> UnifiedTree | LegacyTrees:
        # Engines use the v1 freezer if there is one.
        return self._unified if self._unified and not self._legacy.freezes else self._legacy

    def _create(self, path: str, owner: int | None, monitor: str) -> None:
        self._legacy.create(path, self._legacy.trees)
        if self._unified:
            self._unified.create(path, owner)
        if monitor:
            self._legacy.create(monitor, self._legacy.necessary)
            if self._unified and not self._legacy.trees:
                self._unified.create(monitor, None)

    def _enter(self, path: str, process: ProcessRef) -> None:
        with hold(process):
            inside = _memberships(process.pid)
        for tree in self._trees:
            # Moving a process takes the kernel a grace period, so a process that is in the group already is not moved.
            if not _is_below(path, inside.get(self._key(tree), "")):
                tree.enter(path, process.pid)
        with hold(process):
            pass  # still running after it was moved, so its PID was not reused

    def _key(self, tree: Tree) -> frozenset[str]:
        return frozenset() if tree is self._unified else tree.controllers

    async def _kill(self, path: str) -> None:
        wait = 0.001
        for attempt in range(int(_PATIENCE / 0.05)):
            left = await asyncio.to_thread(self._kill_once, path, one_by_one=attempt > 0)
            if not left:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.05)
        raise HostFailure(f"Processes of {path} do not die", evidence=f"left are {', '.join(map(str, left[:10]))}")

    def _kill_once(self, path: str, *, one_by_one: bool) -> Sequence[int]:
        """Kill, and return the PIDs that are left."""
        if not self.processes(path):
            return ()
        # Beside v1 hierarchies, v2 may have none of the processes.
        at_once = self._unified is not None and bool(self._unified.processes(path)) and self._unified.kill(path)
        if one_by_one or not at_once:
            # Frozen processes cannot fork while they are listed.
            self._legacy.freeze(path, frozen=True)
            for pid in self.processes(path):
                self._kill_member(path, pid)
        self._legacy.freeze(path, frozen=False)
        return self.processes(path)

    def _kill_member(self, path: str, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError as error:
                if isinstance(error, ProcessLookupError):
                    raise
                raise unseen(f"process {pid}", error) from error
            try:
                # Check again now that the PID cannot be reused.
                if any(map(partial(_is_below, path), _memberships(pid).values())):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    async def _remove(self, path: str) -> None:
        wait = 0.001
        for _ in range(int(_PATIENCE / 0.05)):
            if await asyncio.to_thread(self._remove_once, path):
                return
            if left := await asyncio.to_thread(self.processes, path):
                evidence = f"processes {', '.join(map(str, left[:10]))} are in it"
                raise HostFailure(
                    f"Cannot remove the control group {path}", evidence=evidence, remedy="Kill them first"
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.05)
        raise HostFailure(f"Cannot remove the control group {path}", evidence="the kernel says it is busy")

    def _remove_once(self, path: str) -> bool:
        return all([tree.remove_once(path) for tree in self._trees])


def _is_below(path: str, group: str) -> bool:
    return group == path or group.startswith(f"{path}/")


def _memberships(pid: int) -> dict[frozenset[str], str]:
    """Controllers -> group of a process; cgroup2 has no controllers. Empty if the process has ended."""
    try:
        return parse_memberships(Path(f"/proc/{pid}/cgroup").read_bytes())
    except OSError:
        return {}


def parse_memberships(data: bytes) -> dict[frozenset[str], str]:
    """Parses ``/proc/PID/cgroup``. Names of groups may contain anything but a line feed or a slash."""
    groups = {}
    for line in os.fsdecode(data).split("\n")[:-1]:
        _, controllers, path = line.split(":", 2)
        groups[frozenset(controllers.removeprefix("name=").split(",")) - {""}] = path
    return groups


async def _in_thread(work: Callable[[], None]) -> None:
    # A cancelled caller rolls back, which must not overlap with this.
    await in_thread(work)
