"""From configuration to the kernel's units; placement of CPUs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from isola.errors import InvalidInput
from isola.instances.settings import SETTINGS
from isola.model.instance import Config
from isola.model.limits import Limits

_LEAST_TMPFS = 64 * 2**20
"""What a percentage comes to at least: systemd wants 16 MiB free in /run whenever it is told to reload."""
_SHARED_MEMORY_OF_ONE_PROGRAM = 64 * 2**20
"""What programs from OCI images expect."""


def limits_of(
    config: Config,
    *,
    memory_total: int,
    cpus: Sequence[int],
    load: Mapping[int, int],
    held: Sequence[int] = (),
) -> Limits:
    """Limits that a configuration asks for on a host with this memory and these CPUs.

    ``load`` says how many instances are bound to each CPU; the least loaded are chosen, unless the right
    number is ``held`` already. Raises InvalidInput.
    """
    processes = SETTINGS.value(config, "limits.processes")
    return Limits(
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


def tmpfs_size(config: Config, memory_total: int, *, system: bool) -> int:
    """Bytes that each tmpfs made for an instance may hold; what they hold counts as its memory besides."""
    if not system and not config.get("limits.tmpfs"):
        return _SHARED_MEMORY_OF_ONE_PROGRAM
    value = SETTINGS.value(config, "limits.tmpfs")
    assert isinstance(value, int)
    if config.get("limits.tmpfs", "%").endswith("%"):
        share = (memory_limit(config, memory_total) or memory_total) * value // 100
        return max(share, _LEAST_TMPFS)
    return value


def terminals(config: Config) -> int:
    """How many pseudo-terminals it may open."""
    value = SETTINGS.value(config, "limits.terminals")
    assert isinstance(value, int)
    return value


def load_of(placements: Iterable[tuple[int, ...] | None]) -> Mapping[int, int]:
    """How many instances are bound to each CPU."""
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
