"""A Debian 12 system from nothing, and again from its disk, until its systemd says ``running``."""

from typing import Any

from bench.ready import guest_inits, wait_ready
from bench.workload import Workload, milliseconds

ORDER = 10


class LaunchReady(Workload):
    """Cached image to ready."""

    name = "debian-launch"
    title = "Debian 12, cached image until ready"
    needs = ("launch", "delete")
    targets = {"docker": 1.0, "podman": 1.0, "lxc": 1.3, "incus": 0.6}

    def sample(self, subject: Any) -> float:
        """Launch, wait; deleting it is not timed."""
        known = set(guest_inits())

        def work() -> None:
            subject.launch("debian", "bench-d")
            wait_ready(known)

        try:
            return milliseconds(work)
        finally:
            subject.delete("bench-d")


class StartReady(Workload):
    """An existing instance to ready."""

    name = "debian-start"
    title = "Debian 12, existing instance until ready"
    needs = ("create", "start_instance", "kill", "delete")

    def prepare(self, subject: Any) -> None:
        """Create it; the warm-up does the work of the first boot."""
        subject.create("debian", "bench-d")

    def sample(self, subject: Any) -> float:
        """Start, wait; stopping it is not timed."""
        known = set(guest_inits())

        def work() -> None:
            subject.start_instance("bench-d")
            wait_ready(known)

        try:
            return milliseconds(work)
        finally:
            subject.kill("bench-d")

    def finish(self, subject: Any) -> None:
        """Remove it."""
        subject.delete("bench-d")


WORKLOADS = (LaunchReady, StartReady)
