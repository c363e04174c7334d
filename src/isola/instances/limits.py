"""From configuration to the kernel's units; placement of CPUs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from isola.errors import InvalidInput
from isola.instances.settings import SETTINGS
from isola.model.instance import Config
from isola.model.limits import Limits


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
    )


def memory_limit(config: Config, memory_total: int) -> int | None:
    """Bytes, or None for no limit."""
    value = SETTINGS.value(config, "limits.memory")
    if not isinstance(value, int):
        return None
    return memory_total * value // 100 if config["limits.memory"].endswith("%") else value


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
