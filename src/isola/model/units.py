"""Sizes and CPU sets as users write them."""

from __future__ import annotations

_FACTORS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15, "eb": 10**18,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50, "eib": 2**60,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
}  # fmt: skip
_SIZE = r"([0-9]{1,19})\s*([a-zA-Z]*)"
_MAX = 2**63 - 1


def parse_size(value: str) -> int:
    """Bytes of ``512MiB``, ``2GB``, ``1048576``; raises ValueError with a hint."""
    import re  # late: the command line formats sizes, and parses none

    match = re.fullmatch(_SIZE, value.strip(), re.ASCII)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if not match or factor is None:
        raise ValueError("a size such as 512MiB, 2GB or 1048576 is expected")
    size = int(match[1]) * factor
    if size > _MAX:
        raise ValueError("the size is too large")
    return size


def format_size(size: float) -> str:
    """A number of bytes as text: ``206.50MiB``."""
    if size < 1024:
        return f"{int(size)}B"
    units = ("KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(int(size).bit_length() - 1, 50) // 10
    return f"{size / 1024**power:.2f}{units[power - 1]}"


def parse_cpu_set(value: str) -> tuple[int, ...]:
    """CPU numbers of ``0-1,3``; raises ValueError with a hint."""
    import re

    cpus: set[int] = set()
    for part in value.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip(), re.ASCII)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError("a CPU set such as 0-1,3 is expected")
        cpus.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(cpus))
