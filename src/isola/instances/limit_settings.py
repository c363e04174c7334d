"""Configuration keys of finer limits: CPU time, memory and swap, access to disks."""

from __future__ import annotations

import re

from isola.model.disk_rates import rates
from isola.model.units import parse_cpu_set, parse_size
from isola.settings import Setting, boolean, whole

_SHARE = re.compile(r"([0-9]{1,4})%", re.ASCII)
_TIME = re.compile(r"([0-9]{1,9})(us|ms)/([0-9]{1,7})(us|ms)", re.ASCII)
_MICROSECONDS = {"us": 1, "ms": 1000}
_LEAST_TIME, _LONGEST_PERIOD = 1000, 1_000_000
"""Microseconds, as the kernel accepts them."""


def allowance(value: str) -> int | tuple[int, int]:
    """Percent, or time and period in microseconds."""
    if (match := _SHARE.fullmatch(value)) and 1 <= int(match[1]) <= 1000:
        return int(match[1])
    if match := _TIME.fullmatch(value):
        time, period = int(match[1]) * _MICROSECONDS[match[2]], int(match[3]) * _MICROSECONDS[match[4]]
        if time >= _LEAST_TIME and _LEAST_TIME <= period <= _LONGEST_PERIOD:
            return time, period
    raise ValueError("a share such as 50%, or a time in a period of 1ms to 1s such as 25ms/100ms, is expected")


def swap(value: str) -> int | None:
    """Bytes; None: as much as there is."""
    try:
        return None if boolean(value) else 0
    except ValueError:
        pass
    try:
        return parse_size(value)
    except ValueError:
        raise ValueError("true, false or a size such as 512MiB is expected") from None


LIMITS = (
    Setting(
        "limits.cpu.allowance",
        allowance,
        "CPU time: `25ms/100ms` is a limit in each period, for all CPUs together; `50%` is a share when CPUs are busy.",
        live=True,
        expects="a share such as 50%, or a time in a period of 1ms to 1s such as 25ms/100ms",
    ),
    Setting("limits.cpu.priority", whole(0, 10), "Priority among instances with the same share of CPUs.", live=True),
    Setting(
        "isola.limits.cpu.shares",
        whole(2, 262_144),
        "Share of CPU time when CPUs are busy; 1024 is that of an instance without this key. Precedes the other keys.",
        live=True,
    ),
    Setting(
        "limits.memory.swap",
        swap,
        "Swap in addition to `limits.memory`: `false` for none, `true` for as much as there is, or a size.",
        "false",
        live=True,
        expects="true, false or a size such as 512MiB",
    ),
    Setting(
        "isola.limits.memory.reservation",
        parse_size,
        "Memory that is kept for it when the host's is scarce.",
        live=True,
        expects="a size such as 512MiB",
    ),
    Setting(
        "isola.limits.memory.swappiness",
        whole(0, 100),
        "How readily its memory is swapped out; needs cgroup v1.",
        live=True,
    ),
    Setting(
        "isola.limits.memory.oom_kill",
        boolean,
        "Whether its processes are killed at the limit of memory; otherwise they wait. Needs cgroup v1.",
        "true",
        live=True,
    ),
    Setting(
        "isola.limits.memory.nodes",
        parse_cpu_set,
        "NUMA nodes from which it gets memory: `0-1`.",
        live=True,
        expects="a set of numbers such as 0-1,3",
    ),
    Setting(
        "limits.disk.priority",
        whole(0, 10),
        "Share of disk access when disks are busy. Needs a kernel and a scheduler with weights.",
        live=True,
    ),
    Setting(
        "isola.limits.disk.weight",
        whole(10, 1000),
        "The same in finer steps; precedes it.",
        live=True,
    ),
    *(
        Setting(
            f"isola.limits.disk.{kind}",
            rates,
            f"Most {what} per second of disks of the host, by their device nodes: `/dev/sda:{example}`.",
            live=True,
            expects=f"disks of the host with a number each, such as /dev/sda:{example}",
        )
        for kind, what, example in (
            ("read_bps", "bytes read", "10MiB"),
            ("write_bps", "bytes written", "10MiB"),
            ("read_iops", "read accesses", "500"),
            ("write_iops", "write accesses", "500"),
        )
    ),
)
