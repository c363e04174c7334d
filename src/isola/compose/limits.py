"""Limits of a service -> configuration keys. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isola.errors import InvalidInput
from isola.model.disk_rates import KINDS

Tree = dict[str, Any]
_PERIOD = 100_000
"""Microseconds in which CPU time is counted, where the file says nothing."""
_KEYS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("mem_limit", "limits.memory", str),
    ("mem_reservation", "isola.limits.memory.reservation", str),
    ("mem_swappiness", "isola.limits.memory.swappiness", str),
    ("cpuset", "limits.cpu", lambda text: f"{text}-{text}" if text.isdigit() else text),
    ("cpu_shares", "isola.limits.cpu.shares", str),
    ("oom_score_adj", "isola.oom.score_adj", str),
    ("shm_size", "isola.shm.size", str),
)


def limits(service: Tree, where: str) -> dict[str, str]:
    """Those of the service itself and of ``deploy.resources``; both may be given if they agree. Raises InvalidInput."""
    service = _with_deploy(service, where)
    found = {ours: text(service[key]) for key, ours, text in _KEYS if service.get(key)}
    found |= _disks(service.get("blkio_config", {}), f"{where}.blkio_config")
    if service.get("oom_kill_disable"):
        found["isola.limits.memory.oom_kill"] = "false"
    if service.get("pids_limit", 0) > 0:
        found["limits.processes"] = str(service["pids_limit"])
    if "memswap_limit" in service:
        found["limits.memory.swap"] = _swap(service, where)
    if allowance := _allowance(service):
        found["limits.cpu.allowance"] = allowance
    return found


def _disks(given: Tree, where: str) -> dict[str, str]:
    found = {"isola.limits.disk.weight": str(given["weight"])} if given.get("weight") else {}
    for kind in KINDS:
        disks = given.get(f"device_{kind}") or []
        if not all(each.get("path") and each.get("rate", 0) > 0 for each in disks):
            raise InvalidInput(f"{where}.device_{kind} needs a path and a rate of each disk", field=where)
        if disks:
            found[f"isola.limits.disk.{kind}"] = ",".join(f"{each['path']}:{each['rate']}" for each in disks)
    return found


def _with_deploy(service: Tree, where: str) -> Tree:
    resources = service.get("deploy", {}).get("resources", {})
    found = dict(service)
    for kind, key, ours in (
        ("limits", "cpus", "cpus"),
        ("limits", "memory", "mem_limit"),
        ("limits", "pids", "pids_limit"),
        ("reservations", "memory", "mem_reservation"),
    ):
        value = resources.get(kind, {}).get(key)
        if value is None:
            continue
        if found.get(ours) not in (None, value):
            raise InvalidInput(
                f"{where} has different values of {ours} and deploy.resources.{kind}.{key}", field=f"{where}.{ours}"
            )
        found[ours] = value
    return found


def _swap(service: Tree, where: str) -> str:
    """The file gives memory and swap together."""
    total, memory = service["memswap_limit"], service.get("mem_limit", 0)
    if total in (0, -1):
        return "true"
    if not memory or total < memory:
        raise InvalidInput(f"{where}.memswap_limit is less than mem_limit", field=f"{where}.memswap_limit")
    return str(total - memory) if total > memory else "false"


def _allowance(service: Tree) -> str:
    """CPU time in microseconds per period."""
    period = service.get("cpu_period") or _PERIOD
    quota = service.get("cpu_quota", 0)
    if service.get("cpus"):
        quota, period = round(service["cpus"] * _PERIOD), _PERIOD
    return f"{quota / 1000:g}ms/{period / 1000:g}ms" if quota > 0 else ""


def ulimits(spec: Mapping[str, Any]) -> dict[str, str]:
    """Of a service or a build."""
    return {
        f"limits.kernel.{name}": f"{_unlimited(limit['soft'])}:{_unlimited(limit['hard'])}"
        for name, limit in spec.get("ulimits", {}).items()
    }


def _unlimited(value: int) -> str:
    return "unlimited" if value < 0 else str(value)
