"""Repair an instance after a change of it or its profile was interrupted by the end of the daemon."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from isola.devices import Plug
from isola.instances.changing import limit, record
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.endpoint import target_of
from isola.instances.identity import plugs_of, refreshed
from isola.instances.placement import cpus_text, limits
from isola.instances.volatile import CHANGING, CPUS, LIMITS
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.model.warning import WarningType
from isola.operations import Operation
from isola.state import Versioned

log = logging.getLogger(__name__)


def half_changed(context: Context, instance: Instance) -> bool:
    """Whether the devices in its record may differ from the host, or differ from its configuration."""
    return CHANGING in instance.volatile or _differs(context, instance)


async def repair(context: Context, op: Operation, ref: Ref, strays: Sequence[Plug] = ()) -> None:
    """Set the limits again, and reattach devices that may be partly changed: connections of such NICs break.

    A device that cannot be attached any more, for example because its source was deleted, is skipped until the next
    start of the instance or of the daemon. ``strays`` may be on the host in addition to those in its record. Can be
    repeated, and is repeated until it succeeds.
    """
    held = context.records.read(ref)
    instance = held.value
    live = context.live.get(instance.id)
    config, devices = expanded(context, instance)
    refused = await context.devices.refused(instance, devices)
    for name, error in refused.items():
        log.warning("Device %s of instance %s is not attached: %s", name, instance.name, error)
    if refused:
        evidence = "; ".join(f"{name}: {error}" for name, error in refused.items())
        context.warnings.report(WarningType.DEVICE_MISSING, instance.entity, evidence)
    else:
        context.warnings.resolve(WarningType.DEVICE_MISSING, instance.entity)
    possible = {name: device for name, device in devices.items() if name not in refused}
    wanted = await refreshed(context, op, instance, possible)
    await op.commit()
    differs = context.devices.differs(instance, possible)
    known = bool(refused) and CHANGING not in instance.volatile and not strays
    if differs or not (known or instance.volatile.get(CHANGING) == LIMITS):
        await _plug_in_anew(context, op, instance, wanted, strays)
    volatile = {key: value for key, value in wanted.volatile.items() if key != CHANGING}
    if live is not None:
        await limit(context, op, wanted, live, limits(context, config, instance))
        volatile[CPUS] = cpus_text(live.limits)
    repaired = dataclasses.replace(wanted, volatile=volatile, changing={})
    await record(context, [(instance, Versioned(repaired, held.revision))])


async def _plug_in_anew(
    context: Context, op: Operation, instance: Instance, wanted: Instance, strays: Sequence[Plug]
) -> None:
    """Reattach devices that may differ; all, if it is unknown which."""
    target = target_of(context, instance, context.live.get(instance.id))
    # Including the wanted ones, because an earlier repair may have attached them already.
    known = (plugs_of(context, instance), context.devices.plugs(instance, instance.changing), plugs_of(context, wanted))
    before = [*strays, *(plug for plugs in known for plug in plugs)]
    changing = context.devices.changing(instance, wanted).keys() - context.devices.kept(instance, wanted)
    names = {*instance.changing, *(plug.name for plug in strays), *changing}
    suspect: list[Plug] = [plug for plug in before if plug.name in names or not names]
    await context.devices.detach(op, suspect, target)
    await context.devices.unregister(op, suspect)
    for plug in plugs_of(context, wanted):
        if plug.name in names or not names:
            driver = context.devices.driver(plug.state.kind)
            await driver.register(op, plug)
            if target is not None:
                await driver.attach(op, plug, target)


def _differs(context: Context, instance: Instance) -> bool:
    return context.devices.differs(instance, expanded(context, instance)[1])
