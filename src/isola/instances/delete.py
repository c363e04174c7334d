"""Delete an instance."""

from __future__ import annotations

import dataclasses

from isola.errors import Forbidden, WrongState
from isola.instances.context import Context
from isola.instances.identity import nics_of
from isola.instances.start import expanded
from isola.instances.stop import stop
from isola.model.instance import Instance
from isola.operations import Operation
from isola.settings import boolean


def check(context: Context, name: str, *, force: bool) -> None:
    """Raises NotFound, WrongState while it runs unless ``force``, Forbidden when it is protected."""
    instance = context.records.get(name)
    config, _ = expanded(context, instance)
    if boolean(config.get("security.protection.delete") or "false"):
        raise Forbidden(
            f"Instance {name!r} is protected from deletion",
            remedy=f"isola config set {name} security.protection.delete false",
        )
    if instance.id in context.live and not force:
        raise WrongState(f"Instance {name!r} is running", remedy="stop it first, or delete it with --force")


async def delete(context: Context, op: Operation, name: str, *, force: bool) -> None:
    """Stop it if ``force`` allows, then remove all of it."""
    check(context, name, force=force)
    if context.records.get(name).id in context.live:
        await stop(context, op, name, timeout=None, force=True)
        if context.records.find(name) is None:  # an ephemeral instance went with its end
            return
        op.reopen()
    await remove(context, op, context.records.get(name))


async def remove(context: Context, op: Operation, instance: Instance) -> None:
    """Remove a stopped instance. The first write is the point of no return; the rest can be repeated at any time."""
    doomed = dataclasses.replace(instance, deleting=True)
    await op.commit(lambda: context.records.replace(instance.name, doomed))
    await sweep(context, op, doomed)
    context.broken.pop(instance.id, None)
    context.events.lifecycle("instance-deleted", f"/1.0/instances/{instance.name}")


async def sweep(context: Context, op: Operation, instance: Instance) -> None:
    """Remove everything the host has of an instance, and last its record."""
    if instance.runtime in dict(context.runtimes.all()):
        await op.effect(f"remove processes of {instance.name}", lambda: context.runtime(instance).remove(instance.id))
    for nic in nics_of(context, instance):
        network = context.networks.find(nic.network)
        if network is not None:
            await context.networks.driver(nic.network).detach(op, network, nic)
            await context.networks.driver(nic.network).unregister(op, network, nic)
    await context.storage(instance).delete_volume(op, context.volume(instance))
    await op.effect(f"remove logs of {instance.name}", lambda: context.host.files.remove_tree(context.logs(instance)))
    await op.effect(f"forget {instance.name}", lambda: context.records.remove(instance.name))
