"""Control groups: one path per instance, whether cgroup v2, v1 or both are mounted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure
from isola.host import port_programs
from isola.host.cancellation import finish
from isola.host.cgroup_tree import Tree, subdirectories
from isola.host.cgroup_v1 import LegacyTrees
from isola.host.cgroup_v2 import UnifiedTree
from isola.host.proc import ProcessRef, hold, unseen
from isola.host.threads import in_thread
from isola.model.limits import Limits, Usage
from isola.model.stats import GroupStats

_TIMEOUT = 10.0
"""Seconds to wait for killed processes to end, for a freeze, and for groups to become removable."""
_UNFROZEN = 3
"""How often processes are listed and killed before they are frozen for that: the v1 freezer changes the kernel's code
on all CPUs, twice, and only processes that fork meanwhile need it."""


class Cgroups(Protocol):
    """Operations on groups. A ``path`` is relative to the root of every hierarchy, e.g. ``/isola/3f2a``.

    Methods that are not asynchronous are quick reads.
    """

    @property
    def layout(self) -> str:
        """``unified`` (v2 only), ``hybrid`` (both), ``legacy`` (v1 only) or ``none`` (nothing is mounted)."""
        ...

    @property
    def unified(self) -> Path | None:
        """Where the v2 hierarchy is mounted, or None."""
        ...

    async def create(self, path: str, *, owner: int | None = None, monitor: str = "") -> None:
        """Create the group and its parents in every hierarchy; the v2 group is delegated to the user id ``owner``.

        ``monitor`` is a second group, without limits, for the process that supervises those in the first one. With v1
        it is created only in the hierarchies that are needed to find, count and stop its processes.
        Existing groups are kept.
        """
        ...

    async def exists(self, path: str) -> bool:
        """Whether the group exists in any hierarchy."""
        ...

    async def enter(self, path: str, process: ProcessRef) -> None:
        """Move the process into the group in every hierarchy, where it is not in it already.

        Raises WrongState when it has ended, HostFailure.
        """
        ...

    async def leaf(self, path: str, *, owner: int | None = None, always: bool = False) -> str:
        """Prepare a group below for a process that joins those of the group; its name.

        With v2 alone, a group that enables controllers for those below must not contain processes itself; ``always``:
        also if it does not do so yet. Empty if the process is to enter the group itself.
        """
        ...

    async def limit(self, path: str, limits: Limits) -> None:
        """Set all limits; one that is None is removed. Raises HostFailure, e.g. for less memory than is in use."""
        ...

    def refused_ports(self, path: str) -> Mapping[str, int]:
        """How often its processes were refused a port since the limit was set, by ``listen tcp/80``.

        None if there is no limit.
        """
        ...

    async def allow_devices(self, path: str, rules: Sequence[str]) -> bool:
        """Allow access to these devices only (``c 1:3 rwm``); False without the v1 controller ``devices``."""
        ...

    async def allow_device(self, path: str, rule: str, *, allowed: bool, access: str = "rwm") -> bool:
        """Allow access to one more device (``c 10:232``), or remove it; False without the v1 controller ``devices``.

        Removing has no effect if the group does not exist. Raises HostFailure.
        """
        ...

    def usage(self, path: str) -> Usage:
        """Current usage of the group; zeros if it does not exist."""
        ...

    def stats(self, path: str) -> GroupStats:
        """All that the kernel measures of the group; zeros if it does not exist."""
        ...

    def oom_kills(self, path: str) -> int:
        """How many processes the kernel has killed because the group's memory was used up; 0 if it does not exist."""
        ...

    def activity(self, path: str) -> tuple[int, int]:
        """The number of tasks (threads) of the group and its CPU time in ns: the quickly read part of ``usage``."""
        ...

    def processes(self, path: str) -> Sequence[int]:
        """PIDs of all processes in the group and below."""
        ...

    def holds(self, path: str, pid: int) -> bool:
        """Whether the process is among ``processes(path)``; usually without listing these."""
        ...

    async def kill(self, path: str) -> None:
        """Kill every process in the group and below, and wait until they have ended. Raises HostFailure."""
        ...

    async def freeze(self, path: str, *, frozen: bool) -> None:
        """Freeze or thaw every process in the group and below, and wait for completion. Raises HostFailure."""
        ...

    def frozen(self, path: str) -> bool:
        """Whether the group is frozen; False if it does not exist."""
        ...

    async def remove(self, path: str) -> None:
        """Remove the group and those below it in every hierarchy; no effect if it does not exist."""
        ...

    async def remove_empty(self, *paths: str) -> bool:
        """Remove these groups in this order, each with those below it, up to the first in which there are processes.

        Whether all are gone.
        """
        ...

    async def children(self, path: str) -> tuple[str, ...]:
        """Names of the groups directly below ``path`` in any hierarchy."""
        ...

    def directories(self, path: str, *, legacy: bool = False) -> tuple[Path, ...]:
        """The group's directory in each hierarchy, or in those of v1 only.

        A process enters the group when its PID is written to ``cgroup.procs`` in all of them.
        """
        ...

    def directories_of_monitor(self, path: str) -> tuple[Path, ...]:
        """The same for a monitor's group. With v1, writing to ``tasks`` instead of ``cgroup.procs`` does not block."""
        ...


class LinuxCgroups:
    """Detects the hierarchies that this host has mounted. Calls that may block run in a thread."""

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
        if not self._legacy.trees:
            return "unified" if self._unified else "none"
        return "hybrid" if self._unified else "legacy"

    @property
    def unified(self) -> Path | None:
        return self._unified.root if self._unified else None

    async def create(self, path: str, *, owner: int | None = None, monitor: str = "") -> None:
        await _in_thread(lambda: self._create(path, owner, monitor))

    async def exists(self, path: str) -> bool:
        return any(tree.exists(path) for tree in self._trees)

    async def enter(self, path: str, process: ProcessRef) -> None:
        await _in_thread(lambda: self._enter(path, process))

    async def leaf(self, path: str, *, owner: int | None = None, always: bool = False) -> str:
        if self._unified is None or self._legacy.trees:
            return ""
        return await in_thread(partial(self._unified.leaf, path, owner, always=always))

    async def limit(self, path: str, limits: Limits) -> None:
        await _in_thread(lambda: self._limit(path, limits))

    def refused_ports(self, path: str) -> Mapping[str, int]:
        return port_programs.refused(self._unified.directory(path)) if self._unified else {}

    async def allow_devices(self, path: str, rules: Sequence[str]) -> bool:
        return await in_thread(self._legacy.allow_devices, path, rules)

    async def allow_device(self, path: str, rule: str, *, allowed: bool, access: str = "rwm") -> bool:
        return await in_thread(self._legacy.allow_device, path, rule, allowed=allowed, access=access)

    def usage(self, path: str) -> Usage:
        return self._limiting().usage(path)

    def stats(self, path: str) -> GroupStats:
        return self._limiting().stats(path)

    def oom_kills(self, path: str) -> int:
        return self._limiting().oom_kills(path)

    def activity(self, path: str) -> tuple[int, int]:
        return self._limiting().activity(path)

    def processes(self, path: str) -> Sequence[int]:
        return sorted(set().union(*(tree.processes(path) for tree in self._trees)))

    def holds(self, path: str, pid: int) -> bool:
        """By ``/proc/PID/cgroup``; if the path differs there, by the groups' processes."""
        inside = _memberships(pid)
        groups = (inside.get(self._key(tree), "") for tree in self._trees)
        return any(map(partial(_is_below, path), groups)) or pid in self.processes(path)

    async def kill(self, path: str) -> None:
        await finish(self._kill(path))

    async def freeze(self, path: str, *, frozen: bool) -> None:
        wait = 0.0005
        if not await self.exists(path):
            raise HostFailure(f"There is no control group {path}")
        for attempt in range(int(_TIMEOUT / 0.05)):
            # The v1 freezer may miss processes that are about to fork, and then never completes: FROZEN is written
            # again, now and then after thawing.
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
        return self._freezing().frozen(path)

    async def remove(self, path: str) -> None:
        await finish(self._remove(path))

    async def remove_empty(self, *paths: str) -> bool:
        return await in_thread(lambda: all(map(self._remove_once, paths)))

    async def children(self, path: str) -> tuple[str, ...]:
        return tuple(sorted({name for tree in self._trees for name in subdirectories(tree.directory(path))}))

    def directories(self, path: str, *, legacy: bool = False) -> tuple[Path, ...]:
        return tuple(Path(tree.directory(path)) for tree in (self._legacy.trees if legacy else self._trees))

    def directories_of_monitor(self, path: str) -> tuple[Path, ...]:
        return tuple(Path(tree.directory(path)) for tree in self._legacy.necessary or self._trees)

    def _limiting(self) -> UnifiedTree | LegacyTrees:
        return self._unified if self._unified and not self._legacy.trees else self._legacy

    def _freezing(self) -> UnifiedTree | LegacyTrees:
        # The engines (crun, runc) use the v1 freezer if there is one.
        return self._unified if self._unified and not self._legacy.freezes else self._legacy

    def _create(self, path: str, owner: int | None, monitor: str) -> None:
        self._legacy.create(path, self._legacy.trees)
        if self._unified:
            self._unified.create(path, owner)
        if monitor:
            self._legacy.create(monitor, self._legacy.necessary)
            if self._unified and not self._legacy.trees:
                self._unified.create(monitor, None)

    def _limit(self, path: str, limits: Limits) -> None:
        self._limiting().limit(path, limits)
        if self._unified:
            port_programs.limit(self._unified.directory(path), limits.listens, limits.connects)
        elif (limits.listens, limits.connects) != (None, None):
            raise HostFailure("Ports can be limited with cgroup2 alone", remedy="mount it, or unset isola.ports.*")

    def _enter(self, path: str, process: ProcessRef) -> None:
        with hold(process):
            inside = _memberships(process.pid)
        for tree in self._trees:
            # Moving a process waits for a grace period, so one that is in the group already is not moved.
            if not _is_below(path, inside.get(self._key(tree), "")):
                tree.enter(path, process.pid)
        with hold(process):
            pass  # it still runs, so its PID was not reused and no other process was moved

    def _key(self, tree: Tree) -> frozenset[str]:
        return frozenset() if tree is self._unified else tree.controllers

    async def _kill(self, path: str) -> None:
        wait = 0.001
        for attempt in range(int(_TIMEOUT / 0.05)):
            left = await asyncio.to_thread(self._kill_once, path, one_by_one=attempt > 0, freeze=attempt >= _UNFROZEN)
            if not left:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.05)
        raise HostFailure(
            f"Processes of {path} do not end after SIGKILL", evidence=f"left are {', '.join(map(str, left[:10]))}"
        )

    def _kill_once(self, path: str, *, one_by_one: bool, freeze: bool) -> Sequence[int]:
        """Kill, and return the PIDs that are left."""
        if not self.processes(path):
            return ()
        # On a hybrid host the v2 group may be empty.
        at_once = self._unified is not None and bool(self._unified.processes(path)) and self._unified.kill(path)
        if one_by_one or not at_once:
            if freeze:
                self._legacy.freeze(path, frozen=True)  # they cannot fork while they are listed
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
        for _ in range(int(_TIMEOUT / 0.05)):
            if await asyncio.to_thread(self._remove_once, path):
                return
            if left := await asyncio.to_thread(self.processes, path):
                evidence = f"processes {', '.join(map(str, left[:10]))} are in it"
                raise HostFailure(
                    f"Cannot remove the control group {path}", evidence=evidence, remedy="kill them first"
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.05)
        raise HostFailure(f"Cannot remove the control group {path}", evidence="the kernel says it is busy")

    def _remove_once(self, path: str) -> bool:
        return all([tree.remove_once(path) for tree in self._trees])


def _is_below(path: str, group: str) -> bool:
    return group == path or group.startswith(f"{path}/")


def _memberships(pid: int) -> dict[frozenset[str], str]:
    """Controllers of a hierarchy (none for cgroup v2) -> group of the process there. Empty if the process has ended."""
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
    # in_thread waits for the thread even when cancelled: a rollback must not overlap with this work.
    await in_thread(work)
