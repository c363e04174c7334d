"""A large image to and from a registry on the same machine, by docker's command line."""

from pathlib import Path
from typing import Any, ClassVar

from bench import archive
from bench.registry import ADDRESS, Registry
from bench.workload import Workload, milliseconds

ORDER = 83
REMOTE = f"{ADDRESS}/bench/large:1"
CONTAINER = "bench-pulled"


class _WithRegistry(Workload):
    """200 MB in 6 layers."""

    targets: ClassVar = {"docker": 1.0}
    registry: Registry

    def prepare(self, subject: Any) -> None:
        """Start the registry, write the archive."""
        self.registry = Registry(subject.directory)
        archive.write(_archive(subject), subject.images.rootfs("debian"))

    def finish(self, subject: Any) -> None:
        """Remove both."""
        self.registry.close()
        _archive(subject).unlink(missing_ok=True)


class Push(_WithRegistry):
    """To an empty registry."""

    name = "push-200mb"
    title = "docker push of 200 MB in 6 layers to a local registry"
    needs = ("image_load", "image_tag", "image_push", "image_remove", "container_remove")

    def prepare(self, subject: Any) -> None:
        """Load it."""
        super().prepare(subject)
        subject.image_load(_archive(subject), archive.IMAGE, CONTAINER)
        subject.image_tag(archive.IMAGE, REMOTE)

    def sample(self, subject: Any) -> float:
        """Push; emptying the registry is not timed."""
        self.registry.empty()
        return milliseconds(lambda: subject.image_push(REMOTE))

    def finish(self, subject: Any) -> None:
        """Remove the image."""
        subject.container_remove(CONTAINER)
        for image in (REMOTE, archive.IMAGE):
            subject.image_remove(image)
        super().finish(subject)


class Pull(_WithRegistry):
    """Isola unpacks layers for the first container, docker and podman when they pull: both are timed."""

    name = "pull-200mb"
    title = "docker pull of the same, and the first container"
    needs = ("image_pull", "image_remove", "container_remove")

    def prepare(self, subject: Any) -> None:
        """The same layers for all."""
        super().prepare(subject)
        self.registry.fill(_archive(subject), REMOTE)

    def sample(self, subject: Any) -> float:
        """Pull; removing all of it is not timed."""
        try:
            return milliseconds(lambda: subject.image_pull(REMOTE, CONTAINER))
        finally:
            subject.container_remove(CONTAINER)
            subject.image_remove(REMOTE)


def _archive(subject: Any) -> Path:
    return Path(subject.directory) / "large.tar"


WORKLOADS = (Push, Pull)
