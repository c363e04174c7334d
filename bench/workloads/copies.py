"""Snapshots and copies of an instance, tiny or Debian, in a pool on btrfs and in one of plain directories."""

from typing import Any, ClassVar

from bench.objects import make_pool, new, remove_all
from bench.workload import Workload, milliseconds

ORDER = 35
NAME = "bench-k"
PLACE = f"/1.0/instances/{NAME}"


class InPool(Workload):
    """A stopped instance in a pool of its own."""

    driver: ClassVar[str]
    image: ClassVar[str]
    needs = ("act",)
    targets = {"incus": 0.6}
    samples = 3

    def prepare(self, subject: Any) -> None:
        """Make pool and instance."""
        subject.act(*new(NAME, make_pool(subject, self.driver), image=self.image))

    def finish(self, subject: Any) -> None:
        """Remove both."""
        remove_all(subject)


class Snapshot(InPool):
    """Create a snapshot; deleting it is not timed."""

    def sample(self, subject: Any) -> float:
        """Make it."""
        body = {"name": "s", "stateful": False}
        spent = milliseconds(lambda: subject.act("POST", f"{PLACE}/snapshots", body))
        subject.act("DELETE", f"{PLACE}/snapshots/s")
        return spent


class Restore(InPool):
    """Restore an instance; taking the snapshot is not timed."""

    def sample(self, subject: Any) -> float:
        """Restore it."""
        subject.act("POST", f"{PLACE}/snapshots", {"name": "r", "stateful": False})
        spent = milliseconds(lambda: subject.act("PUT", PLACE, {"restore": "r"}))
        subject.act("DELETE", f"{PLACE}/snapshots/r")
        return spent


class Copy(InPool):
    """A second instance in the same pool; deleting it is not timed."""

    def sample(self, subject: Any) -> float:
        """Copy it."""
        body = {"name": "bench-kk", "source": {"type": "copy", "source": NAME}}
        spent = milliseconds(lambda: subject.act("POST", "/1.0/instances", body))
        subject.act("DELETE", "/1.0/instances/bench-kk")
        return spent


class Delete(InPool):
    """Delete a copy; creating it is not timed."""

    def sample(self, subject: Any) -> float:
        """Delete it."""
        body = {"name": "bench-kk", "source": {"type": "copy", "source": NAME}}
        subject.act("POST", "/1.0/instances", body)
        return milliseconds(lambda: subject.act("DELETE", "/1.0/instances/bench-kk"))


def on_each(driver: str, image: str) -> list[type[Workload]]:
    """All of them, in a pool of one driver."""
    ending = driver if image == "tiny" else f"{image}-{driver}"
    return [
        type(
            f"{kind.__name__}Of{image}In{driver}",
            (kind,),
            {"name": f"{kind.__name__.lower()}-{ending}", "title": f"{kind.__name__} by API, {image} image ({driver})",
             "driver": driver, "image": image, "setting": f"pool-{ending}"},
        )
        for kind in (Snapshot, Restore, Copy, Delete)
    ]  # fmt: skip


WORKLOADS = tuple(
    each for image in ("tiny", "debian") for driver in ("btrfs", "dir") for each in on_each(driver, image)
)
