"""Control groups in a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import HostFailure
from isola.host.cgroup_tree import LEAF, Tree, check_cpus, memory_in_use
from isola.host.proc import ProcessRef
from isola.model.limits import Limits, Usage
from isola.model.stats import GroupStats

_ROOT = Path("/sys/fs/cgroup")


@dataclass
class FakeGroup:
    """One group; a test sets ``usage`` and reads the rest."""

    owner: int | None = None
    limits: Limits = field(default_factory=Limits)
    usage: Usage = field(default_factory=Usage)
    members: set[int] = field(default_factory=set)
    frozen: bool = False
    oom_kills: int = 0
    refused_ports: dict[str, int] = field(default_factory=dict)
    devices: tuple[str, ...] | None = None


class FakeCgroups:
    """``kill`` calls ``killed`` with each PID, so that a fake process table can end the process."""

    def __init__(self, killed: Callable[[int], None] | None = None, *, layout: str = "unified", cpus: int = 2) -> None:
        self.groups: dict[str, FakeGroup] = {}
        self.opened: dict[str, set[str]] = {}
        """Group -> devices that were allowed individually."""
        self._killed = killed
        self._layout = layout
        self._cpus = frozenset(range(cpus))
        self._names = Tree(_ROOT, frozenset())

    @property
    def layout(self) -> str:
        """As set by the test."""
        return self._layout

    @property
    def unified(self) -> Path | None:
        """The path at which it would be mounted."""
        return {"unified": _ROOT, "hybrid": _ROOT / "unified"}.get(self._layout)

    async def create(self, path: str, *, owner: int | None = None, monitor: str = "") -> None:
        """Create the group and its parents."""
        if monitor:
            await self.create(monitor)
        self._names.directory(path)
        parts = path.split("/")
        for end in range(2, len(parts) + 1):
            group = self.groups.setdefault("/".join(parts[:end]), FakeGroup())
        if owner is not None:
            group.owner = owner

    async def exists(self, path: str) -> bool:
        self._names.directory(path)
        return path in self.groups

    async def enter(self, path: str, process: ProcessRef) -> None:
        """A process is in one group at a time."""
        group = self._group(path)
        for other in self.groups.values():
            other.members.discard(process.pid)
        group.members.add(process.pid)

    async def leaf(self, path: str, *, owner: int | None = None, always: bool = False) -> str:
        """No group of the fake enables controllers."""
        if self._layout != "unified" or not always or path not in self.groups:
            return ""
        await self.create(f"{path}/{LEAF}", owner=owner)
        return LEAF

    async def limit(self, path: str, limits: Limits) -> None:
        """Refuses CPUs that do not exist, and memory limits below the usage that a test has set."""
        group = self._group(path)
        check_cpus(limits.cpus, self._cpus)
        if limits.memory is not None and limits.memory < group.usage.memory:
            raise memory_in_use(limits.memory, group.usage.memory)
        group.limits = limits

    def refused_ports(self, path: str) -> Mapping[str, int]:
        """As set by the test."""
        self._names.directory(path)
        return self.groups[path].refused_ports if path in self.groups else {}

    async def allow_devices(self, path: str, rules: Sequence[str]) -> bool:
        """Recorded on layouts with v1."""
        self._group(path).devices = tuple(rules) if self._layout != "unified" else None
        return self._layout != "unified"

    async def allow_device(self, path: str, rule: str, *, allowed: bool, access: str = "rwm") -> bool:
        """Recorded in ``opened``, on any layout."""
        rules = self.opened.setdefault(path, set())
        (rules.add if allowed else rules.discard)(rule)
        return True

    def usage(self, path: str) -> Usage:
        """As set by the test; zeros if the group does not exist."""
        self._names.directory(path)
        return self.groups[path].usage if path in self.groups else Usage()

    def stats(self, path: str) -> GroupStats:
        """The part that ``usage`` has."""
        used = self.usage(path)
        return GroupStats(
            cpu_ns=used.cpu_ns, memory=used.memory, memory_peak=used.memory_peak, processes=used.processes
        )

    def oom_kills(self, path: str) -> int:
        return self.groups[path].oom_kills if path in self.groups else 0

    def activity(self, path: str) -> tuple[int, int]:
        used = self.usage(path)
        return used.processes, used.cpu_ns

    def processes(self, path: str) -> Sequence[int]:
        """PIDs in the group and its descendants."""
        return sorted(pid for name in self._below(path) for pid in self.groups[name].members)

    def holds(self, path: str, pid: int) -> bool:
        return pid in self.processes(path)

    async def kill(self, path: str) -> None:
        """All members end."""
        for pid in self.processes(path):
            self.left(pid)
            if self._killed is not None:
                self._killed(pid)

    def left(self, pid: int) -> None:
        """A process has ended."""
        for group in self.groups.values():
            group.members.discard(pid)

    async def freeze(self, path: str, *, frozen: bool) -> None:
        self._group(path).frozen = frozen

    def frozen(self, path: str) -> bool:
        self._names.directory(path)
        return path in self.groups and self.groups[path].frozen

    async def remove(self, path: str) -> None:
        """Raises HostFailure while processes are in it."""
        if inside := self.processes(path):
            evidence = f"processes {', '.join(map(str, inside[:10]))} are in it"
            raise HostFailure(f"Cannot remove the control group {path}", evidence=evidence, remedy="kill them first")
        for name in self._below(path):
            del self.groups[name]

    async def remove_empty(self, *paths: str) -> bool:
        """The same without an error."""
        try:
            for path in paths:
                await self.remove(path)
        except HostFailure:
            return False
        return True

    async def children(self, path: str) -> tuple[str, ...]:
        """Names directly below."""
        depth = path.count("/") + 1
        return tuple(sorted(name.split("/")[depth] for name in self._below(path) if name.count("/") == depth))

    def directories(self, path: str, *, legacy: bool = False) -> tuple[Path, ...]:
        return () if legacy else (Path(self._names.directory(path)),)

    def directories_of_monitor(self, path: str) -> tuple[Path, ...]:
        """One, on any layout."""
        return self.directories(path)

    def _below(self, path: str) -> list[str]:
        self._names.directory(path)
        return [name for name in self.groups if name == path or name.startswith(f"{path}/")]

    def _group(self, path: str) -> FakeGroup:
        self._names.directory(path)
        if path not in self.groups:
            raise HostFailure(f"There is no control group {path}")
        return self.groups[path]
