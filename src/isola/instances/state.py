"""What is observed of an instance now."""

from __future__ import annotations

import dataclasses

from isola.instances.context import Context
from isola.instances.identity import nics_of
from isola.instances.limits import memory_limit
from isola.instances.start import expanded
from isola.model.instance import Instance, InstanceState, InterfaceState


async def observe(context: Context, instance: Instance, *, disk: bool = True) -> InstanceState:
    """Usage, interfaces and, where asked for (it walks the volume), the space its root takes."""
    space = {"root": await context.storage(instance).usage(context.volume(instance))} if disk else {}
    live = context.live.get(instance.id)
    if live is None:
        return InstanceState(status=context.status(instance), disk=space)
    config, _ = expanded(context, instance)
    total = context.host.system.memory()["MemTotal"]
    return InstanceState(
        status=context.status(instance),
        pid=live.running.init.pid,
        usage=context.runtime(instance).usage(instance.id),
        memory_total=memory_limit(config, total) or total,
        disk=space,
        network=_interfaces(context, instance, live.running.init.pid),
        started_at=live.started_at,
    )


def _interfaces(context: Context, instance: Instance, pid: int) -> tuple[InterfaceState, ...]:
    nics = {nic.interface: nic for nic in nics_of(context, instance)}
    return tuple(
        dataclasses.replace(seen, hwaddr=nic.mac, host_name=nic.host_link, mtu=nic.mtu)
        if (nic := nics.get(seen.name)) is not None
        else seen
        for seen in context.host.namespaces.interfaces(pid)
    )
