"""Memory of the host: the processes that supervise one instance, and the idle daemon."""

from typing import Any, ClassVar

from bench.objects import new, remove_all, started
from bench.processes import outside_containers, resident
from bench.workload import Workload

ORDER = 50
_PORTS = 18100


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
        return sum(resident(pid) for name in self.names for pid in subject.monitors(name)) / len(self.names)

    def finish(self, subject: Any) -> None:
        """Remove them."""
        for name in self.names:
            subject.delete(name)


class PerContainer(Workload):
    """All processes on the host that came with twenty containers, without those inside and without the daemons."""

    name = "memory-container"
    title = "host memory per running container beyond its own (PSS)"
    unit = "MiB"
    needs = ("container_launch", "container_publish", "container_remove", "daemons")
    targets: ClassVar = {"docker": 0.3}
    names = [f"bench-m{number}" for number in range(20)]

    def prepare(self, subject: Any) -> None:
        """Start them."""
        self.before = outside_containers()
        for number, name in enumerate(self.names):
            self.begin(subject, name, number)

    def begin(self, subject: Any, name: str, number: int) -> None:
        """One of them."""
        subject.container_launch(name)

    def sample(self, subject: Any) -> float:
        """On average."""
        found = outside_containers() - self.before - {*subject.daemons()}
        return sum(resident(pid) for pid in found) / len(self.names)

    def finish(self, subject: Any) -> None:
        """Remove them."""
        subject.container_remove(*self.names)


class PerPublishing(PerContainer):
    """The same with a published port each."""

    name = "memory-container-port"
    title = "host memory per running container with a published port (PSS)"

    def begin(self, subject: Any, name: str, number: int) -> None:
        """With its port."""
        subject.container_publish(name, _PORTS + number)


class Idle(Workload):
    """The daemon and its helper processes."""

    name = "memory-daemon"
    title = "Daemon, idle (PSS)"
    unit = "MiB"
    needs = ("daemons",)
    limit = 80.0
    warm_up = False

    def sample(self, subject: Any) -> float:
        """All of it."""
        return sum(resident(pid) for pid in subject.daemons())


class Crowded(Workload):
    """The daemon with 200 running tiny instances, just after a list."""

    unit = "MiB"
    needs = ("act", "daemons")
    warm_up = False
    setting = "200"
    names = [f"bench-q{number}" for number in range(200)]
    field: ClassVar[str]

    def prepare(self, subject: Any) -> None:
        """Start them."""
        subject.act_each([new(name) for name in self.names])
        subject.act_each([started(name) for name in self.names])

    def sample(self, subject: Any) -> float:
        """All of it."""
        subject.api_list_full()
        return sum(resident(pid, self.field) for pid in subject.daemons())

    def finish(self, subject: Any) -> None:
        """Remove them."""
        remove_all(subject)


class CrowdedProportional(Crowded):
    """Without what it shares with others."""

    name = "memory-200"
    title = "Daemon with 200 instances running (PSS)"
    field = "Pss"


class CrowdedResident(Crowded):
    """As `top` shows it."""

    name = "memory-200-rss"
    title = "Daemon with 200 instances running (RSS)"
    field = "Rss"


WORKLOADS = (PerInstance, PerContainer, PerPublishing, Idle, CrowdedProportional, CrowdedResident)
