"""Processes and statistics of instances. Additions to the API."""

from __future__ import annotations

from isola.model.stats import ProcessTable, Stats


def process_json(table: ProcessTable) -> dict[str, object]:
    """Titles and rows."""
    return {"titles": list(table.titles), "rows": [list(row) for row in table.rows]}


def stats_json(stats: Stats) -> dict[str, object]:
    """Bytes and nanoseconds."""
    group = stats.group
    return {
        "at": stats.at.isoformat(),
        "cpu": {
            "usage": group.cpu_ns,
            "user": group.cpu_user_ns,
            "system": group.cpu_system_ns,
            "per_cpu": list(group.per_cpu_ns),
            "host": stats.host_cpu_ns,
            "host_cpus": stats.host_cpus,
            "periods": group.periods,
            "throttled_periods": group.throttled_periods,
            "throttled": group.throttled_ns,
        },
        "memory": {
            "usage": group.memory_used,
            "usage_with_cache": group.memory,
            "usage_peak": group.memory_peak,
            "limit": group.memory_limit or stats.host_memory,
            "failures": group.memory_failures,
        },
        "processes": {"count": group.processes, "limit": group.processes_limit},
        "network": {
            each.name: {"bytes_received": each.bytes_received, "bytes_sent": each.bytes_sent} for each in stats.network
        },
        "disks": [
            {
                "device": f"{each.major}:{each.minor}",
                "read": each.read_bytes,
                "written": each.written_bytes,
                "reads": each.reads,
                "writes": each.writes,
            }
            for each in group.io
        ],
    }
