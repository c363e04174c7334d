"""Common steps of an update and of the repair after an interrupted one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from isola.instances.context import Context, Live
from isola.instances.volatile import CHANGING
from isola.model.device import DeviceState
from isola.model.instance import Instance
from isola.model.limits import Limits
from isola.operations import Operation
from isola.state import Versioned


async def record(
    context: Context,
    changes: Sequence[tuple[Instance, Versioned[Instance]]],
    *,
    allow: Callable[[], object] = lambda: None,
) -> None:
    """Write the new records, and release addresses that they no longer have."""
    await context.records.replace_all({wanted.value.ref: wanted for _, wanted in changes}, allow=allow)
    for instance, wanted in changes:
        context.devices.forget(context.devices.plugs(instance), but=wanted.value)


async def limit(context: Context, op: Operation, instance: Instance, live: Live, new: Limits) -> None:
    """Set the limits of a running instance."""
    old = live.limits

    async def set_to(wanted: Limits) -> None:
        await live.guest.limit(wanted)
        live.limits = wanted

    await op.effect(f"set limits of {instance.name}", lambda: set_to(new), undo=lambda: set_to(old))


async def announce(
    context: Context, op: Operation, held: Versioned[Instance], part: str, changing: Mapping[str, DeviceState]
) -> Versioned[Instance]:
    """Say in the record that the host is about to differ from it, for a daemon that has to repair it."""
    instance = held.value

    def marked(found: Instance, mark: str | None, devices: Mapping[str, DeviceState]) -> Instance:
        volatile = {key: value for key, value in found.volatile.items() if key != CHANGING}
        volatile |= {CHANGING: mark} if mark else {}
        return dataclasses.replace(found, volatile=volatile, changing=devices)

    return await op.effect(
        f"announce change of {instance.name}",
        lambda: context.records.replace(instance.ref, marked(instance, part, changing), at=held.revision),
        undo=lambda: context.records.change(
            instance.ref, lambda found: marked(found, instance.volatile.get(CHANGING), instance.changing)
        ),
    )
