"""Endpoints of an instance's NICs: a network namespace that is created before its run, or taps for its guest."""

from __future__ import annotations

from isola.devices import Target
from isola.instances.context import Context, Live
from isola.model.instance import Instance
from isola.model.network import Endpoint, HostTap
from isola.operations import Operation
from isola.runtimes import Guest


async def make_endpoint(context: Context, op: Operation, instance: Instance) -> Endpoint:
    """The endpoint for a run that is about to begin."""
    if context.runtime(instance).capabilities.shares_kernel:
        return await context.networks.namespaces.make(op, instance.id, instance.idmap)
    return HostTap()


async def keep_endpoint(context: Context, instance: Instance, guest: Guest) -> None:
    """Keep alive the namespace that an engine has created, as for runs of Isola 0.1. Raises HostFailure."""
    namespaces = context.networks.namespaces
    if context.runtime(instance).capabilities.shares_kernel and not namespaces.has(instance.id):
        await guest.keep_network(namespaces.place(instance.id))


def target_of(context: Context, instance: Instance, live: Live | None) -> Target | None:
    """The target for attaching devices; None if it does not run. Raises WrongState."""
    if live is None:
        return None
    capabilities = context.runtime(instance).capabilities
    endpoint = context.networks.namespaces.get(instance.id) if capabilities.shares_kernel else HostTap()
    return Target(endpoint, live.guest, capabilities)
