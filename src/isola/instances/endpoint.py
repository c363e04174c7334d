"""What an instance's NICs end in, and who is told of them: a namespace before its run, or taps that its guest takes."""

from __future__ import annotations

from isola.instances.context import Context
from isola.instances.identity import nics_of
from isola.model.instance import Instance
from isola.model.network import Endpoint, HostTap, Nic
from isola.operations import Operation
from isola.runtimes import Guest, TapNic


async def make_endpoint(context: Context, op: Operation, instance: Instance) -> Endpoint:
    """The endpoint for a run that is about to begin, with every NIC connected to its network."""
    if context.runtime(instance).capabilities.shares_kernel:
        endpoint: Endpoint = await context.networks.namespaces.make(op, instance.id, instance.idmap)
    else:
        endpoint = HostTap()
    for nic in nics_of(context, instance):
        await _attach(context, op, nic, endpoint)
    return endpoint


def endpoint_of(context: Context, instance: Instance) -> Endpoint:
    """That of a run which goes on. Raises WrongState."""
    if context.runtime(instance).capabilities.shares_kernel:
        return context.networks.namespaces.get(instance.id)
    return HostTap()


async def plug(context: Context, op: Operation, nic: Nic, endpoint: Endpoint, guest: Guest) -> None:
    """Connect one more NIC to a guest that runs."""
    await _attach(context, op, nic, endpoint)
    await op.effect(f"plug in {nic.device}", lambda: guest.plug(tap_nic(nic)), undo=lambda: guest.unplug(nic.host_link))


async def unplug(op: Operation, nic: Nic, guest: Guest) -> None:
    """Have a guest let go of a NIC that is about to be taken away."""
    await op.effect(f"unplug {nic.device}", lambda: guest.unplug(nic.host_link), undo=lambda: guest.plug(tap_nic(nic)))


def tap_nic(nic: Nic) -> TapNic:
    """A NIC as a guest with taps knows it."""
    return TapNic(nic.host_link, nic.mac, nic.interface, nic.mtu)


async def _attach(context: Context, op: Operation, nic: Nic, endpoint: Endpoint) -> None:
    network = context.networks.get(nic.network)
    await context.networks.driver(nic.network).attach(op, network, nic, endpoint)
