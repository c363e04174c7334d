"""Common steps of an update and of the repair after an interrupted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isola.instances.context import Context, Live
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
