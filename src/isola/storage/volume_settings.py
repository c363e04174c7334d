"""Keys of custom volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from isola.model.schedule import parse_pattern, parse_period, parse_schedule
from isola.model.units import parse_size
from isola.settings import Setting, Settings, boolean, text
from isola.storage.volume_mounts import OPTIONS, SOURCE, options, source

_SMALLEST = 1 << 20
_OF_POOL = "volume."
"""Prefix of a pool's defaults for its volumes."""


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
    Setting(
        "snapshots.schedule",
        parse_schedule,
        "When snapshots are taken: in the form of cron, or by a name such as @daily",
        live=True,
    ),
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


def _of_pool(key: str) -> Setting:
    row = SETTINGS.find(key)
    assert row is not None
    return replace(
        row, key=_OF_POOL + key, help=f"`{key}` of new custom volumes that have none", default=None, live=False
    )


DEFAULTS = tuple(_of_pool(key) for key in ("snapshots.expiry", "snapshots.pattern", "snapshots.schedule"))
"""Keys of pools: what new custom volumes get of them is theirs from then on."""


def with_defaults(config: Mapping[str, str], pool: Mapping[str, str]) -> dict[str, str]:
    """The configuration of a new volume in a pool with this one."""
    defaults = {row.key.removeprefix(_OF_POOL): pool[row.key] for row in DEFAULTS if pool.get(row.key)}
    return {**defaults, **config}
