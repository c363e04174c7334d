"""Start an instance: create its network, mount its root, create its first process, execute its program."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable
from typing import TypeVar

from isola.devices import Stage, Target
from isola.errors import HostFailure, IsolaError, WrongState
from isola.host.cancellation import both
from isola.instances import attaching
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.describe import keep_described
from isola.instances.disks import has_disks, root_disk
from isola.instances.endpoint import make_endpoint
from isola.instances.evidence import console_tail, note_failure
from isola.instances.fault_repair import marks, repair_fault
from isola.instances.files import end_sessions
from isola.instances.following import follow
from isola.instances.identity import refreshed
from isola.instances.interpreters import lacking
from isola.instances.last_run import counted, note_failed_start
from isola.instances.phases import require_kept
from isola.instances.placement import cpus_text
from isola.instances.reboots import REBOOT
from isola.instances.run_spec import spec_of
from isola.instances.saved import Saved, forget_state, use
from isola.instances.settings import HOSTNAME
from isola.instances.supervise import adopt
from isola.instances.templates import applied, apply
from isola.instances.volatile import CPUS, LAST_BOOT, RESTARTING, START_TIME
from isola.model.instance import Config, Desired, Instance
from isola.model.instance import Devices as Configured
from isola.model.limits import Limits
from isola.model.network import HostTap
from isola.model.reference import Ref
from isola.model.warning import WarningType
from isola.operations import Operation
from isola.runtimes import Capability, Guest, RootKind, RunSpec
from isola.state import Versioned

T = TypeVar("T")


async def start(context: Context, op: Operation, ref: Ref, *, restarts: int = 0, stateful: bool | None = None) -> None:
    """Raises WrongState if it is running already; after a failure it is stopped as before.

    ``stateful``: continue from its saved state; None: if it has one. False: the state is discarded.

    ``restarts``: how many times in a row its restart policy has started it again, with this one.
    """
    require_stopped(context, context.records.get(ref))
    await repair_fault(context, op, ref)
    held = context.records.read(ref)
    require_stopped(context, held.value)
    marks(context, op, held.value.id)
    config, devices = expanded(context, held.value)
    instance = await refreshed(context, op, held.value, devices, starting=True)
    await end_sessions(context, instance)
    spec, target = await both(
        _mounted(context, op, instance, config, devices),
        _noted(context, instance, _connected(context, op, instance, config)),
    )
    saved = await use(context, op, instance, wanted=stateful)
    with op.step("Start program"):
        guest, took = await _noted(context, instance, _run(context, op, instance, spec, target, saved=saved))
    instance = dataclasses.replace(instance, volatile={**instance.volatile, START_TIME: str(round(took * 1000))})
    found = Versioned(instance, held.revision)
    await op.commit(
        lambda: _record_started(context, found, spec.limits, guest, config.get(HOSTNAME, ""), restarts=restarts)
    )
    await forget_state(context, instance)
    context.tell("started", instance.ref, caller=op.caller)


def require_stopped(context: Context, instance: Instance) -> None:
    """Raises WrongState."""
    if instance.id in context.live:
        raise WrongState(f"Instance {instance.name!r} is already running")
    require_kept(instance)


async def _mounted(context: Context, op: Operation, instance: Instance, config: Config, devices: Configured) -> RunSpec:
    """Its root is mounted; all of the spec but the network."""
    with op.step("Mount root"):
        root = await context.storage(instance).mount(op, context.volume(instance), instance.id)
        if not has_disks(context, instance.runtime):
            await apply(context, instance, root, config, devices)
    spec = await spec_of(context, instance, config, devices, root)
    if not context.runtime(instance).capabilities.has(Capability.DISKS):
        return spec
    with op.step("Prepare disks"):
        own = (await root_disk(context, instance, devices, root),) if spec.root.kind is RootKind.DISKS else ()
        return dataclasses.replace(spec, disks=(*own, *await context.devices.disks(op, instance)))


async def _connected(context: Context, op: Operation, instance: Instance, config: Config) -> Target:
    """Its NICs are attached to the network in which it will run."""
    endpoint = await make_endpoint(context, op, instance, config)
    target = Target(endpoint, capabilities=context.working_runtime(instance).capabilities)
    await context.devices.attach(op, instance, target, Stage.NETWORK)
    return target


async def _noted(context: Context, instance: Instance, work: Awaitable[T]) -> T:
    """A failure is recorded as that of the start."""
    try:
        return await work
    except IsolaError as error:
        await note_failure(context, instance, error)
        await note_failed_start(context, instance, error)
        raise


async def _run(
    context: Context, op: Operation, instance: Instance, spec: RunSpec, target: Target, *, saved: Saved | None
) -> tuple[Guest, float]:
    """The guest, and how many seconds it took until its program was executed."""
    devices, endpoint = context.devices, target.endpoint
    taps = devices.taps(instance) if isinstance(endpoint, HostTap) else ()

    async def held(guest: Guest) -> None:
        await devices.attach(op, instance, dataclasses.replace(target, running=guest), Stage.PROCESS)
        await follow(context, instance.id, guest)
        await attaching.begin(context, instance.id, guest)
        if saved is not None and not saved.wanted:
            await saved.state.spend()

    began = context.host.clock.monotonic()
    restore = saved.state if saved is not None and saved.wanted else None
    whole = dataclasses.replace(spec, network=endpoint, nics=taps)
    try:
        guest = await context.working_runtime(instance).run(op, whole, held, restore=restore)
    except HostFailure as error:
        await _explain(context, spec, error)
        raise
    took = context.host.clock.monotonic() - began
    if await _lives(context, instance, spec, guest):
        await devices.attach(op, instance, dataclasses.replace(target, running=guest), Stage.PROGRAM)
    return guest, took


async def _lives(context: Context, instance: Instance, spec: RunSpec, guest: Guest) -> bool:
    """False if it has already ended or requests a reboot. Raises HostFailure if a system has ended with an error."""
    status = await guest.settled()
    if status not in (None, 0, REBOOT) and instance.start.system:
        error = HostFailure(
            f"The first process of {instance.name!r} ended at once, with status {status}",
            evidence=await console_tail(context, instance),
        )
        await _explain(context, spec, error)
        raise error
    return status is None


async def _explain(context: Context, spec: RunSpec, error: HostFailure) -> None:
    """Add what a system lacks to execute its init."""
    if spec.system and (missing := await lacking(context.host, spec)):
        error.evidence = f"{missing}\n{error.evidence}".rstrip()
        error.remedy = "repair the root or its image: it is incomplete, or made for another architecture"


async def _record_started(
    context: Context, found: Versioned[Instance], limits: Limits, guest: Guest, hostname: str, *, restarts: int
) -> None:
    instance = found.value
    now = context.host.clock.now()
    known = {key: value for key, value in applied(instance.volatile, hostname).items() if key != RESTARTING}
    volatile = known | {LAST_BOOT: context.host.system.boot_id(), CPUS: cpus_text(limits)}
    started = dataclasses.replace(
        instance, desired=Desired.RUNNING, last_used_at=now, volatile=volatile, last_run=counted(instance, restarts)
    )
    await context.records.replace(instance.ref, started, at=found.revision)
    context.heal(instance.id)
    for over in (WarningType.AUTOSTART_FAILURE, WarningType.DEVICE_MISSING):
        context.warnings.resolve(over, instance.entity)
    await keep_described(context, started)
    adopt(context, started, guest, limits)
