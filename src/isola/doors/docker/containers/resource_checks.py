"""Requests for resources that no host could give, refused with the texts of Docker, which scripts read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.model.units import parse_cpu_set

_LEAST_MEMORY = 6 * 2**20
_BILLION = 10**9
_LEAST_TIME, _LONGEST_PERIOD = 1000, 1_000_000
_LEAST_WEIGHT, _GREATEST_WEIGHT = 10, 1000
_MOST, _LEAST = 2**63 - 1, -(2**63)
_FACTS = ("id", "numa_node")


@dataclass(frozen=True, slots=True)
class Present:
    """Numbers of what this host has."""

    cpus: Sequence[int]
    nodes: Sequence[int]
    """Of memory."""


def present_on(request: Request) -> Present:
    """What this host has."""
    cpus = request.services.host.system.cpus()
    found = {name: sorted({number for each in cpus if isinstance(number := each.get(name), int)}) for name in _FACTS}
    return Present(found["id"], found["numa_node"])


def check_resources(host: Fields, present: Present) -> None:
    """Raises InvalidInput."""
    _check_memory(host)
    _check_time(host, len(present.cpus))
    _check_set(host, "CpusetCpus", "CPUs", present.cpus)
    _check_set(host, "CpusetMems", "memory nodes", present.nodes)
    weight = _number(host, "BlkioWeight")
    if weight and not _LEAST_WEIGHT <= weight <= _GREATEST_WEIGHT:
        raise _refused("BlkioWeight", "Range of blkio weight is from 10 to 1000")


def _check_memory(host: Fields) -> None:
    size, swap, kept = (_number(host, name) for name in ("Memory", "MemorySwap", "MemoryReservation"))
    if size and size < _LEAST_MEMORY:
        raise _refused("Memory", "Minimum memory limit allowed is 6MB")
    if 0 < swap < size:
        raise _refused("MemorySwap", "Minimum memoryswap limit should be larger than memory limit, see usage")
    swappiness = host.whole("MemorySwappiness", -1, minimum=_LEAST, maximum=_MOST)
    if not -1 <= swappiness <= 100:
        raise _refused("MemorySwappiness", f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if 0 < kept < _LEAST_MEMORY:
        raise _refused("MemoryReservation", "Minimum memory reservation allowed is 6MB")
    if 0 < size < kept:
        raise _refused(
            "MemoryReservation", "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _check_time(host: Fields, cpus: int) -> None:
    share, quota, period, shares = (_number(host, name) for name in ("NanoCpus", "CpuQuota", "CpuPeriod", "CpuShares"))
    if share > 0 and period:
        raise _refused("NanoCpus", "Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if share > 0 and quota > 0:
        raise _refused("NanoCpus", "Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if not 0 <= share <= cpus * _BILLION:
        raise _refused("NanoCpus", f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if shares < 0:
        raise _refused("CpuShares", f"invalid CPU shares ({shares}): value must be a positive integer")
    if period and not _LEAST_TIME <= period <= _LONGEST_PERIOD:
        raise _refused(
            "CpuPeriod", "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < quota < _LEAST_TIME:
        raise _refused("CpuQuota", "CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_set(host: Fields, field: str, what: str, there: Sequence[int]) -> None:
    text = host.text(field, "")
    if not text:
        return
    try:
        wanted = parse_cpu_set(text)
    except ValueError:
        raise _refused(field, f"Invalid value {text[:80]} for {field.lower().replace('set', 'set ')}") from None
    if not set(wanted) <= set(there):
        available = _ranges(there)
        raise _refused(field, f"Requested {what} are not available - requested {text[:80]}, available: {available}")


def _ranges(numbers: Sequence[int]) -> str:
    """Neighbours are joined: ``0-3,8``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] + 1 == number:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, each)) for each in found)


def _number(host: Fields, field: str) -> int:
    return host.whole(field, 0, minimum=_LEAST, maximum=_MOST)


def _refused(field: str, text: str) -> InvalidInput:
    return InvalidInput(text, field=f"HostConfig.{field}")
