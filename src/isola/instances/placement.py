"""Limits of an instance on this host, and the choice of its CPUs."""

from __future__ import annotations

from isola.instances.context import Context
from isola.instances.limits import limits_of, load_of
from isola.instances.volatile import CPUS
from isola.model.instance import Config, Instance
from isola.model.limits import Limits


def limits(context: Context, config: Config, *, of: Instance | None = None) -> Limits:
    """Limits on this host, with the least used CPUs; a running instance ``of`` keeps its CPUs."""
    placements = []
    if config.get("limits.cpu", "").isdigit():
        placements = [live.limits.cpus for id, live in context.live.items() if of is None or id != of.id]
    return limits_of(
        config,
        memory_total=context.host.system.memory()["MemTotal"],
        cpus=[int(str(cpu["id"])) for cpu in context.host.system.cpus()],
        load=load_of(placements),
        held=[int(cpu) for cpu in of.volatile.get(CPUS, "").split(",") if cpu] if of is not None else (),
    )


def cpus_text(limits: Limits) -> str:
    """The CPUs as stored in the record."""
    return ",".join(map(str, limits.cpus or ()))
