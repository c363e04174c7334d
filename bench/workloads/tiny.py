"""A tiny image: run ``true``, create, start one, and start twenty at once."""

from typing import Any

from bench.workload import Workload, milliseconds

ORDER = 20


class RunTrue(Workload):
    """From creation to the end of ``true``, on a bridge."""

    name = "tiny-run"
    title = "Tiny image, run `true` on a bridge"
    needs = ("run_true",)
    targets = {"incus": 0.4, "docker": 0.4, "runc": 1.5}
    samples = 3

    def sample(self, subject: Any) -> float:
        """Run it."""
        try:
            return milliseconds(subject.run_true)
        finally:
            if hasattr(subject, "after_run_true"):
                subject.after_run_true()


class Create(Workload):
    """A record and a root, nothing runs."""

    name = "tiny-create"
    title = "Create, tiny image"
    needs = ("create", "delete")
    samples = 3

    def sample(self, subject: Any) -> float:
        """Create; deleting it is not timed."""
        try:
            return milliseconds(lambda: subject.create("tiny", "bench-c"))
        finally:
            subject.delete("bench-c")


class Start(Workload):
    """An existing tiny instance."""

    name = "tiny-start"
    title = "Start an existing instance, tiny image"
    # Where exec is supported, a start returns when the instance runs.
    needs = ("create", "start_instance", "kill", "delete", "exec_true")
    targets = {"lxc": 2.0}
    samples = 3

    def prepare(self, subject: Any) -> None:
        """Create it."""
        subject.create("tiny", "bench-s")

    def sample(self, subject: Any) -> float:
        """Start; stopping it is not timed."""
        try:
            return milliseconds(lambda: subject.start_instance("bench-s"))
        finally:
            subject.kill("bench-s")

    def finish(self, subject: Any) -> None:
        """Remove it."""
        subject.delete("bench-s")


class TwoHundredth(Workload):
    """Whether the host fills up: create and start of the 200th instance beside the first."""

    name = "launch-200th"
    title = "Create and start the 200th, relative to the first"
    unit = "x"
    needs = ("launch", "delete")
    limit = 1.2
    alone = True
    warm_up = False
    others = [f"bench-n{number}" for number in range(199)]

    def prepare(self, subject: Any) -> None:
        """Measure the first few, then fill up."""
        self._first = min(self._once(subject) for _ in range(5))
        for name in self.others:
            subject.launch("tiny", name)

    def sample(self, subject: Any) -> float:
        """One more; minima, since both are the same work."""
        return min(self._once(subject) for _ in range(5)) / self._first

    def finish(self, subject: Any) -> None:
        """Remove them."""
        subject.delete_many(self.others)

    def _once(self, subject: Any) -> float:
        try:
            return milliseconds(lambda: subject.launch("tiny", "bench-n"))
        finally:
            subject.delete("bench-n")


WORKLOADS = (RunTrue, Create, Start, TwoHundredth)
