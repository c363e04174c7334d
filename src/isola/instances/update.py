"""Change an instance's configuration: live where the key is live, all of it or nothing."""

from __future__ import annotations

import dataclasses

from isola.errors import NotFound, WrongState
from isola.instances.context import Context, Live
from isola.instances.expand import merge, require, root_pool, validate
from isola.instances.identity import nics_of
from isola.instances.settings import SETTINGS
from isola.instances.start import expanded, limits, refreshed
from isola.model.instance import Config, Instance, InstanceUpdate
from isola.operations import Operation

_KEPT = ("volatile.", "image.")


def check(context: Context, name: str, update: InstanceUpdate) -> Instance:
    """The record as it shall be. Raises NotFound, InvalidInput, WrongState."""
    instance = context.records.get(name)
    config = {key: value for key, value in update.config.items() if value and not key.startswith(_KEPT)}
    validate(config, update.devices)
    wanted = dataclasses.replace(
        instance,
        config=config,
        devices={name: dict(device) for name, device in update.devices.items()},
        profiles=update.profiles,
        description=update.description,
        ephemeral=update.ephemeral,
    )
    for profile in update.profiles:
        if context.profiles.find(profile) is None:
            raise NotFound(f"Profile {profile!r} not found", field="profiles")
    _check_devices(context, instance, wanted)
    return wanted


async def update(context: Context, op: Operation, name: str, change: InstanceUpdate) -> None:
    """Apply to the running instance what can be applied, then record it."""
    wanted = check(context, name, change)
    await apply(context, op, context.records.get(name), wanted)
    context.events.lifecycle("instance-updated", f"/1.0/instances/{name}")


async def apply(context: Context, op: Operation, instance: Instance, wanted: Instance) -> None:
    """Bring a running instance and its record from one to the other."""
    config, devices = expanded(context, wanted)
    live = context.live.get(instance.id)
    wanted = refreshed(context, wanted, devices)
    await _rewire(context, op, instance, wanted, live)
    if live is not None:
        await _limit(context, op, wanted, live, config)
    await op.commit(lambda: context.records.replace(wanted.name, wanted))
    held = {(nic.network, nic.mac) for nic in nics_of(context, wanted)}
    for nic in nics_of(context, instance):
        if (nic.network, nic.mac) not in held:
            context.networks.release(nic.network, nic.mac)


async def reapply(context: Context, op: Operation, name: str) -> None:
    """A profile has changed: bring the running instance to what its expanded configuration says now."""
    instance = context.records.get(name)
    await apply(context, op, instance, instance)


def _check_devices(context: Context, instance: Instance, wanted: Instance) -> None:
    profiles = [profile for name in wanted.profiles if (profile := context.profiles.find(name)) is not None]
    config, devices = merge(profiles, wanted.config, wanted.devices)
    SETTINGS.validate(config)
    require(devices, network=context.networks.get, pool=context.pools.get)
    if root_pool(devices) != context.pool_name(instance):
        raise WrongState(
            f"The root of {instance.name!r} lies in pool {context.pool_name(instance)!r}",
            remedy="a root cannot change its pool by a change of configuration",
        )


async def _rewire(context: Context, op: Operation, old: Instance, new: Instance, live: Live | None) -> None:
    """Take away NICs that changed or went, add those that changed or came."""
    before, after = nics_of(context, old), nics_of(context, new)
    for nic in before:
        network = context.networks.find(nic.network)
        if nic not in after and network is not None:
            driver = context.networks.driver(nic.network)
            await driver.withdraw(op, network, nic, live.running.init.pid if live else None)
    for nic in after:
        if nic not in before:
            network = context.networks.get(nic.network)
            driver = context.networks.driver(nic.network)
            await driver.register(op, network, nic)
            if live is not None:
                await driver.attach(op, network, nic, live.running.init.pid)


async def _limit(context: Context, op: Operation, instance: Instance, live: Live, config: Config) -> None:
    runtime = context.runtime(instance)
    old_config, _ = expanded(context, context.records.get(instance.name))
    new = limits(context, config, besides=instance.id)
    old = limits(context, old_config, besides=instance.id)
    await op.effect(
        f"set limits of {instance.name}",
        lambda: runtime.limit(instance.id, new),
        undo=lambda: runtime.limit(instance.id, old),
    )
    live.cpus = new.cpus
