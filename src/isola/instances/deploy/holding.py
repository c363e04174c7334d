"""Take devices from a version that does not run, or give it those that it has in its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from isola.instances.changing import record
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.describe import describe_change
from isola.instances.fault_repair import marks
from isola.instances.identity import plugs_of, refreshed
from isola.instances.volatile import HELD
from isola.model.device import DeviceState
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Versioned


async def hold(
    context: Context, op: Operation, ref: Ref, held: str, known: Mapping[str, DeviceState] | None = None
) -> None:
    """It has all devices of its configuration but those that are ``held``, by commas.

    ``known``: states of devices as they were, to get the same addresses again.
    """
    before = context.records.read(ref)
    instance = before.value
    wanted = dataclasses.replace(
        instance,
        volatile={**instance.volatile, HELD: held},
        plugged={**context.devices.forgotten(known or {}), **instance.plugged},
    )
    if not held:
        wanted = dataclasses.replace(wanted, volatile={k: v for k, v in wanted.volatile.items() if k != HELD})
    wanted = await refreshed(context, op, wanted, expanded(context, wanted)[1])
    marks(context, op, instance.id, (*plugs_of(context, instance), *plugs_of(context, wanted)))
    await context.devices.change(op, instance, wanted, None)
    await describe_change(context, op, instance, wanted)
    await op.commit(lambda: record(context, [(instance, Versioned(wanted, before.revision))]))
