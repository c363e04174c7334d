"""The unified hierarchy (cgroup2), alone or beside those of v1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from isola.errors import HostFailure
from isola.host.cgroup_tree import (
    LEAF,
    Tree,
    bring,
    check_cpus,
    disk_rates_by_number,
    format_cpus,
    make,
    memory_in_use,
    parse_cpus,
    read,
    read_field,
    read_number,
    set_limit,
    subdirectories,
    try_write,
)
from isola.host.group_stats import read_fields, read_limit, unified_io
from isola.model.disk_rates import KINDS
from isola.model.limits import Limits, Usage
from isola.model.stats import GroupStats

_WANTED = ("cpuset", "cpu", "io", "memory", "pids")
_DELEGATED = frozenset({"cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group"})
_DELEGABLE = Path("/sys/kernel/cgroup/delegate")
"""What the kernel names as safe for the owner of a delegated group: newer ones have more."""
_IO_MAX = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
_MOST_GROUPS = 4096
_DEEPEST = 64
"""Limits of a delegated group on descendants and depth: enough for nesting, too few to exhaust the host."""


class UnifiedTree(Tree):
    """Limits, usage and delegation in cgroup2."""

    def __init__(self, root: Path, delegable: Path = _DELEGABLE) -> None:
        super().__init__(root, frozenset(read(f"{root}/cgroup.controllers").split()))
        self.delegated = ("", *sorted(_DELEGATED.union(_names(delegable))))

    def create(self, path: str, owner: int | None) -> None:
        """Create the group, with controllers enabled in all parents, and delegate it."""
        parent, wanted = str(self.root), [name for name in _WANTED if name in self.controllers]
        for directory in self.levels(path) if wanted else ():
            for controller in wanted:
                try_write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            make(directory)
            parent = directory
        self.make(path)
        if owner is not None:
            self._delegate(self.directory(path), owner)

    def leaf(self, path: str, owner: int | None, *, always: bool) -> str:
        """The name of the leaf, delegated to the owner; empty if it is not needed or cannot be entered."""
        directory = self.directory(path)
        if not always and not read(f"{directory}/cgroup.subtree_control").strip():
            return ""
        leaf = f"{directory}/{LEAF}"
        try:
            if make(leaf) and owner is not None:
                self._delegate(leaf, owner)
        except (HostFailure, OSError):  # the instance has as many groups as it may, or has removed this one
            return ""
        return LEAF if _can_be_entered(leaf) else ""

    def limit(self, path: str, limits: Limits) -> None:
        """Set all limits; the limit on memory includes swap."""
        directory = self.directory(path)
        there = read(f"{os.path.dirname(directory)}/cpuset.cpus.effective").strip()
        check_cpus(limits.cpus, parse_cpus(there))
        self._limit_memory(directory, limits.memory, limits.swap)
        _limit_more(directory, limits)
        self._reserve_above(path, limits.memory_reserved)
        processes = "max" if limits.processes is None else str(limits.processes)
        set_limit(
            "processes", f"{directory}/pids.max", processes, unlimited=limits.processes is None or limits.by_default
        )
        _choose("CPUs", directory, "cpuset.cpus", limits.cpus)

    def remove_once(self, path: str) -> bool:
        """Try to remove the group and those below; False while the kernel still uses them."""
        removed = super().remove_once(path)
        if removed:
            self._reserve_above(path)
        return removed

    def usage(self, path: str) -> Usage:
        """What the group uses now."""
        directory = self.directory(path)
        processes, cpu_ns = self.activity(path)
        return Usage(
            cpu_ns=cpu_ns,
            memory=read_number(f"{directory}/memory.current"),
            memory_peak=read_number(f"{directory}/memory.peak"),
            swap=read_number(f"{directory}/memory.swap.current"),
            swap_peak=read_number(f"{directory}/memory.swap.peak"),
            processes=processes,
        )

    def stats(self, path: str) -> GroupStats:
        """From the files of its directory."""
        directory = self.directory(path)
        cpu = read_fields(f"{directory}/cpu.stat")
        return GroupStats(
            cpu_ns=cpu.get("usage_usec", 0) * 1000,
            cpu_user_ns=cpu.get("user_usec", 0) * 1000,
            cpu_system_ns=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_ns=cpu.get("throttled_usec", 0) * 1000,
            memory=read_number(f"{directory}/memory.current"),
            memory_peak=read_number(f"{directory}/memory.peak"),
            memory_limit=read_limit(f"{directory}/memory.max"),
            memory_failures=read_fields(f"{directory}/memory.events").get("max", 0),
            memory_stats=read_fields(f"{directory}/memory.stat"),
            processes=read_number(f"{directory}/pids.current"),
            processes_limit=read_limit(f"{directory}/pids.max"),
            io=unified_io(read(f"{directory}/io.stat")),
        )

    def oom_kills(self, path: str) -> int:
        """Processes of the group and those below it that were killed for lack of memory."""
        return read_field(f"{self.directory(path)}/memory.events", "oom_kill")

    def activity(self, path: str) -> tuple[int, int]:
        """Number of processes, and CPU time in nanoseconds."""
        directory = self.directory(path)
        fields = read(f"{directory}/cpu.stat", once=True).split(maxsplit=2)
        cpu_ns = int(fields[1]) * 1000 if len(fields) > 1 else 0
        return read_number(f"{directory}/pids.current"), cpu_ns

    def kill(self, path: str) -> bool:
        """Kill all processes at once; False if the kernel cannot (before 5.14) or the group does not exist."""
        return try_write(f"{self.directory(path)}/cgroup.kill", "1")

    def freeze(self, path: str, *, frozen: bool) -> None:
        """Freeze or thaw all processes of the group; a frozen process can be killed."""
        try_write(f"{self.directory(path)}/cgroup.freeze", "1" if frozen else "0")

    def frozen(self, path: str) -> bool:
        """Whether the group is frozen completely."""
        return "frozen 1" in read(f"{self.directory(path)}/cgroup.events").splitlines()

    def _delegate(self, directory: str, owner: int) -> None:
        for name in self.delegated:
            with contextlib.suppress(FileNotFoundError):
                os.chown(f"{directory}/{name}", owner, owner)
        try_write(f"{directory}/cgroup.max.descendants", str(_MOST_GROUPS))
        try_write(f"{directory}/cgroup.max.depth", str(_DEEPEST))

    def _limit_memory(self, directory: str, memory: int | None, swap: int | None) -> None:
        if memory is not None and read_number(f"{directory}/memory.current") > memory:
            _reclaim(directory, memory)
        value = "max" if memory is None else str(memory)
        set_limit("memory", f"{directory}/memory.max", value, unlimited=memory is None)
        try_write(f"{directory}/memory.swap.max", "max" if memory is None or swap is None else str(swap))

    def _reserve_above(self, path: str, reserved: int | None = None) -> None:
        """A reservation counts only as far as those of all parents reach. Theirs is the sum of those below and no more:
        the kernel would protect all that is below with the rest.
        """
        *parents, _ = self.levels(path)
        for directory in reversed(parents):
            file = f"{directory}/memory.low"
            if reserved or read_number(file):
                lows = (f"{directory}/{name}/memory.low" for name in subdirectories(directory))
                bring("reserved memory", file, sum(map(read_number, lows)), "0")


def _can_be_entered(leaf: str) -> bool:
    """The instance owns it, and may have divided, threaded or frozen it."""
    values = [read(f"{leaf}/cgroup.{name}").strip() for name in ("type", "subtree_control", "freeze")]
    return values == ["domain", "", "0"]


def _names(delegable: Path) -> frozenset[str]:
    return frozenset(name for name in read(str(delegable)).split() if "/" not in name)


def _limit_more(directory: str, limits: Limits) -> None:
    """Shares and weights have other scales here; see the kernel's documentation of cgroup v2 for the conversion."""
    time = None if limits.cpu_time is None else f"{limits.cpu_time[0]} {limits.cpu_time[1]}"
    bring("CPU time", f"{directory}/cpu.max", time, "max 100000")
    shares = None if limits.cpu_shares is None else 1 + (limits.cpu_shares - 2) * 9999 // 262142
    bring("shares of CPU time", f"{directory}/cpu.weight", shares, "100")
    bring("reserved memory", f"{directory}/memory.low", limits.memory_reserved, "0")
    _choose("memory nodes", directory, "cpuset.mems", limits.memory_nodes)
    weights = [f"{directory}/{name}" for name in ("io.bfq.weight", "io.weight")]
    weight = next((file for file in weights if os.path.exists(file)), weights[-1])
    scaled = limits.io_weight
    if scaled is not None and weight == weights[-1]:
        scaled = 1 + (scaled - 10) * 9999 // 990
    bring("the weight of disk access", weight, None if scaled is None else f"default {scaled}", "default 100")
    _limit_disks(directory, limits.disk_rates)
    if limits.swappiness is not None or not limits.kill_when_full:
        what = "swapping" if limits.swappiness is not None else "killing"
        raise HostFailure(
            f"This host cannot limit {what} of one instance",
            evidence="cgroup v2 does not have it",
            remedy="leave the limit unset",
        )


def _choose(limit: str, directory: str, name: str, numbers: Sequence[int] | None) -> None:
    """A new group has what its parent has. Once set, it cannot be cleared while processes are in it: then all that
    the parent has is set.
    """
    file = f"{directory}/{name}"
    if numbers is None and (not read(file).strip() or try_write(file, "\n")):
        return
    wanted = read(f"{os.path.dirname(directory)}/{name}.effective").strip() if numbers is None else format_cpus(numbers)
    set_limit(limit, file, wanted, unlimited=numbers is None)


def _limit_disks(directory: str, rates: Iterable[str]) -> None:
    """One line for each disk with all four rates."""
    wanted, file = disk_rates_by_number(rates), f"{directory}/io.max"
    present = {line.split()[0] for line in read(file).splitlines() if line.strip()}
    for number in sorted(present.union(*wanted.values())):
        each = {kind: wanted.get(kind, {}).get(number) for kind in KINDS}
        line = " ".join(f"{_IO_MAX[kind]}={'max' if rate is None else rate}" for kind, rate in each.items())
        set_limit("disk access", file, f"{number} {line}", unlimited=not any(each.values()))


def _reclaim(directory: str, wanted: int) -> None:
    """Reclaim memory first: lowering ``memory.max`` would invoke the out-of-memory killer instead of failing."""
    try:
        try_write(f"{directory}/memory.high", str(wanted))
        used = read_number(f"{directory}/memory.current")
        if used > wanted:
            try_write(f"{directory}/memory.reclaim", str(used - wanted))
            used = read_number(f"{directory}/memory.current")
    finally:
        try_write(f"{directory}/memory.high", "max")
    if used > wanted:
        raise memory_in_use(wanted, used)
