"""What an instance's NICs end in: a network namespace before its run, or taps that its guest takes."""

from __future__ import annotations

from isola.devices import Target
from isola.instances.context import Context, Live
from isola.model.instance import Instance
from isola.model.network import Endpoint, HostTap
from isola.operations import Operation


async def make_endpoint(context: Context, op: Operation, instance: Instance) -> Endpoint:
    """The endpoint for a run that is about to begin."""
    if context.runtime(instance).capabilities.shares_kernel:
        return await context.networks.namespaces.make(op, instance.id, instance.idmap)
    return HostTap()


def target_of(context: Context, instance: Instance, live: Live | None) -> Target | None:
    """Where devices are plugged in now; None where it does not run. Raises WrongState."""
    if live is None:
        return None
    if context.runtime(instance).capabilities.shares_kernel:
        return Target(context.networks.namespaces.get(instance.id), live.guest)
    return Target(HostTap(), live.guest)
