"""Start an instance: mount its root, make its first process, give it its network, let it run."""

from __future__ import annotations

import dataclasses

from isola.errors import HostFailure, IsolaError, WrongState
from isola.instances.context import Context, Live
from isola.instances.describe import keep_described
from isola.instances.endpoint import make_endpoint, tap_nic
from isola.instances.evidence import last_words, note_failure
from isola.instances.expand import merge, nic_devices
from isola.instances.files import end_sessions
from isola.instances.identity import nics_of, take_facts, without_facts
from isola.instances.limits import limits_of, load_of, terminals, tmpfs_size
from isola.instances.mend import marks, mend
from isola.instances.restarts import RESTARTING, forget
from isola.instances.supervise import LAST_BOOT, REBOOT, watch
from isola.instances.templates import applied, apply
from isola.model.instance import Config, Devices, Instance
from isola.model.limits import Limits
from isola.model.names import hostname
from isola.model.network import HostTap
from isola.model.reference import Ref
from isola.model.signals import signal_number
from isola.operations import Operation
from isola.runtimes import Guest, Root, RunSpec
from isola.runtimes.lxcfs import answering
from isola.state import Versioned

CPUS = "last_state.cpus"


async def start(context: Context, op: Operation, ref: Ref) -> None:
    """Raises WrongState when it runs already; after a failure it is as stopped as before."""
    require_stopped(context, context.records.get(ref))
    await mend(context, op, ref)
    held = context.records.read(ref)
    require_stopped(context, held.value)
    marks(context, op, held.value.id)
    config, devices = expanded(context, held.value)
    instance = await refreshed(context, op, held.value, devices)
    await end_sessions(context, instance)
    with op.step("Mount root"):
        root = await context.storage(instance).mount(op, context.volume(instance), instance.id)
        await apply(context, instance, root, config, devices)
    runtime = context.working_runtime(instance)
    spec = RunSpec(
        id=instance.id,
        hostname=instance.hostname or hostname(instance.name),
        root=Root(root, runtime.capabilities.root),
        idmap=instance.idmap if runtime.capabilities.shares_kernel else None,
        command=instance.start.command,
        environment=dict(instance.start.environment) | environment(config),
        cwd=instance.start.cwd,
        user=instance.start.user,
        system=instance.start.system,
        stop_signal=signal_number(instance.start.stop_signal),
        limits=limits(context, config),
        tmpfs=tmpfs_size(config, context.host.system.memory()["MemTotal"], system=instance.start.system),
        terminals=terminals(config),
        lxcfs=await answering(context.host, context.lxcfs),
    )
    try:
        with op.step("Start program"):
            guest = await _run(context, op, instance, spec)
    except IsolaError as error:
        await note_failure(context, instance, error)
        raise
    found = Versioned(instance, held.revision)
    await op.commit(lambda: _record_started(context, found, spec.limits, guest))
    context.tell("started", instance.ref, caller=op.caller)


def adopt(context: Context, instance: Instance, guest: Guest, limits: Limits, *, frozen: bool = False) -> Live:
    """From now on this daemon looks after the running instance."""
    started = instance.last_used_at or context.host.clock.now()
    reboots = forget(context, instance.id)
    since = context.host.clock.monotonic()
    live = context.live[instance.id] = Live(guest, started, frozen, limits=limits, since=since, reboots=reboots)
    watch(context, instance.id, live)
    return live


def expanded(context: Context, instance: Instance) -> tuple[Config, Devices]:
    """Configuration and devices with what the profiles add."""
    profiles = [
        profile
        for name in instance.profiles
        if (profile := context.profiles.find(context.profile_ref(instance, name))) is not None
    ]
    return merge(profiles, instance.config, instance.devices)


def limits(context: Context, config: Config, *, of: Instance | None = None) -> Limits:
    """Limits on this host; CPUs are chosen where the fewest others are bound, but kept by the running ``of``."""
    placements = []
    if config.get("limits.cpu", "").isdigit():
        placements = [live.limits.cpus for id, live in context.live.items() if of is None or id != of.id]
    return limits_of(
        config,
        memory_total=context.host.system.memory()["MemTotal"],
        cpus=[int(str(cpu["id"])) for cpu in context.host.system.cpus()],
        load=load_of(placements),
        held=[int(cpu) for cpu in of.volatile.get(CPUS, "").split(",") if cpu] if of is not None else (),
    )


def cpus_text(limits: Limits) -> str:
    """The CPUs as remembered in the record."""
    return ",".join(map(str, limits.cpus or ()))


def environment(config: Config) -> dict[str, str]:
    """The variables of ``environment.*`` keys."""
    prefix = "environment."
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


async def refreshed(context: Context, op: Operation, instance: Instance, devices: Devices) -> Instance:
    """The record with the facts its NICs have now; unchanged NICs keep theirs."""
    nics = nic_devices(devices)
    known = instance.volatile
    volatile = without_facts(known, *nics, *(nic.device for nic in nics_of(context, instance)))
    for name, device in nics.items():
        volatile |= await take_facts(context, op, name, device, known, project=instance.project)
    return dataclasses.replace(instance, volatile=volatile)


def require_stopped(context: Context, instance: Instance) -> None:
    """Raises WrongState."""
    if instance.id in context.live:
        raise WrongState(f"Instance {instance.name!r} is already running")
    if instance.deleting:
        raise WrongState(f"Instance {instance.name!r} is half deleted", remedy="delete it again")


async def _run(context: Context, op: Operation, instance: Instance, spec: RunSpec) -> Guest:
    endpoint = await make_endpoint(context, op, instance)
    taps = isinstance(endpoint, HostTap)
    nics = tuple(tap_nic(nic) for nic in nics_of(context, instance)) if taps else ()
    guest = await context.working_runtime(instance).run(op, dataclasses.replace(spec, network=endpoint, nics=nics))
    await _require_life(context, instance, guest)
    return guest


async def _require_life(context: Context, instance: Instance, guest: Guest) -> None:
    """Raise HostFailure where the program ended at once, unless it was done, or wants to be started again."""
    status = await guest.settled()
    if status not in (None, 0, REBOOT):
        raise HostFailure(
            f"The first process of {instance.name!r} ended at once, with status {status}",
            evidence=await last_words(context, instance),
        )


async def _record_started(context: Context, found: Versioned[Instance], limits: Limits, guest: Guest) -> None:
    instance = found.value
    now = context.host.clock.now()
    known = {key: value for key, value in applied(instance.volatile).items() if key != RESTARTING}
    volatile = known | {LAST_BOOT: context.host.system.boot_id(), CPUS: cpus_text(limits)}
    started = dataclasses.replace(instance, desired="running", last_used_at=now, volatile=volatile)
    await context.records.replace(instance.ref, started, at=found.revision)
    context.broken.pop(instance.id, None)
    await keep_described(context, started)
    adopt(context, started, guest, limits)
