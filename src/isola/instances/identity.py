"""Devices of an instance, and its NICs on managed networks."""

from __future__ import annotations

import dataclasses

from isola.devices import Plug
from isola.instances.context import Context
from isola.instances.walls import require_fit
from isola.model.instance import Devices, Instance
from isola.model.network import Nic
from isola.operations import Operation


def nics_of(context: Context, instance: Instance) -> list[Nic]:
    """Its NICs on managed networks, by name of device."""
    return [context.nics.nic(plug) for plug in context.nics.of(instance)]


async def refreshed(
    context: Context, op: Operation, instance: Instance, devices: Devices, *, starting: bool = False
) -> Instance:
    """The record with the new states of its expanded devices; unchanged devices keep theirs.

    ``starting``: it is about to run.

    Raises the errors of devices that conflict with the host or another instance, or that its wall cannot have.
    """
    await context.devices.require(instance, devices)
    chosen = dataclasses.replace(
        instance, plugged=await context.devices.choose(op, instance, devices, starting=starting)
    )
    require_fit(context, chosen)
    return chosen


def plugs_of(context: Context, instance: Instance) -> tuple[Plug, ...]:
    """All its devices, in the order in which they are attached."""
    return tuple(context.devices.plugs(instance))
