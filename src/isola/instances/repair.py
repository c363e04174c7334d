"""After a daemon died while it changed an instance or its profile: make the host what is configured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import ip_address

from isola.instances.changing import limit, record
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.endpoint import endpoint_of, plug, unplug
from isola.instances.expand import network_of, nic_devices
from isola.instances.identity import nics_of, refreshed
from isola.instances.placement import cpus_text, limits
from isola.instances.volatile import CHANGING, CPUS, LIMITS
from isola.model.instance import Instance
from isola.model.network import Nic
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Versioned


def half_changed(context: Context, instance: Instance) -> bool:
    """Whether what its record says of its NICs may differ from the host, or differs from its configuration."""
    return CHANGING in instance.volatile or _differs(context, instance)


async def repair(context: Context, op: Operation, ref: Ref) -> None:
    """Set the limits again, and connect the NICs anew where they may be half changed: connections there break.

    Can be repeated, and is, until it has come to its end.
    """
    held = context.records.read(ref)
    instance = held.value
    live = context.live.get(instance.id)
    config, devices = expanded(context, instance)
    wanted = await refreshed(context, op, instance, devices)
    await op.commit()
    if instance.volatile.get(CHANGING) != LIMITS or _differs(context, instance):
        await _rewire(context, op, instance, wanted)
    volatile = {key: value for key, value in wanted.volatile.items() if key != CHANGING}
    if live is not None:
        await limit(context, op, wanted, live, limits(context, config, of=instance))
        volatile[CPUS] = cpus_text(live.limits)
    repaired = dataclasses.replace(wanted, volatile=volatile)
    await record(context, [(instance, Versioned(repaired, held.revision))])


async def _rewire(context: Context, op: Operation, instance: Instance, wanted: Instance) -> None:
    live = context.live.get(instance.id)
    coming = instance.volatile.get(CHANGING, "").split()[1:]
    await context.host.links.delete(*(context.names.veth(instance.id, device) for device in coming))
    before, after = (*nics_of(context, instance), *context.strays.get(instance.id, ())), nics_of(context, wanted)
    for nic in {nic.host_link: nic for nic in (*before, *after)}.values():
        if live is not None:
            await unplug(op, nic, live.guest)
        if (network := context.networks.find(nic.network)) is not None:
            await context.networks.driver(nic.network).detach(op, network, nic)
            await context.networks.driver(nic.network).unregister(op, network, nic)
    for nic in after:
        driver, network = context.networks.driver(nic.network), context.networks.get(nic.network)
        await driver.register(op, network, nic)
        if live is not None:
            await plug(context, op, nic, endpoint_of(context, instance), live.guest)


def _differs(context: Context, instance: Instance) -> bool:
    """Whether what its record says of its NICs is not what is configured."""
    _, devices = expanded(context, instance)
    nics, wanted = {nic.device: nic for nic in nics_of(context, instance)}, nic_devices(devices)
    return set(nics) != set(wanted) or any(
        not _describes(context, instance, device, nics[name]) for name, device in wanted.items()
    )


def _describes(context: Context, instance: Instance, device: Mapping[str, str], nic: Nic) -> bool:
    return (
        context.network_ref(instance.project, network_of(device)) == nic.network
        and device.get("name", nic.device) == nic.interface
        and (device.get("hwaddr") or nic.mac).lower() == nic.mac
        and _same(device.get("ipv4.address"), nic.ipv4)
        and _same(device.get("ipv6.address"), nic.ipv6)
    )


def _same(wanted: str | None, held: str | None) -> bool:
    if not wanted:
        return True
    return held is None if wanted == "none" else held is not None and ip_address(wanted) == ip_address(held)
