"""The hierarchies of cgroup v1: one per controller or set of controllers."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable

from isola.errors import HostFailure
from isola.host.cgroup_tree import (
    Tree,
    bring,
    check_cpus,
    disk_rates_by_number,
    format_cpus,
    memory_in_use,
    parse_cpus,
    read,
    read_field,
    read_number,
    set_limit,
    try_write,
    write,
)
from isola.host.group_stats import TICK, disk_io, read_fields, read_limit
from isola.model.disk_rates import KINDS
from isola.model.limits import Limits, Usage
from isola.model.stats import GroupStats

_UNLIMITED = "-1"
_NO_LIMIT = 1 << 62
"""The kernel shows at least this number of bytes where there is no limit."""
_TRIES = 5
_NECESSARY = frozenset({"systemd", "freezer", "memory", "pids"})
"""Hierarchies in which a process without limits must not stay in the daemon's group: service managers use them to stop
the daemon and to account its memory and processes, and this daemon freezes processes before it kills them."""


class LegacyTrees:
    """All v1 hierarchies together."""

    def __init__(self, trees: Iterable[Tree]) -> None:
        self.trees = tuple(trees)
        self._by_controller = {name: tree for tree in self.trees for name in tree.controllers}

    @property
    def necessary(self) -> tuple[Tree, ...]:
        """The hierarchies of ``_NECESSARY``, or all if the host has none of them."""
        return tuple(tree for tree in self.trees if tree.controllers & _NECESSARY) or self.trees

    def create(self, path: str, trees: Iterable[Tree]) -> None:
        """Create the group in some of the hierarchies."""
        for tree in trees:
            tree.make(path)
            # The memory nodes are written last: a daemon may have been killed before that.
            if "cpuset" in tree.controllers and not read(f"{tree.directory(path)}/cpuset.mems", once=True).strip():
                for directory in tree.levels(path):
                    _inherit_cpuset(directory)

    def limit(self, path: str, limits: Limits) -> None:
        """Set all limits; memory first, because it can be refused."""
        cpuset = self._directory("cpuset", path)
        available = read(f"{os.path.dirname(cpuset)}/cpuset.effective_cpus")
        check_cpus(limits.cpus, parse_cpus(available))
        memory = self._directory("memory", path)
        _limit_memory(memory, limits.memory, limits.swap)
        _limit_more_memory(memory, limits)
        self._limit_time(path, limits)
        processes = "max" if limits.processes is None else str(limits.processes)
        file = f"{self._directory('pids', path)}/pids.max"
        set_limit("processes", file, processes, unlimited=limits.processes is None or limits.by_default)
        cpus = available.strip() if limits.cpus is None else format_cpus(limits.cpus)
        set_limit("CPUs", f"{cpuset}/cpuset.cpus", cpus, unlimited=limits.cpus is None)

    def _limit_time(self, path: str, limits: Limits) -> None:
        cpu, io = self._directory("cpu", path), self._directory("blkio", path)
        quota, period = limits.cpu_time or (None, None)
        bring("CPU time", f"{cpu}/cpu.cfs_period_us", period, "100000")
        bring("CPU time", f"{cpu}/cpu.cfs_quota_us", quota, "-1")
        bring("shares of CPU time", f"{cpu}/cpu.shares", limits.cpu_shares, "1024")
        weights = [f"{io}/{name}" for name in ("blkio.bfq.weight", "blkio.weight")]
        weight = next((file for file in weights if os.path.exists(file)), weights[-1])
        bring("the weight of disk access", weight, limits.io_weight, "500" if weight == weights[-1] else "100")
        _limit_disks(io, limits.disk_rates)
        cpuset = self._directory("cpuset", path)
        nodes = None if limits.memory_nodes is None else format_cpus(limits.memory_nodes)
        everywhere = read(f"{os.path.dirname(cpuset)}/cpuset.effective_mems").strip()
        bring("memory nodes", f"{cpuset}/cpuset.mems", nodes, everywhere)

    def usage(self, path: str) -> Usage:
        memory = self._directory("memory", path)
        # Memory with swap is read first, so that memory charged between the two reads does not appear as swap.
        with_swap = read_number(f"{memory}/memory.memsw.usage_in_bytes")
        with_swap_peak = read_number(f"{memory}/memory.memsw.max_usage_in_bytes")
        used = read_number(f"{memory}/memory.usage_in_bytes")
        peak = read_number(f"{memory}/memory.max_usage_in_bytes")
        processes, cpu_ns = self.activity(path)
        return Usage(
            cpu_ns=cpu_ns,
            memory=used,
            memory_peak=peak,
            swap=max(0, with_swap - used),
            swap_peak=max(0, with_swap_peak - peak),
            processes=processes,
        )

    def stats(self, path: str) -> GroupStats:
        """From the files of its controllers."""
        memory, cpu = self._directory("memory", path), self._directory("cpuacct", path)
        times, throttled = read_fields(f"{cpu}/cpuacct.stat"), read_fields(f"{self._directory('cpu', path)}/cpu.stat")
        pids, blkio = self._directory("pids", path), self._directory("blkio", path)
        return GroupStats(
            cpu_ns=read_number(f"{cpu}/cpuacct.usage"),
            cpu_user_ns=times.get("user", 0) * TICK,
            cpu_system_ns=times.get("system", 0) * TICK,
            per_cpu_ns=tuple(map(int, read(f"{cpu}/cpuacct.usage_percpu").split())),
            periods=throttled.get("nr_periods", 0),
            throttled_periods=throttled.get("nr_throttled", 0),
            throttled_ns=throttled.get("throttled_time", 0),
            memory=read_number(f"{memory}/memory.usage_in_bytes"),
            memory_peak=read_number(f"{memory}/memory.max_usage_in_bytes"),
            memory_limit=read_limit(f"{memory}/memory.limit_in_bytes"),
            memory_failures=read_number(f"{memory}/memory.failcnt"),
            memory_stats=read_fields(f"{memory}/memory.stat"),
            processes=read_number(f"{pids}/pids.current"),
            processes_limit=read_limit(f"{pids}/pids.max"),
            io=disk_io(
                read(f"{blkio}/blkio.throttle.io_service_bytes_recursive")
                or read(f"{blkio}/blkio.throttle.io_service_bytes"),
                read(f"{blkio}/blkio.throttle.io_serviced_recursive") or read(f"{blkio}/blkio.throttle.io_serviced"),
            ),
        )

    def oom_kills(self, path: str) -> int:
        """Processes of the group itself that were killed for lack of memory (counted since Linux 4.13)."""
        return read_field(f"{self._directory('memory', path)}/memory.oom_control", "oom_kill")

    def activity(self, path: str) -> tuple[int, int]:
        """Number of tasks, and CPU time in nanoseconds."""
        processes = read_number(f"{self._directory('pids', path)}/pids.current")
        return processes, read_number(f"{self._directory('cpuacct', path)}/cpuacct.usage")

    def freeze(self, path: str, *, frozen: bool) -> None:
        """Freeze or thaw all processes of the group. A frozen process handles SIGKILL only after it was thawed."""
        try_write(f"{self._directory('freezer', path)}/freezer.state", "FROZEN" if frozen else "THAWED")

    def allow_devices(self, path: str, rules: Iterable[str]) -> bool:
        directory = self._directory("devices", path)
        return try_write(f"{directory}/devices.deny", "a") and all(
            [try_write(f"{directory}/devices.allow", rule) for rule in rules]
        )

    def allow_device(self, path: str, rule: str, *, allowed: bool, access: str = "rwm") -> bool:
        if "devices" not in self._by_controller:
            return False
        file = f"{self._directory('devices', path)}/devices.{'allow' if allowed else 'deny'}"
        try:
            write(file, f"{rule} {access}")
        except FileNotFoundError:
            if allowed:
                raise HostFailure(f"There is no control group {path}") from None
        except OSError as error:
            raise HostFailure(f"Cannot change access of {path} to device {rule}", evidence=str(error)) from error
        return True

    @property
    def freezes(self) -> bool:
        """Whether a freezer is among the hierarchies."""
        return "freezer" in self._by_controller

    def frozen(self, path: str) -> bool:
        """Whether all processes of the group are frozen."""
        return read(f"{self._directory('freezer', path)}/freezer.state").strip() == "FROZEN"

    def _directory(self, controller: str, path: str) -> str:
        tree = self._by_controller.get(controller)
        # For a missing controller: accessing a file below this directory fails with ENOENT.
        return tree.directory(path) if tree else f"/nonexistent/{controller}"


def _inherit_cpuset(directory: str) -> None:
    """A new cpuset is empty, and accepts no process until it has CPUs and memory nodes.

    The kernel copies them to the groups that are created in this one from now on.
    """
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{name}").strip():
            try_write(f"{directory}/{name}", read(f"{parent}/{name}").strip())
    try_write(f"{directory}/cgroup.clone_children", "1")


def _limit_more_memory(directory: str, limits: Limits) -> None:
    reserved = read_number(f"{directory}/memory.soft_limit_in_bytes")
    if limits.memory_reserved is not None or reserved < _NO_LIMIT:
        value = _UNLIMITED if limits.memory_reserved is None else str(limits.memory_reserved)
        file = f"{directory}/memory.soft_limit_in_bytes"
        set_limit("reserved memory", file, value, unlimited=limits.memory_reserved is None)
    swappiness = read(f"{os.path.dirname(directory)}/memory.swappiness").strip()
    bring("swapping", f"{directory}/memory.swappiness", limits.swappiness, swappiness)
    waits = "oom_kill_disable 1" in read(f"{directory}/memory.oom_control")
    if waits == limits.kill_when_full:
        value = "0" if limits.kill_when_full else "1"
        set_limit("killing", f"{directory}/memory.oom_control", value, unlimited=limits.kill_when_full)


def _limit_disks(directory: str, rates: Iterable[str]) -> None:
    """Rates of disks that are not named any more are removed by a zero."""
    wanted = disk_rates_by_number(rates)
    for kind in KINDS:
        file, disks = f"{directory}/blkio.throttle.{kind}_device", wanted.get(kind, {})
        present = dict(line.split()[:2] for line in read(file).splitlines() if line.count(" ") == 1)
        for number in sorted(present.keys() - disks.keys()):
            set_limit("disk access", file, f"{number} 0", unlimited=True)
        for number, rate in disks.items():
            if present.get(number) != str(rate):
                set_limit("disk access", file, f"{number} {rate}", unlimited=False)


def _limit_memory(directory: str, memory: int | None, swap: int | None) -> None:
    """Set the limits of memory and of memory with swap, which are the same value without swap."""
    plain, with_swap = f"{directory}/memory.limit_in_bytes", f"{directory}/memory.memsw.limit_in_bytes"
    value = _UNLIMITED if memory is None else str(memory)
    total = None if memory is None or swap is None else memory + swap
    before = read_number(plain)
    # The one with swap must never be lower, so it is set first when raising and last when lowering.
    if memory is None or memory > before:
        if os.path.exists(with_swap):
            both = _UNLIMITED if total is None else str(total)
            set_limit("memory", with_swap, both, unlimited=total is None)
        set_limit("memory", plain, value, unlimited=memory is None)
        return
    try:
        _lower(directory, plain, memory)
        if os.path.exists(with_swap):
            if total is None:
                set_limit("memory", with_swap, _UNLIMITED, unlimited=True)
            else:
                _lower(directory, with_swap, total)
    except BaseException:
        try_write(plain, str(before))
        raise


def _lower(directory: str, file: str, memory: int) -> None:
    """The kernel reclaims memory, and fails with EBUSY if that was not enough; another attempt may succeed."""
    for _ in range(_TRIES):
        try:
            return write(file, str(memory))
        except FileNotFoundError:
            return set_limit("memory", file, str(memory), unlimited=False)
        except OSError as error:
            if error.errno != errno.EBUSY:
                return set_limit("memory", file, str(memory), unlimited=False)
        try_write(f"{directory}/memory.force_empty", "0")
        time.sleep(0.02)
    raise memory_in_use(memory, read_number(f"{directory}/memory.usage_in_bytes"))
