"""Limits of an instance on this host, and the choice of its CPUs."""

from __future__ import annotations

from isola.instances.context import Context
from isola.instances.limits import limits_of, load_of, of_machine
from isola.instances.volatile import CPUS
from isola.model.instance import Config, Instance
from isola.model.limits import Limits


def limits(context: Context, config: Config, instance: Instance, *, fresh: bool = False) -> Limits:
    """Limits on this host, with the least used CPUs; unless it is ``fresh``, the instance keeps its CPUs."""
    placements = []
    if config.get("limits.cpu", "").isdigit():
        placements = [live.limits.cpus for id, live in context.live.items() if fresh or id != instance.id]
    found = limits_of(
        config,
        memory_total=context.host.system.memory_total,
        cpus=[int(str(cpu["id"])) for cpu in context.host.system.cpus()],
        load=load_of(placements),
        held=() if fresh else [int(cpu) for cpu in instance.volatile.get(CPUS, "").split(",") if cpu],
    )
    machine = context.runtime(instance).capabilities.machine
    return found if machine is None else of_machine(config, found, memory=machine.memory, cpus=machine.cpus)


def cpus_text(limits: Limits) -> str:
    """The CPUs as stored in the record."""
    return ",".join(map(str, limits.cpus or ()))
