"""Keys of custom volumes."""

from __future__ import annotations

from isola.model.schedule import parse_pattern, parse_period, parse_schedule
from isola.model.units import parse_size
from isola.settings import Setting, Settings, boolean, text

_SMALLEST = 1 << 20


def _size(value: str) -> int:
    if (size := parse_size(value)) < _SMALLEST:
        raise ValueError("1MiB at least is expected")
    return size


SETTINGS = Settings(
    "storage volume",
    Setting("size", _size, "Bytes that it may take, where its pool can limit that", live=True),
    Setting(
        "security.shifted",
        boolean,
        "Accepted as LXD's clients send it: each instance sees a volume with its own ids in any case",
    ),
    Setting("snapshots.expiry", parse_period, "When new snapshots expire, such as 1M 2H 3d 4w 5m 6y", live=True),
    Setting("snapshots.schedule", parse_schedule, "When snapshots are taken: cron, or @hourly, @daily, ...", live=True),
    Setting("snapshots.pattern", parse_pattern, "Name of snapshots that are given none", default="snap%d", live=True),
    Setting("user.*", text, "Anything you like, for your own use"),
    Setting("volatile.*", text, "Kept by the daemon", read_only=True),
)
