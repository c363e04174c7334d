"""The observed state of an instance."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import cast

from isola.devices import Plug
from isola.devices.nics import HWADDR, MTU, NAME, host_link
from isola.host.threads import in_thread
from isola.instances.configuration import expanded
from isola.instances.context import Context, Live
from isola.instances.machine_settings import AGENT_METRICS
from isola.model.instance import Instance, InstanceState, InterfaceState, Status
from isola.runtimes import Guest, Reporting
from isola.settings import boolean


async def observe(context: Context, instance: Instance, *, disk: bool = True) -> InstanceState:
    """Usage, interfaces and, with ``disk``, the disk usage of its root, for which the volume is walked."""
    await _reported(context, [instance])
    space = {"root": await context.storage(instance).usage(context.volume(instance))} if disk else {}
    state = _look(context, instance, context.live.get(instance.id), _whole(context))
    return dataclasses.replace(state, disk=space)


async def observe_all(context: Context, instances: Sequence[Instance]) -> Sequence[InstanceState]:
    """The same for many, without disks: a few hundred microseconds each, away from the event loop."""
    await _reported(context, instances)
    lives = [context.live.get(instance.id) for instance in instances]
    if not any(lives):
        return [_look(context, instance, None, (0, 0)) for instance in instances]
    whole = _whole(context)
    return await in_thread(
        lambda: [_look(context, instance, live, whole) for instance, live in zip(instances, lives, strict=True)]
    )


async def _reported(context: Context, instances: Sequence[Instance]) -> None:
    """Guests with a kernel of their own are asked for their interfaces, all at the same time."""
    guests = [live.guest for each in instances if (live := context.live.get(each.id)) is not None]
    asked = [cast(Reporting, guest) for guest in guests if _reports(type(guest))]
    if asked:
        await asyncio.gather(*(guest.look() for guest in asked))


@cache
def _reports(kind: type[Guest]) -> bool:
    """Kept, since Python takes ten microseconds to compare a class with a protocol."""
    return issubclass(kind, Reporting)


def _asks_agent(context: Context, instance: Instance) -> bool:
    return boolean(expanded(context, instance)[0].get(AGENT_METRICS) or "true")


def _whole(context: Context) -> tuple[int, int]:
    """Memory and CPUs of the host, for what has no limit."""
    return context.host.system.memory_total, len(context.host.system.cpus())


def _look(context: Context, instance: Instance, live: Live | None, whole: tuple[int, int]) -> InstanceState:
    memory, cpus = whole
    if live is None:
        health = context.health.get(instance.id)
        rests = _at_rest(context.status(instance))
        return rests if health is None else dataclasses.replace(rests, health=health)
    return InstanceState(
        status=context.status(instance),
        pid=live.guest.number,
        usage=live.guest.usage(),
        memory_total=live.limits.memory or memory,
        cpu_allocated=live.limits.cpu_ns_a_second(cpus),
        network=_interfaces(context, instance, live.guest),
        started_at=live.started_at,
        health=context.health.get(instance.id),
    )


@cache
def _at_rest(status: Status) -> InstanceState:
    return InstanceState(status)


def _interfaces(context: Context, instance: Instance, guest: Guest) -> tuple[InterfaceState, ...]:
    if not context.runtime(instance).capabilities.shares_kernel and not _asks_agent(context, instance):
        return ()
    nics = {
        state.facts.get(NAME, name): Plug(instance, name, state)
        for name, state in instance.plugged.items()
        if state.kind == "nic"
    }
    return tuple(
        dataclasses.replace(
            seen,
            hwaddr=plug.state.facts[HWADDR],
            host_name=host_link(plug, context.names),
            mtu=int(plug.state.facts.get(MTU) or seen.mtu),
        )
        if (plug := nics.get(seen.name)) is not None
        else seen
        for seen in guest.interfaces()
    )
