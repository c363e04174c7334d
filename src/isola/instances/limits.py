"""From configuration to the kernel's units; placement of CPUs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from isola.errors import InvalidInput
from isola.instances.settings import SETTINGS
from isola.model.disk_rates import KINDS, encoded
from isola.model.instance import Config
from isola.model.limits import Limits

_LEAST_TMPFS = 64 * 2**20
"""Minimum of a percentage: systemd needs 16 MiB free in /run for a daemon-reload."""
_SHARED_MEMORY_OF_ONE_PROGRAM = 64 * 2**20
"""The default of container engines for application containers."""


def limits_of(
    config: Config,
    *,
    memory_total: int,
    cpus: Sequence[int],
    load: Mapping[int, int],
    held: Sequence[int] = (),
) -> Limits:
    """The limits of a configuration on a host with this memory and these CPUs.

    ``load`` has the number of instances bound to each CPU; the least loaded are chosen, unless the required
    number is ``held`` already. Raises InvalidInput.
    """
    processes = SETTINGS.value(config, "limits.processes")
    return replace(
        _finer(config),
        cpus=_cpus(config, cpus, load, held),
        memory=memory_limit(config, memory_total),
        processes=processes if isinstance(processes, int) else None,
        by_default=not config.get("limits.processes"),
    )


def memory_limit(config: Config, memory_total: int) -> int | None:
    """Bytes, or None for no limit."""
    value = SETTINGS.value(config, "limits.memory")
    if not isinstance(value, int):
        return None
    return memory_total * value // 100 if config["limits.memory"].endswith("%") else value


def of_machine(config: Config, limits: Limits, *, memory: int, cpus: int) -> Limits:
    """For a guest with memory and CPUs of its own, which has this much where the configuration says nothing."""
    value = SETTINGS.value(config, "limits.cpu")
    count = value if isinstance(value, int) else len(value) if isinstance(value, tuple) else cpus
    return replace(limits, memory=limits.memory or memory, vcpus=count)


def tmpfs_size(config: Config, memory: int, *, system: bool) -> int:
    """Size in bytes of each tmpfs of an instance that may use so much memory, to which their content counts, too."""
    if not system and not config.get("limits.tmpfs"):
        return _SHARED_MEMORY_OF_ONE_PROGRAM
    value = SETTINGS.value(config, "limits.tmpfs")
    assert isinstance(value, int)
    if config.get("limits.tmpfs", "%").endswith("%"):
        return max(memory * value // 100, _LEAST_TMPFS)
    return value


def terminals(config: Config) -> int:
    """Maximum number of pseudo-terminals."""
    value = SETTINGS.value(config, "limits.terminals")
    assert isinstance(value, int)
    return value


def load_of(placements: Iterable[tuple[int, ...] | None]) -> Mapping[int, int]:
    """CPU -> number of instances bound to it."""
    return Counter(cpu for placement in placements if placement for cpu in placement)


def _cpus(config: Config, cpus: Sequence[int], load: Mapping[int, int], held: Sequence[int]) -> tuple[int, ...] | None:
    value = SETTINGS.value(config, "limits.cpu")
    if value is None:
        return None
    if isinstance(value, int):
        if value >= len(cpus):
            return None
        if len(held) == value and set(held) <= set(cpus):
            return tuple(held)
        return tuple(sorted(sorted(cpus, key=lambda cpu: (load.get(cpu, 0), cpu))[:value]))
    wanted = tuple(int(cpu) for cpu in value) if isinstance(value, tuple) else ()
    missing = [cpu for cpu in wanted if cpu not in cpus]
    if missing:
        raise InvalidInput(
            f"This host has no CPU {missing[0]}",
            field="config.limits.cpu",
            remedy=f"its CPUs are {', '.join(map(str, cpus))}",
        )
    return wanted


def _finer(config: Config) -> Limits:
    """All limits except CPUs, memory and processes."""
    allowance = SETTINGS.value(config, "limits.cpu.allowance")
    nodes = SETTINGS.value(config, "isola.limits.memory.nodes")
    swap = SETTINGS.value(config, "limits.memory.swap")
    return Limits(
        cpu_time=allowance if isinstance(allowance, tuple) else None,
        cpu_shares=_cpu_shares(config, allowance),
        memory_nodes=nodes if isinstance(nodes, tuple) else None,
        memory_reserved=_whole(config, "isola.limits.memory.reservation"),
        swap=swap if isinstance(swap, int) else None,
        swappiness=_whole(config, "isola.limits.memory.swappiness"),
        kill_when_full=bool(SETTINGS.value(config, "isola.limits.memory.oom_kill")),
        io_weight=_io_weight(config),
        disk_rates=tuple(
            encoded(kind, path, rate)
            for kind in KINDS
            for path, rate in SETTINGS.value(config, f"isola.limits.disk.{kind}") or ()  # type: ignore[attr-defined]
        ),
        listens=_ports(config, "isola.ports.listen"),
        connects=_ports(config, "isola.ports.connect"),
    )


def _cpu_shares(config: Config, allowance: object) -> int | None:
    """As LXD computes them of percentage and priority, or as they are given."""
    shares, priority = _whole(config, "isola.limits.cpu.shares"), _whole(config, "limits.cpu.priority")
    if shares is not None or (priority is None and not isinstance(allowance, int)):
        return shares
    whole = 1024 * allowance // 100 if isinstance(allowance, int) else 1024
    return min(max(whole - (10 - (10 if priority is None else priority)), 2), 262_144)


def _io_weight(config: Config) -> int | None:
    weight, priority = _whole(config, "isola.limits.disk.weight"), _whole(config, "limits.disk.priority")
    return weight if weight is not None or priority is None else max(priority * 100, 10)


def _ports(config: Config, key: str) -> tuple[str, ...] | None:
    found = SETTINGS.value(config, key)
    return tuple(map(str, found)) if isinstance(found, tuple) else None


def _whole(config: Config, key: str) -> int | None:
    found = SETTINGS.value(config, key)
    return found if isinstance(found, int) else None
