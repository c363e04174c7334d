"""Fields of ``HostConfig`` about CPU time, memory and disks, as configuration keys of instances."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.model.disk_rates import rates
from isola.model.instance import Config
from isola.model.units import parse_size

Keys = dict[str, str]
Reader = Callable[[Fields], Keys]
Shower = Callable[[Config], Any]
_MOST = 2**63 - 1
_BILLION = 10**9
_PERIOD = 100_000
_TIME = re.compile(r"([0-9]+)(us|ms)/([0-9]+)(us|ms)", re.ASCII)
_ALLOWANCE, _SWAP = "limits.cpu.allowance", "limits.memory.swap"
_NANO_PERIOD = "100ms"
"""The period of ``NanoCpus``: how it is written tells it from a ``CpuQuota`` in a period of the same length."""
DISK_RATES = {
    f"BlkioDevice{way}{unit}": f"isola.limits.disk.{way.lower()}_{unit.lower()}"
    for way in ("Read", "Write")
    for unit in ("Bps", "IOps")
}
"""Fields, and our keys."""
_FEWEST_SHARES, _MOST_SHARES = 2, 262_144


def memory_keys(host: Fields) -> Keys:
    """``Memory`` and ``MemorySwap``, which is the sum of both."""
    size, total = host.whole("Memory", 0, maximum=_MOST), host.whole("MemorySwap", 0, minimum=-1, maximum=_MOST)
    if 0 < size < 6 * 2**20:
        raise InvalidInput("Minimum memory limit allowed is 6MB", field="HostConfig.Memory")
    keys = {"limits.memory": str(size)} if size else {}
    if total > 0 and not size:
        raise InvalidInput(
            "You should always set the Memory limit when using Memoryswap limit, see usage", field="HostConfig.Memory"
        )
    if 0 < total < size:
        raise InvalidInput(
            "Minimum memoryswap limit should be larger than memory limit, see usage", field="HostConfig.MemorySwap"
        )
    return keys | swap_keys(total, size)


def swap_keys(total: int, size: int) -> Keys:
    """Of memory and swap together; -1 without a limit of swap."""
    return {_SWAP: "true" if total < 0 else str(total - size) if total > size else "false"} if total else {}


def memory(config: Config) -> int | None:
    """Bytes; None for a share of the host's."""
    text = config.get("limits.memory", "")
    return parse_size(text) if text and not text.endswith("%") else None


def memory_and_swap(config: Config) -> int:
    """The sum; -1 without a limit of swap, 0 without any. A limit of memory alone means no swap."""
    size, swap = memory(config), config.get(_SWAP, "false")
    if not size:
        return -1 if swap == "true" else 0
    return -1 if swap == "true" else size + (0 if swap == "false" else parse_size(swap))


def cpu_time_keys(host: Fields, config: Config | None = None) -> Keys:
    """``NanoCpus``, or ``CpuQuota`` in each ``CpuPeriod`` (microseconds); in an update the other as it is."""
    share = host.whole("NanoCpus", 0, maximum=_MOST)
    if share:
        return {_ALLOWANCE: f"{max(share * _PERIOD // _BILLION, 1000)}us/{_NANO_PERIOD}"}
    quota, period = host.whole("CpuQuota", 0, minimum=-1), host.whole("CpuPeriod", 0)
    if not quota and not period:
        return {}
    before = config or {}
    quota, period = quota or cpu_quota(before), period or cpu_period(before) or _PERIOD
    if quota < 0:
        return {_ALLOWANCE: ""} if config is not None else {}
    return {_ALLOWANCE: f"{quota}us/{period}us"} if quota else {}


def cpu_share_keys(host: Fields) -> Keys:
    """``CpuShares``, within the kernel's bounds."""
    shares = host.whole("CpuShares", 0, maximum=_MOST)
    return {"isola.limits.cpu.shares": str(min(max(shares, _FEWEST_SHARES), _MOST_SHARES))} if shares else {}


def cpu_set_keys(host: Fields) -> Keys:
    """A plain number in ``CpusetCpus`` is a CPU; in our key it would be how many."""
    chosen = host.text("CpusetCpus", "")
    return {"limits.cpu": f"{chosen}-{chosen}" if chosen.isdecimal() else chosen} if chosen else {}


def cpu_set(config: Config) -> str | None:
    """None for a number of CPUs."""
    text = config.get("limits.cpu", "")
    if not text or text.isdecimal():
        return None
    first, _, last = text.partition("-")
    return first if first == last else text


def nano_cpus(config: Config) -> int:
    """As much as the time in each period is; or the number of CPUs."""
    if found := _time(config):
        return found[0] * _BILLION // found[1] if _is_share(config) else 0
    text = config.get("limits.cpu", "")
    return int(text) * _BILLION if text.isdecimal() else 0


def cpu_quota(config: Config) -> int:
    """Unless it is written as ``NanoCpus``."""
    found = _time(config)
    return found[0] if found and not _is_share(config) else 0


def cpu_period(config: Config) -> int | None:
    """The same; None: as the client gave it."""
    found = _time(config)
    return found[1] if found and not _is_share(config) else None


def _is_share(config: Config) -> bool:
    return config.get(_ALLOWANCE, "").endswith(f"/{_NANO_PERIOD}")


def number(field: str, key: str, *, absent: int = 0) -> tuple[str, Reader, Shower]:
    """A field that is a number in both; ``absent``: its value for none."""

    def keys(host: Fields) -> Keys:
        value = host.whole(field, absent, minimum=-1, maximum=_MOST)
        return {key: str(value)} if value not in (0, absent) or (value == 0 != absent) else {}

    return field, keys, lambda config: parse_size(config[key]) if config.get(key) else None


def disk_rates(field: str, key: str) -> tuple[Reader, Shower]:
    """Lists of ``{"Path": "/dev/sda", "Rate": 1048576}``."""

    def keys(host: Fields) -> Keys:
        found = [f"{each.text('Path')}:{each.whole('Rate', 0, maximum=_MOST)}" for each in host.objects(field)]
        return {key: ",".join(found)} if found else {}

    def value(config: Config) -> list[dict[str, Any]] | None:
        text = config.get(key, "")
        return [{"Path": path, "Rate": rate} for path, rate in rates(text)] if text else None

    return keys, value


def oom_kill_keys(host: Fields) -> Keys:
    """The key has the opposite meaning."""
    return {"isola.limits.memory.oom_kill": "false"} if host.boolean("OomKillDisable") else {}


def oom_kill_disabled(config: Config) -> bool | None:
    """None by default."""
    return True if config.get("isola.limits.memory.oom_kill") == "false" else None


def _time(config: Config) -> tuple[int, int] | None:
    found = _TIME.fullmatch(config.get(_ALLOWANCE, ""))
    if found is None:
        return None
    factor = {"us": 1, "ms": 1000}
    return int(found[1]) * factor[found[2]], int(found[3]) * factor[found[4]]
