"""Files of control groups that have many numbers."""

from __future__ import annotations

import os
from collections import defaultdict

from isola.host.cgroup_tree import read
from isola.model.stats import DiskIo

TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of the unit in which the kernel counts CPU time."""
_NO_LIMIT = 1 << 62
"""cgroup v1 has a very large number where there is no limit."""
_LEGACY = {"Read": 0, "Write": 1}
_UNIFIED = {"rbytes": 0, "wbytes": 1, "rios": 2, "wios": 3}


def read_fields(file: str) -> dict[str, int]:
    """Lines of ``NAME NUMBER``."""
    pairs = (line.split() for line in read(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def read_limit(file: str) -> int:
    """0 if there is none."""
    text = read(file, once=True).strip()
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else 0


def disk_io(sizes: str, counts: str) -> tuple[DiskIo, ...]:
    """From ``8:0 Read 4096`` lines of bytes and of operations."""
    found: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 4)
    for text, offset in ((sizes, 0), (counts, 2)):
        for line in text.splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in _LEGACY:
                found[_device(fields[0])][_LEGACY[fields[1]] + offset] = int(fields[2])
    return _sorted(found)


def unified_io(text: str) -> tuple[DiskIo, ...]:
    """From ``8:0 rbytes=4096 wbytes=0 ...`` lines."""
    found: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 4)
    for line in text.splitlines():
        device, *fields = line.split()
        for field in fields:
            name, _, number = field.partition("=")
            if name in _UNIFIED and number.isdigit():
                found[_device(device)][_UNIFIED[name]] = int(number)
    return _sorted(found)


def _device(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(":")
    return int(major), int(minor)


def _sorted(found: dict[tuple[int, int], list[int]]) -> tuple[DiskIo, ...]:
    return tuple(DiskIo(*device, *numbers) for device, numbers in sorted(found.items()))
