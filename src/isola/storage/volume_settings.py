"""Keys of custom volumes."""

from __future__ import annotations

from isola.model.schedule import parse_pattern, parse_period, parse_schedule
from isola.model.units import parse_size
from isola.settings import Setting, Settings, boolean, text
from isola.storage.volume_mounts import OPTIONS, SOURCE, options, source

_SMALLEST = 1 << 20


def _size(value: str) -> int:
    if (size := parse_size(value)) < _SMALLEST:
        raise ValueError("expected at least 1MiB")
    return size


SETTINGS = Settings(
    "storage volume",
    Setting(
        "size",
        _size,
        "Limit of its size, on pools with quotas; of a disk (content type block) its size, 10GiB by default, which "
        "only grows",
        live=True,
    ),
    Setting(
        "security.shifted",
        boolean,
        "Accepted for compatibility with LXD: volumes are always shifted to the ids of each instance",
    ),
    Setting("snapshots.expiry", parse_period, "When new snapshots expire, such as 1M 2H 3d 4w 5m 6y", live=True),
    Setting("snapshots.schedule", parse_schedule, "When snapshots are taken: cron, or @hourly, @daily, ...", live=True),
    Setting("snapshots.pattern", parse_pattern, "Default name of snapshots", default="snap%d", live=True),
    Setting(
        SOURCE,
        source,
        "What instances get in place of the volume's own directory: a path of the host, whose root is their root, or "
        "`tmpfs:`, memory that each instance has for itself",
    ),
    Setting(
        OPTIONS,
        options,
        "With `mount.source`: ro, nosuid, noexec, rbind; for memory size (default 64m), mode, uid, gid",
    ),
    Setting("user.*", text, "User-defined, not interpreted"),
    Setting("volatile.*", text, "Internal data of the daemon", read_only=True),
)
