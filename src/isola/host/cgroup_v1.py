"""The old hierarchies (cgroup v1): one per controller or set of controllers."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable

from isola.errors import HostFailure
from isola.host.cgroup_tree import (
    Tree,
    check_cpus,
    format_cpus,
    make,
    memory_in_use,
    parse_cpus,
    read,
    read_number,
    set_limit,
    try_write,
    write,
)
from isola.model.limits import Limits, Usage

_UNLIMITED = "-1"
_TRIES = 5
_NECESSARY = frozenset({"systemd", "freezer", "memory", "pids"})
"""Where a process without limits of its own is told from the daemon's: by a service manager that ends the daemon and
counts its memory and processes, and by ourselves, who freeze it before we kill it."""


class LegacyTrees:
    """All of them together; ``trees`` says which directory has which controllers."""

    def __init__(self, trees: Iterable[Tree]) -> None:
        self.trees = tuple(trees)
        self._by_controller = {name: tree for tree in self.trees for name in tree.controllers}

    @property
    def necessary(self) -> tuple[Tree, ...]:
        """Those in which even a group without limits is needed."""
        return tuple(tree for tree in self.trees if tree.controllers & _NECESSARY) or self.trees

    def create(self, path: str, trees: Iterable[Tree]) -> None:
        """Make the group in some of them."""
        for tree in trees:
            for directory in tree.levels(path):
                make(directory)
                if "cpuset" in tree.controllers:
                    _inherit_cpuset(directory)

    def limit(self, path: str, limits: Limits) -> None:
        """Set all limits; the one that can be refused by what is in use comes first."""
        cpuset = self._directory("cpuset", path)
        there = read(f"{os.path.dirname(cpuset)}/cpuset.effective_cpus")
        check_cpus(limits.cpus, parse_cpus(there))
        _limit_memory(self._directory("memory", path), limits.memory)
        processes = "max" if limits.processes is None else str(limits.processes)
        file = f"{self._directory('pids', path)}/pids.max"
        set_limit("processes", file, processes, unlimited=limits.processes is None or limits.by_default)
        cpus = there.strip() if limits.cpus is None else format_cpus(limits.cpus)
        set_limit("CPUs", f"{cpuset}/cpuset.cpus", cpus, unlimited=limits.cpus is None)

    def usage(self, path: str) -> Usage:
        """What the group uses now."""
        memory = self._directory("memory", path)
        # With swap first: what is charged between two readings must not look like swap.
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

    def activity(self, path: str) -> tuple[int, int]:
        """Processes, and nanoseconds of processor time."""
        processes = read_number(f"{self._directory('pids', path)}/pids.current")
        return processes, read_number(f"{self._directory('cpuacct', path)}/cpuacct.usage")

    def freeze(self, path: str, *, frozen: bool) -> None:
        """Stop or continue all processes of the group; a frozen one does not even die."""
        try_write(f"{self._directory('freezer', path)}/freezer.state", "FROZEN" if frozen else "THAWED")

    def allow_devices(self, path: str, rules: Iterable[str]) -> bool:
        """Let only these device nodes open."""
        directory = self._directory("devices", path)
        return try_write(f"{directory}/devices.deny", "a") and all(
            [try_write(f"{directory}/devices.allow", rule) for rule in rules]
        )

    def allow_device(self, path: str, rule: str, *, allowed: bool) -> bool:
        """Let one more device open, or no longer."""
        if "devices" not in self._by_controller:
            return False
        file = f"{self._directory('devices', path)}/devices.{'allow' if allowed else 'deny'}"
        try:
            write(file, f"{rule} rwm")
        except FileNotFoundError:
            if allowed:
                raise HostFailure(f"There is no control group {path}") from None
        except OSError as error:
            raise HostFailure(f"Cannot let {path} use device {rule}", evidence=str(error)) from error
        return True

    @property
    def freezes(self) -> bool:
        """Whether there is a freezer among them."""
        return "freezer" in self._by_controller

    def frozen(self, path: str) -> bool:
        """Whether the group is frozen, not only about to be."""
        return read(f"{self._directory('freezer', path)}/freezer.state").strip() == "FROZEN"

    def _directory(self, controller: str, path: str) -> str:
        tree = self._by_controller.get(controller)
        # A file below this directory is missing like one of a controller the kernel lacks.
        return tree.directory(path) if tree else f"/nonexistent/{controller}"


def _inherit_cpuset(directory: str) -> None:
    """A new cpuset is empty, and takes no process until it has CPUs and memory nodes."""
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{name}").strip():
            try_write(f"{directory}/{name}", read(f"{parent}/{name}").strip())


def _limit_memory(directory: str, memory: int | None) -> None:
    """Memory, and memory with swap to the same: the limit is all there is to get."""
    plain, with_swap = f"{directory}/memory.limit_in_bytes", f"{directory}/memory.memsw.limit_in_bytes"
    value = _UNLIMITED if memory is None else str(memory)
    before = read_number(plain)
    # The one with swap may never be the lower one, so it goes first on the way up and last on the way down.
    if memory is None or memory > before:
        if os.path.exists(with_swap):
            set_limit("memory", with_swap, value, unlimited=memory is None)
        set_limit("memory", plain, value, unlimited=memory is None)
        return
    try:
        _lower(directory, plain, memory)
        if os.path.exists(with_swap):
            _lower(directory, with_swap, memory)
    except BaseException:
        try_write(plain, str(before))
        raise


def _lower(directory: str, file: str, memory: int) -> None:
    """The kernel reclaims by itself and answers EBUSY when that was not enough; more pressure may help."""
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
