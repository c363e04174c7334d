"""Upper limits of how fast disks of the host are read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

KINDS = ("read_bps", "write_bps", "read_iops", "write_iops")
"""As the kernel's files call them."""
_MOST_DISKS = 64
_MOST_RATE = 2**63 - 1
_SENTENCE = "disks of the host with a number each are expected: /dev/sda:1048576,/dev/sdb:2MiB"


def rates(value: str) -> tuple[tuple[str, int], ...]:
    """Per second, by disk, of ``/dev/sda:1MiB,/dev/sdb:5``. Raises ValueError."""
    from isola.model.units import parse_size

    found: dict[str, int] = {}
    for part in value.split(","):
        path, _, text = part.strip().rpartition(":")
        if not path.startswith("/dev/") or "\0" in path or "/../" in f"{path}/" or len(path) > 255:
            raise ValueError(_SENTENCE)
        try:
            found[path] = parse_size(text)
        except ValueError:
            raise ValueError(_SENTENCE) from None
        if not 0 < found[path] <= _MOST_RATE:
            raise ValueError(_SENTENCE)
    if len(found) > _MOST_DISKS:
        raise ValueError(f"at most {_MOST_DISKS} disks are expected")
    return tuple(found.items())


def encoded(kind: str, path: str, rate: int) -> str:
    """One of a ``Limits.disk_rates``: ``read_bps:/dev/sda:1048576``."""
    return f"{kind}:{path}:{rate}"


def by_kind(limits: Iterable[str]) -> Mapping[str, Mapping[str, int]]:
    """The reverse: kind -> path -> rate."""
    found: dict[str, dict[str, int]] = {}
    for text in limits:
        kind, _, rest = text.partition(":")
        path, _, rate = rest.rpartition(":")
        found.setdefault(kind, {})[path] = int(rate)
    return found
