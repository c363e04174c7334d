"""At the start of the daemon: compare records with the host, and complete or undo interrupted changes."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum

from isola.errors import IsolaError
from isola.instances import health
from isola.instances.clean_up import clean_up
from isola.instances.configuration import expanded
from isola.instances.context import Context, Live, entity_of, lock_of
from isola.instances.deploy import undo
from isola.instances.describe import keep_described
from isola.instances.endpoint import keep_endpoint, target_of
from isola.instances.half_made import undo_begun
from isola.instances.moving import finish_moves
from isola.instances.namespaces import depth
from isola.instances.placement import limits
from isola.instances.reboots import REBOOT
from isola.instances.remove import doom, sweep
from isola.instances.repair import half_changed, repair
from isola.instances.restart_policy import Policy, When, policy_of, restarts_of
from isola.instances.restarts import schedule
from isola.instances.restoring import finish_restoring
from isola.instances.saved import find_saved
from isola.instances.start import start
from isola.instances.supervise import adopt
from isola.instances.volatile import LAST_BOOT, RESTARTING, RETIRING, ROLE
from isola.model.instance import Desired, Instance
from isola.model.warning import WarningType
from isola.operations import Operation
from isola.runtimes import Guest
from isola.settings import boolean

log = logging.getLogger(__name__)


class Verdict(Enum):
    """The action for one instance."""

    ADOPT = "adopt"
    """It runs as its record says."""
    CLEAN = "clean"
    """It does not run, or only partly: remove the remains of the run."""
    START = "start"
    """The host was rebooted: clean up, then start it."""
    RESTART = "restart"
    """It has rebooted, and the daemon ended before starting it: clean up, then start it."""
    DELETE = "delete"
    """Its deletion had begun."""


def judge(
    instance: Instance,
    *,
    runs: bool,
    boot: str,
    autostart: bool | None,
    status: int | None = None,
    policy: Policy | None = None,
) -> Verdict:
    """The action, from the record and the state of the host. Pure.

    ``status``: the exit status of a run that has ended.
    After a boot of the host ``autostart`` decides, then ``policy``; without both, instances which ran are started
    again.
    """
    if instance.deleting:
        return Verdict.DELETE
    other_serves = instance.volatile.get(ROLE) == RETIRING or (instance.aside and not runs)
    if other_serves or (runs and instance.desired is not Desired.RUNNING):
        return Verdict.CLEAN
    if runs and LAST_BOOT in instance.volatile and RESTARTING not in instance.volatile:
        return Verdict.ADOPT  # otherwise the daemon ended while it was starting it again
    rebooted = instance.volatile.get(LAST_BOOT) != boot
    ended = not runs and status is not None and instance.desired is Desired.RUNNING
    if (RESTARTING in instance.volatile or (ended and wants_more(instance, status or 0, policy))) and not rebooted:
        return Verdict.RESTART
    if instance.desired is Desired.STOPPED and _always(instance, policy) and autostart is None:
        return Verdict.START
    wanted = policy.after_boot(instance.desired) if policy is not None else instance.desired is Desired.RUNNING
    return Verdict.START if rebooted and (wanted if autostart is None else autostart) else Verdict.CLEAN


def wants_more(instance: Instance, status: int, policy: Policy | None) -> bool:
    """Whether a run that ended with this status while no daemon ran is followed by another. Pure."""
    if status == REBOOT and instance.start.system:
        return True
    return policy is not None and not instance.ephemeral and policy.wants(status, restarts_of(instance))


def _always(instance: Instance, policy: Policy | None) -> bool:
    """Whether it is started by each daemon, if it has ever run."""
    return policy is not None and policy.when is When.ALWAYS and instance.last_used_at is not None


async def reconcile(context: Context) -> None:
    """Reconcile all instances; objects without a record are left alone. Failures do not affect other instances."""
    await find_saved(context)
    await undo_begun(context)
    await undo.undo_begun(context)
    await finish_moves(context)
    await context.layers.drop_unused({digest for each in context.intents.of_kind("blobs") for digest in each.digests})
    verdicts = await asyncio.gather(*(_settle(context, instance) for instance in list(context.records)))
    await _start_again(context, [instance for instance in verdicts if instance is not None])
    await keep_described(context, *context.records)


async def _settle(context: Context, instance: Instance) -> Instance | None:
    """Carry out the verdict; returns the instance if it has to be started afterwards."""
    try:
        runtime = context.runtime(instance)
        guest = await runtime.find(instance.id)
        ending = await runtime.ending(instance.id) if guest is None else None
        config, _ = expanded(context, instance)
        policy = policy_of(config)
        verdict = judge(
            instance,
            runs=guest is not None,
            boot=context.host.system.boot_id(),
            autostart=boolean(config["boot.autostart"]) if config.get("boot.autostart") else None,
            status=ending.status if ending is not None else None,
            policy=policy,
        )
        last = ending.status if ending is not None else instance.last_run.exit_status if instance.last_run else 0
        by_policy = policy is not None and not (last == REBOOT and instance.start.system)
        await _carry_out(context, instance, guest, verdict, policy=by_policy)
        context.warnings.resolve(WarningType.INSTANCE_BROKEN, instance.entity)
    except IsolaError as error:
        log.error("Instance %s: %s", instance.name, error)
        context.fail(instance.id, str(error))
        return None
    return instance if verdict is Verdict.START else None


async def _carry_out(
    context: Context, instance: Instance, guest: Guest | None, verdict: Verdict, *, policy: bool
) -> None:
    if verdict is Verdict.ADOPT and guest is not None:
        await _adopt(context, instance, guest)
        return

    async def work(op: Operation) -> None:
        if verdict is Verdict.DELETE:
            await sweep(context, op, instance)
            return
        reboots = int(instance.volatile.get(RESTARTING, "1")) if verdict is Verdict.RESTART else 0
        await clean_up(context, op, instance, again=verdict is Verdict.START, reboots=reboots, policy=policy)
        await finish_restoring(context, instance.ref)
        if instance.ephemeral and verdict is Verdict.CLEAN and instance.desired is Desired.RUNNING:
            await sweep(context, op, (await context.records.change(instance.ref, doom)).value)

    operation = context.operations.start(
        "Reconciling instance",
        work,
        locks=[lock_of(instance.ref)],
        resources=[entity_of(instance.ref)],
    )
    await context.operations.finish(operation)
    if verdict is Verdict.RESTART:
        schedule(context, instance.id)
    if (left := context.records.find(instance.ref)) is not None:
        await _repair(context, left)


async def _adopt(context: Context, instance: Instance, guest: Guest) -> None:
    config, _ = expanded(context, instance)
    live = adopt(context, instance, guest, limits(context, config, instance), frozen=guest.frozen())
    await health.recall(context, instance, live)
    try:
        await guest.limit(live.limits)
    except IsolaError as error:
        log.error("The limits of instance %s are not as configured: %s", instance.name, error)
    await keep_endpoint(context, instance, guest)
    await _repair(context, instance)
    await _resume_devices(context, instance.id, live)


async def _resume_devices(context: Context, id: str, live: Live) -> None:
    """Supervise devices that an earlier daemon has attached."""
    instance = context.by_id(id)
    if instance is None or (target := target_of(context, instance, live)) is None:
        return
    for plug in context.devices.plugs(instance):
        try:
            await context.devices.driver(plug.state.kind).resume(plug, target)
        except IsolaError as error:
            log.error("Device %s of instance %s does not work: %s", plug.name, instance.name, error)


async def _repair(context: Context, instance: Instance) -> None:
    if not half_changed(context, instance):
        return
    operation = context.operations.start(
        "Repairing instance",
        lambda op: repair(context, op, instance.ref),
        locks=[lock_of(instance.ref)],
        resources=[entity_of(instance.ref)],
    )
    try:
        await context.operations.finish(operation)
    except IsolaError as error:
        log.error("The devices of instance %s are not as configured: %s", instance.name, error)


async def _start_again(context: Context, instances: list[Instance]) -> None:
    def order(instance: Instance) -> tuple[int, int]:
        """After the instance whose network it joins; then by priority."""
        config, _ = expanded(context, instance)
        return depth(context, instance), -int(config.get("boot.autostart.priority") or 0)

    for instance in sorted(instances, key=order):
        operation = context.operations.start(
            "Starting instance after boot",
            lambda op, ref=instance.ref: start(context, op, ref),  # type: ignore[misc]
            locks=[lock_of(instance.ref)],
            resources=[entity_of(instance.ref)],
        )
        try:
            await context.operations.finish(operation)
        except IsolaError as error:
            log.error("Instance %s could not be started again: %s", instance.name, error)
            context.warnings.report(WarningType.AUTOSTART_FAILURE, instance.entity, str(error))
