"""Devices attached to a running tiny instance: a custom volume on btrfs and in plain directories, and a NIC."""

from typing import Any, ClassVar

from bench.objects import make_pool, new, remove_all, started
from bench.workload import Workload, milliseconds

ORDER = 36
NAME = "bench-h"
BRIDGE = "bench-br"
PLACE = f"/1.0/instances/{NAME}"


class Plug(Workload):
    """Attach to a running instance; detaching is not timed."""

    needs = ("act",)
    targets = {"incus": 0.6}
    samples = 3

    def sample(self, subject: Any) -> float:
        """Add it."""
        device = self.device(subject)
        try:
            return milliseconds(lambda: subject.act("PATCH", PLACE, {"devices": {"plugged": device}}))
        finally:
            unplug(subject)

    def device(self, subject: Any) -> dict[str, str]:
        """What is added."""
        raise AssertionError

    def finish(self, subject: Any) -> None:
        """Remove everything."""
        remove_all(subject)


class PlugDisk(Plug):
    """A custom volume of the instance's pool."""

    driver: ClassVar[str]

    def prepare(self, subject: Any) -> None:
        """Make pool, volume and instance."""
        pool = make_pool(subject, self.driver)
        subject.act("POST", f"/1.0/storage-pools/{pool}/volumes/custom", {"name": "bench-v", "config": {}})
        subject.act(*new(NAME, pool))
        subject.act(*started(NAME))

    def device(self, subject: Any) -> dict[str, str]:
        """The volume."""
        return {"type": "disk", "pool": f"bench-{self.driver}", "source": "bench-v", "path": "/mnt"}


class PlugDiskOnBtrfs(PlugDisk):
    """A subvolume."""

    name = "plug-disk-btrfs"
    title = "Hot-plug of a volume by API (btrfs)"
    driver = "btrfs"


class PlugDiskInDirectory(PlugDisk):
    """A directory."""

    name = "plug-disk-dir"
    title = "Hot-plug of a volume by API (dir)"
    driver = "dir"


class PlugNic(Plug):
    """An interface on a second bridge: Incus refuses two on one, because both would have the same name in DNS."""

    name = "plug-nic"
    title = "Hot-plug of a NIC by API"

    def prepare(self, subject: Any) -> None:
        """Make bridge and instance."""
        config = {"ipv4.address": "10.209.0.1/24", "ipv6.address": "none"}
        subject.act("POST", "/1.0/networks", {"name": BRIDGE, "type": "bridge", "config": config})
        subject.act(*new(NAME))
        subject.act(*started(NAME))

    def device(self, subject: Any) -> dict[str, str]:
        """An interface."""
        return {"type": "nic", "network": BRIDGE, "name": "eth7"}


def unplug(subject: Any) -> None:
    """Detach it, if it is attached."""
    instance = subject.act("GET", PLACE)
    if instance["devices"].pop("plugged", None):
        kept = {key: instance[key] for key in ("architecture", "config", "devices", "ephemeral", "profiles")}
        subject.act("PUT", PLACE, kept)


WORKLOADS = (PlugDiskOnBtrfs, PlugDiskInDirectory, PlugNic)
