"""Memory of the host: what watches one instance, and the daemon that does nothing."""

from pathlib import Path
from typing import Any

from bench.workload import Workload

ORDER = 50


def proportional(pid: int) -> float:
    """The proportional set size of a process, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class PerInstance(Workload):
    """The processes that exist on the host because an instance runs, without those inside it."""

    name = "memory-instance"
    title = "Host memory per instance (monitor, PSS)"
    unit = "MiB"
    needs = ("start_tiny", "monitors", "delete")
    limit = 1.0
    names = [f"bench-w{number}" for number in range(4)]

    def prepare(self, subject: Any) -> None:
        """Start a few."""
        for name in self.names:
            subject.start_tiny(name)

    def sample(self, subject: Any) -> float:
        """Their monitors, on average."""
        return sum(proportional(pid) for name in self.names for pid in subject.monitors(name)) / len(self.names)

    def finish(self, subject: Any) -> None:
        """Remove them."""
        for name in self.names:
            subject.delete(name)


class Idle(Workload):
    """The daemon and what it started for itself."""

    name = "memory-daemon"
    title = "Daemon, idle (PSS)"
    unit = "MiB"
    needs = ("daemons",)
    limit = 80.0
    warm_up = False

    def sample(self, subject: Any) -> float:
        """All of it."""
        return sum(proportional(pid) for pid in subject.daemons())


WORKLOADS = (PerInstance, Idle)
