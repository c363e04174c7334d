"""Endpoints of an instance's NICs: a network namespace that is created before its run, or taps for its guest.

An instance without NICs of its own may run in the network of the host, or in that of another instance.
"""

from __future__ import annotations

from isola.devices import Target
from isola.errors import Unsupported, WrongState
from isola.instances.context import Context, Live
from isola.instances.namespaces import NETWORK, any_running_peer
from isola.instances.run_values import HOST, OTHER, network_mode
from isola.model.identity import PRIVILEGED
from isola.model.instance import Config, Instance
from isola.model.network import Endpoint, HostNetwork, HostTap, NetworkNamespace
from isola.operations import Operation
from isola.runtimes import Capability, Guest


async def make_endpoint(context: Context, op: Operation, instance: Instance, config: Config) -> Endpoint | HostNetwork:
    """The endpoint for a run that is about to begin. Raises NotFound, WrongState, Unsupported."""
    kind, _ = network_mode(config.get(NETWORK) or "private")
    if not context.runtime(instance).capabilities.shares_kernel:
        if kind not in ("private", "none"):
            raise Unsupported("A guest with its own kernel has its own network", field=f"config.{NETWORK}")
        return HostTap()
    if (peer := any_running_peer(context, instance.project, config)) is not None:
        context.runtime(instance).capabilities.require(Capability.SHARED_NAMESPACES)
    if kind == HOST:
        return HostNetwork()
    if peer is None or (kind != OTHER and instance.idmap == PRIVILEGED):
        return await context.networks.namespaces.make(op, instance.id, instance.idmap)
    network = _of_peer(context, peer)
    if kind == OTHER:
        return network
    return await context.networks.namespaces.make(op, instance.id, instance.idmap, beside=network)


def _of_peer(context: Context, peer: Instance) -> NetworkNamespace:
    context.runtime(peer).capabilities.require(Capability.SHARED_NAMESPACES)
    plan = context.live[peer.id].guest.plan
    if plan is None or not isinstance(plan.network, NetworkNamespace):
        message = f"Instance {peer.name!r} has no network namespace that can be joined"
        raise WrongState(message, remedy=f"unset {NETWORK}, or restart it")
    return plan.network


async def keep_endpoint(context: Context, instance: Instance, guest: Guest) -> None:
    """Keep alive the namespace that an engine has created, as for runs of Isola 0.1. Raises HostFailure."""
    namespaces = context.networks.namespaces
    if _is_elsewhere(context, instance, guest):
        return
    if context.runtime(instance).capabilities.shares_kernel and not namespaces.has(instance.id):
        await guest.keep_network(namespaces.place(instance.id))


def target_of(context: Context, instance: Instance, live: Live | None) -> Target | None:
    """The target for attaching devices; None if it does not run. Raises WrongState."""
    if live is None:
        return None
    capabilities, plan = context.runtime(instance).capabilities, live.guest.plan
    if plan is not None and plan.network is not None and _is_elsewhere(context, instance, live.guest):
        return Target(plan.network, live.guest, capabilities)
    endpoint = context.networks.namespaces.get(instance.id) if capabilities.shares_kernel else HostTap()
    return Target(endpoint, live.guest, capabilities)


def _is_elsewhere(context: Context, instance: Instance, guest: Guest) -> bool:
    """Whether it runs in a network that is not its own."""
    network = guest.plan.network if guest.plan is not None else None
    own = context.networks.namespaces.place(instance.id)
    return isinstance(network, HostNetwork | NetworkNamespace) and network != own
