"""Containers by docker's command line: docker's own daemon, podman, and Isola's Docker door."""

from typing import Any, ClassVar

from bench.workload import Workload, milliseconds

ORDER = 80
_VERBS = ("container_create", "container_start", "container_stop", "container_remove")


class Run(Workload):
    """From creation to removal, on a bridge."""

    name = "docker-run"
    title = "docker run --rm of `true`, on a bridge"
    needs = ("container_run",)
    targets: ClassVar = {"docker": 0.2}
    samples = 3

    def sample(self, subject: Any) -> float:
        """Run it."""
        return milliseconds(subject.container_run)


class Create(Workload):
    """Nothing runs."""

    name = "docker-create"
    title = "docker create"
    needs = _VERBS
    targets: ClassVar = {"docker": 0.5}
    samples = 3

    def sample(self, subject: Any) -> float:
        """Create; removing it is not timed."""
        try:
            return milliseconds(lambda: subject.container_create("bench-dc"))
        finally:
            subject.container_remove("bench-dc")


class Start(Workload):
    """An existing container."""

    name = "docker-start"
    title = "docker start"
    needs = _VERBS
    targets: ClassVar = {"docker": 0.2}
    samples = 3

    def prepare(self, subject: Any) -> None:
        """Create it."""
        subject.container_create("bench-ds")

    def sample(self, subject: Any) -> float:
        """Start; stopping it is not timed."""
        try:
            return milliseconds(lambda: subject.container_start("bench-ds"))
        finally:
            subject.container_stop("bench-ds")

    def finish(self, subject: Any) -> None:
        """Remove it."""
        subject.container_remove("bench-ds")


class Stop(Start):
    """A process that ends when it is asked to."""

    name = "docker-stop"
    title = "docker stop of a well-behaved process"
    targets: ClassVar = {"docker": 0.5}

    def sample(self, subject: Any) -> float:
        """Stop; starting it is not timed."""
        subject.container_start("bench-ds")
        return milliseconds(lambda: subject.container_stop("bench-ds"))


class List(Workload):
    """A hundred of them, stopped."""

    name = "docker-ps-100"
    title = "docker ps -a of 100"
    needs = (*_VERBS, "container_list")
    targets: ClassVar = {"docker": 0.8}
    samples = 3
    names: ClassVar = [f"bench-dl{number}" for number in range(100)]

    def prepare(self, subject: Any) -> None:
        """Create them."""
        for name in self.names:
            subject.container_create(name)

    def sample(self, subject: Any) -> float:
        """List."""
        return milliseconds(subject.container_list)

    def finish(self, subject: Any) -> None:
        """Remove them."""
        subject.container_remove(*self.names)


class Logs(Workload):
    """What a container has written."""

    name = "docker-logs-100mb"
    title = "docker logs of 100 MiB"
    needs = ("container_write", "container_logs", "container_remove")
    targets: ClassVar = {"docker": 0.7}

    def prepare(self, subject: Any) -> None:
        """Write them."""
        subject.container_write("bench-dg", 100)

    def sample(self, subject: Any) -> float:
        """Read them."""
        return milliseconds(lambda: subject.container_logs("bench-dg"))

    def finish(self, subject: Any) -> None:
        """Remove it."""
        subject.container_remove("bench-dg")


WORKLOADS = (Run, Create, Start, Stop, List, Logs)
