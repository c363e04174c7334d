"""Statistics of a container as clients of Docker compute with them."""

from __future__ import annotations

from typing import Any

from isola.doors.docker.containers.view import View
from isola.doors.docker.times import NEVER, rfc3339
from isola.model.instance import InterfaceState
from isola.model.stats import GroupStats, Stats


def stats_json(seen: View, now: Stats | None, before: Stats | None) -> dict[str, Any]:
    """``now`` None: it does not run, and everything is zero. ``before``: an earlier value, for shares of time."""
    group = now.group if now is not None else GroupStats()
    return {
        "name": f"/{seen.instance.name}",
        "id": seen.id,
        "os_type": "linux",
        "read": rfc3339(now.at) if now is not None else NEVER,
        "preread": rfc3339(before.at) if before is not None else NEVER,
        "pids_stats": _processes(group),
        "blkio_stats": _blocks(group),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _cpu(before),
        "memory_stats": _memory(now),
        **({"networks": {each.name: _network(each) for each in now.network}} if now is not None else {}),
    }


def _processes(group: GroupStats) -> dict[str, int]:
    found = {"current": group.processes, "limit": group.processes_limit}
    return {name: value for name, value in found.items() if value}


def _cpu(stats: Stats | None) -> dict[str, Any]:
    group = stats.group if stats is not None else GroupStats()
    usage: dict[str, Any] = {
        "total_usage": group.cpu_ns,
        "usage_in_kernelmode": group.cpu_system_ns,
        "usage_in_usermode": group.cpu_user_ns,
    }
    if group.per_cpu_ns:
        usage["percpu_usage"] = list(group.per_cpu_ns)
    return {
        "cpu_usage": usage,
        "throttling_data": {
            "periods": group.periods,
            "throttled_periods": group.throttled_periods,
            "throttled_time": group.throttled_ns,
        },
        **({"system_cpu_usage": stats.host_cpu_ns, "online_cpus": stats.host_cpus} if stats is not None else {}),
    }


def _memory(stats: Stats | None) -> dict[str, Any]:
    if stats is None:
        return {}
    group = stats.group
    return {
        "usage": group.memory,
        "max_usage": group.memory_peak,
        "stats": dict(group.memory_stats),
        "failcnt": group.memory_failures,
        "limit": group.memory_limit or stats.host_memory,
    }


def _blocks(group: GroupStats) -> dict[str, Any]:
    names = ("io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive")
    found: dict[str, Any] = dict.fromkeys((*names, "io_time_recursive", "sectors_recursive"))
    found["io_service_bytes_recursive"] = [
        {"major": each.major, "minor": each.minor, "op": op, "value": value}
        for each in group.io
        for op, value in (("read", each.read_bytes), ("write", each.written_bytes))
    ]
    found["io_serviced_recursive"] = [
        {"major": each.major, "minor": each.minor, "op": op, "value": value}
        for each in group.io
        for op, value in (("read", each.reads), ("write", each.writes))
    ]
    return found


def _network(each: InterfaceState) -> dict[str, int]:
    return {
        "rx_bytes": each.bytes_received,
        "rx_packets": each.packets_received,
        "rx_errors": each.errors_received,
        "rx_dropped": each.packets_dropped_inbound,
        "tx_bytes": each.bytes_sent,
        "tx_packets": each.packets_sent,
        "tx_errors": each.errors_sent,
        "tx_dropped": each.packets_dropped_outbound,
    }
