"""Instances on the host without a record: left alone, reported, and adopted or removed on request."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.describe import describe, forget_volume
from isola.instances.expand import require
from isola.instances.identity import plugs_of
from isola.instances.placement import cpus_text, limits
from isola.instances.ranges import give_back
from isola.instances.sightings import seen
from isola.instances.supervise import adopt as look_after
from isola.instances.volatile import CPUS, LAST_BOOT
from isola.model.instance import Desired, Instance, Unknown
from isola.model.names import plain_name
from isola.model.reference import Ref
from isola.model.storage import Volume
from isola.operations import Operation
from isola.runtimes import RUNS

log = logging.getLogger(__name__)
_ATTEMPTS = 3


async def look(context: Context) -> None:
    """Find instances without a record or intent, before any ids or addresses are chosen, since these have some, too.

    Also on request, beside running operations: what is new is looked at twice, so that one that is being deleted is
    not taken for unknown.
    """
    for _ in range(_ATTEMPTS):
        forgotten = context.unknown.forgotten
        found = await seen(context)
        if found.keys() - context.unknown.keys():
            again = await seen(context)
            found = {key: each for key, each in found.items() if key in again}
        if forgotten == context.unknown.forgotten:
            break
    for key in found.keys() - context.unknown.keys():
        log.warning("%s has no record and is left alone until it is adopted or removed", _shown(found[key]))
    context.unknown.replace(found)


def find(context: Context, reference: str) -> Unknown:
    """By id, by pool and id, or by its former name. Raises NotFound, InvalidInput if several are meant."""
    found = [
        each
        for each in context.unknown.values()
        if reference in {each.id, each.key} or (each.instance is not None and reference == each.instance.name)
    ]
    if not found:
        raise NotFound(
            f"There is no instance {reference[:80]!r} without a record", remedy="list instances without a record"
        )
    if len(found) > 1:
        several = ", ".join(each.key for each in found)
        raise InvalidInput(f"Several are called {reference[:80]!r}: {several}", field="id", remedy="name the pool, too")
    return found[0]


async def adopt(context: Context, op: Operation, id: str, name: str = "") -> Instance:
    """Restore the record from the description, and supervise a running instance. Raises InvalidInput, AlreadyExists."""
    unknown = find(context, id)
    if unknown.instance is None or not unknown.pool:
        raise InvalidInput(f"{_shown(unknown)} has no description", field="id", remedy="inspect it, then remove it")
    if _is_recorded(context, unknown.id):
        raise AlreadyExists(f"{_shown(unknown)} has the id of an instance that has a record", field="id")
    instance = _taken_in(context, unknown, unknown.instance, name or unknown.instance.name)
    guest = await context.runtime(instance).find(instance.id)
    bound = limits(context, expanded(context, instance)[0], instance)
    if guest is not None:
        volatile = dict(instance.volatile) | {CPUS: cpus_text(bound)}
        now = context.host.clock.now()
        instance = dataclasses.replace(instance, desired=Desired.RUNNING, last_used_at=now, volatile=volatile)
    await describe(context, instance)
    await op.commit(
        lambda: context.records.add(instance.ref, instance, allow=lambda: context.projects.get(instance.project))
    )
    context.unknown.forget(unknown.key)
    if guest is not None:
        look_after(context, instance, guest, bound, frozen=guest.frozen())
        await guest.limit(bound)
    await context.devices.register(op, instance)
    context.tell("created", instance.ref, caller=op.caller, type=instance.type)
    return instance


def _taken_in(context: Context, unknown: Unknown, described: Instance, name: str) -> Instance:
    if Ref(described.project, name) in context.records:
        raise AlreadyExists(f"Instance {name!r} already exists", field="name", remedy="adopt it under another name")
    if unknown.running and name != described.name:
        raise WrongState(f"{described.name!r} is running under this name", remedy="adopt it under its own name")
    context.projects.get(described.project)
    plain_name(name)
    if (
        missing := [
            profile
            for profile in described.profiles
            if context.profiles.find(context.profile_ref(described, profile)) is None
        ]
    ) != []:
        raise InvalidInput(f"Profile {missing[0]!r} is missing", field="profiles", remedy="create the profile first")
    context.runtimes.get(described.runtime)
    volatile = dict(described.volatile) | {LAST_BOOT: context.host.system.boot_id(), "root.pool": unknown.pool}
    instance = dataclasses.replace(described, name=name, desired=Desired.STOPPED, volatile=volatile)
    network = partial(context.network, described.project)
    require(expanded(context, instance)[1], network=network, pool=context.pools.get)
    return instance


async def remove(context: Context, op: Operation, id: str) -> None:
    """Remove it completely. Can be repeated. Raises NotFound.

    Of an id that is in another pool too, or has a record, only the volume: all else may belong to that one.
    """
    unknown = find(context, id)
    await op.commit()
    if not _shares_id(context, unknown):
        await _remove_run(context, op, unknown)
    if unknown.pool:
        await forget_volume(context, op, Volume(id=unknown.id, pool=unknown.pool))
    if not _shares_id(context, unknown):
        await _remove_logs(context, op, unknown)
    context.unknown.forget(unknown.key)


async def _remove_run(context: Context, op: Operation, unknown: Unknown) -> None:
    for name, runtime in context.runtimes.loaded():
        if name == unknown.runtime:
            await op.effect(f"remove processes of {unknown.id}", lambda runtime=runtime: runtime.remove(unknown.id))  # type: ignore[misc]
    namespaces = context.networks.namespaces
    await op.effect(f"remove network namespace of {unknown.id}", lambda: namespaces.remove(unknown.id))
    plugs = plugs_of(context, unknown.instance) if unknown.instance is not None else ()
    await context.devices.detach(op, plugs)
    await context.devices.unregister(op, plugs)
    context.devices.forget(plugs)
    await context.devices.forget_run(unknown.id)


async def _remove_logs(context: Context, op: Operation, unknown: Unknown) -> None:
    logs: Path = context.directory / "logs" / unknown.id
    await op.effect(f"remove logs of {unknown.id}", lambda: context.host.files.remove_tree(logs))
    await context.host.files.flush(logs.parent, context.directory / RUNS)
    await give_back(context, unknown.id)


def _is_recorded(context: Context, id: str) -> bool:
    return any(instance.id == id for instance in context.records)


def _shares_id(context: Context, unknown: Unknown) -> bool:
    others = (each for key, each in context.unknown.items() if key != unknown.key)
    return _is_recorded(context, unknown.id) or any(each.id == unknown.id for each in others)


def _shown(unknown: Unknown) -> str:
    name = f"Instance {unknown.instance.name!r}" if unknown.instance is not None else "An instance"
    where = f" in pool {unknown.pool}" if unknown.pool else ""
    return f"{name} ({unknown.id}{where}{', running' if unknown.running else ''})"
