"""Change an instance's configuration, atomically; live keys take effect on a running instance."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from isola.errors import NotFound, WrongState
from isola.instances.changing import announce, limit, record
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.describe import describe_change
from isola.instances.disks import has_disks, resize
from isola.instances.endpoint import target_of
from isola.instances.expand import merge, require, require_distinct, root_pool, validate, with_size
from isola.instances.fault_repair import marks, repair_fault
from isola.instances.identity import plugs_of, refreshed
from isola.instances.namespaces import check_ids, check_namespaces
from isola.instances.phases import require_kept
from isola.instances.placement import cpus_text, limits
from isola.instances.program import check_notes
from isola.instances.root_sizes import configured_size, size_to_be
from isola.instances.roots import devices_in
from isola.instances.settings import SETTINGS
from isola.instances.volatile import CPUS, DEVICES, LIMITS, own_keys
from isola.instances.walls import check_key
from isola.model.instance import Desired, Instance, InstanceUpdate
from isola.model.reference import Ref
from isola.model.warning import WarningType
from isola.operations import Operation
from isola.state import Versioned

Decide = Callable[[Instance], InstanceUpdate]
"""The new values for the record that is current when the update has the lock."""


def check(context: Context, ref: Ref, update: InstanceUpdate) -> Instance:
    """The new record. Raises NotFound (with a field, for a resource in the change), InvalidInput, WrongState."""
    instance = context.records.get(ref)
    require_kept(instance)
    config = {key: value for key, value in own_keys(update.config).items() if value}
    validate(config, update.devices)
    require_distinct(update.profiles)
    check_notes(update.notes or {})
    wanted = dataclasses.replace(
        instance,
        config=config,
        devices={name: dict(device) for name, device in update.devices.items()},
        profiles=update.profiles,
        description=update.description,
        ephemeral=update.ephemeral,
        notes=instance.notes if update.notes is None else dict(update.notes),
    )
    uuid = instance.volatile.get("uuid", "")
    if update.config.get("volatile.uuid", uuid) != uuid:
        # LXD's clients end ``copy --refresh`` by writing the configuration of the origin, with the pool of its root.
        wanted = dataclasses.replace(wanted, devices=devices_in(context, wanted, context.pool_name(instance)))
    allow(context, instance, wanted)
    return wanted


def allow(context: Context, instance: Instance, wanted: Instance) -> None:
    """Check that the change is permitted. Raises NotFound (with a field), InvalidInput, WrongState, Forbidden."""
    for profile in wanted.profiles:
        if context.profiles.find(context.profile_ref(wanted, profile)) is None:
            raise NotFound(f"Profile {profile!r} not found", field="profiles", remedy="create the profile first")
    _check_devices(context, instance, wanted)
    context.permit([wanted])


async def update(context: Context, op: Operation, ref: Ref, decide: Decide) -> None:
    """Apply live changes to the running instance, then record them. ``decide`` is called under the lock."""
    await repair_fault(context, op, ref)
    held = context.records.read(ref)
    before = configured_size(context, held.value)
    wanted = await bring_to(context, op, held, check(context, ref, decide(held.value)), before=before)
    await describe_change(context, op, held.value, wanted.value)
    await op.commit(lambda: record(context, [(held.value, wanted)], allow=lambda: context.permit([wanted.value])))
    if context.volume(wanted.value).size == configured_size(context, wanted.value):
        context.warnings.resolve(WarningType.ROOT_UNLIMITED, wanted.value.entity)
    context.tell("updated", ref, caller=op.caller)


async def follow(
    context: Context,
    op: Operation,
    profile: Ref,
    *,
    users: Sequence[Ref],
    write: Callable[[], Awaitable[object]],
    take_back: Callable[[], Awaitable[object]],
) -> None:
    """Record a profile's change, and apply it to the instances that use it."""
    for ref in users:
        await repair_fault(context, op, ref)
    sizes = {ref: configured_size(context, context.records.get(ref)) for ref in users}
    await op.effect(f"record profile {profile.name}", write, undo=take_back)
    changes: list[tuple[Instance, Versioned[Instance]]] = []
    for ref in users:
        held = context.records.read(ref)
        instance = held.value
        if not instance.deleting:
            _check_devices(context, instance, instance)
            wanted = await bring_to(context, op, held, instance, before=sizes[ref])
            await describe_change(context, op, instance, wanted.value)
            changes.append((instance, wanted))

    # Compared with the current record: even if nothing else differs, the mark of the change has to be removed.
    await op.commit(
        lambda: record(context, [(old, new) for old, new in changes if context.records.get(new.value.ref) != new.value])
    )


async def bring_to(
    context: Context, op: Operation, held: Versioned[Instance], wanted: Instance, *, before: int | None
) -> Versioned[Instance]:
    """Bring what runs from one to the other; returns what is then to be recorded, and over which revision.

    ``before``: the size of the root in the configuration before the change.
    """
    instance = held.value
    config, devices = expanded(context, wanted)
    live = context.live.get(instance.id)
    wanted = await refreshed(context, op, wanted, devices)
    if has_disks(context, instance.runtime):
        await resize(context, op, instance, before, devices)
    size = await size_to_be(context, instance, wanted, before)
    wanted = dataclasses.replace(wanted, volatile=with_size(wanted.volatile, size))
    changing = context.devices.changing(instance, wanted)
    withdrawn = [plug for plug in plugs_of(context, instance) if plug.name in changing]
    marks(context, op, instance.id, (*plugs_of(context, wanted), *withdrawn))
    new = limits(context, config, instance) if live is not None else None
    if new is not None:
        wanted = dataclasses.replace(wanted, volatile=dict(wanted.volatile) | {CPUS: cpus_text(new)})
    if context.volume(instance).size != size:
        await context.storage(instance).resize_volume(op, context.volume(instance), size)
    if live is not None and changing:
        held = await announce(context, op, held, DEVICES, changing)
    elif live is not None and new != live.limits:
        held = await announce(context, op, held, LIMITS, {})
    if changing:
        states = (instance, wanted)
        if live is None:  # during a restore it is to run, but has nothing yet that an instance has while it runs
            states = (_at_rest(instance), _at_rest(wanted))
        await context.devices.change(op, *states, target_of(context, instance, live))
    if live is not None and new is not None and new != live.limits:
        await limit(context, op, wanted, live, new)
    return Versioned(wanted, held.revision)


def _at_rest(instance: Instance) -> Instance:
    return dataclasses.replace(instance, desired=Desired.STOPPED)


def _check_devices(context: Context, instance: Instance, wanted: Instance) -> None:
    profiles = [
        profile
        for name in wanted.profiles
        if (profile := context.profiles.find(context.profile_ref(wanted, name))) is not None
    ]
    config, devices = merge(profiles, wanted.config, wanted.devices)
    SETTINGS.validate(config)
    check_namespaces(config, wanted.devices)
    check_ids(context, instance, config)
    check_key(instance, wanted.config)
    require(
        devices,
        network=lambda name: context.network(wanted.project, name),
        pool=context.pools.get,
    )
    if root_pool(devices) != context.pool_name(instance):
        raise WrongState(
            f"The root of {instance.name!r} lies in pool {context.pool_name(instance)!r}",
            remedy="a root cannot change its pool by a change of configuration",
        )
