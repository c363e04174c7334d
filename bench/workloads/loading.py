"""A large image from an archive, by docker's command line."""

from typing import Any, ClassVar

from bench import archive
from bench.workload import Workload, milliseconds

ORDER = 81
NAME = "bench-load"


class Load(Workload):
    """Isola unpacks layers for the first container, docker and podman when they load: both are timed."""

    name = "load-200mb"
    title = "docker load of 200 MB in 6 layers, and the first container"
    needs = ("image_load", "image_remove", "container_remove")
    targets: ClassVar = {"docker": 1.0}

    def prepare(self, subject: Any) -> None:
        """Write the archive."""
        archive.write(subject.directory / "load.tar", subject.images.rootfs("debian"))

    def sample(self, subject: Any) -> float:
        """Load; removing all of it is not timed."""
        try:
            return milliseconds(lambda: subject.image_load(subject.directory / "load.tar", archive.IMAGE, NAME))
        finally:
            subject.container_remove(NAME)
            subject.image_remove(archive.IMAGE)

    def finish(self, subject: Any) -> None:
        """Remove the archive."""
        (subject.directory / "load.tar").unlink(missing_ok=True)


WORKLOADS = (Load,)
