"""Create an instance: layers from an image, a volume in a pool, addresses from networks."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound, PreconditionFailed
from isola.host.cancellation import both
from isola.instances import disks
from isola.instances.context import Context, HalfMade
from isola.instances.describe import describe_new
from isola.instances.expand import (
    merge,
    naming,
    require,
    require_distinct,
    root_pool,
    unheld,
    validate,
    with_size,
)
from isola.instances.half_made import intent_of, keep_in_mind, undo_of_name
from isola.instances.identity import plugs_of, refreshed
from isola.instances.namespaces import check_namespaces, ids_of_peer
from isola.instances.program import begin, check_program
from isola.instances.ranges import give_back, range_for
from isola.instances.root_sizes import first_size
from isola.instances.start import start
from isola.instances.templates import PENDING
from isola.instances.volatile import GENERATION, LAST_BOOT, own_keys
from isola.instances.walls import ISOLATION, isolation_of, require_config, require_image
from isola.instances.working_directory import make_working_directory
from isola.model.identity import IdRange
from isola.model.image import Image
from isola.model.instance import Config, Devices, Instance, InstanceRequest
from isola.model.isolation import type_of
from isola.model.kernel import UNIKERNEL, is_unikernel
from isola.model.names import plain_name
from isola.model.profile import Profile
from isola.model.reference import Kind, Ref
from isola.operations import Operation
from isola.runtimes import Runtimes


@dataclass(frozen=True, slots=True)
class Plan:
    """A validated request, with defaults for everything that was left open."""

    request: InstanceRequest
    ref: Ref
    isolation: str
    runtime: str
    profiles: tuple[str, ...]
    config: Config
    """Expanded."""
    devices: Devices
    """Expanded."""


def check(context: Context, request: InstanceRequest) -> Plan:
    """Validate a request before any effect. Raises InvalidInput, NotFound, Unsupported."""
    ref = Ref(request.project, request.name if request.name is not None else _free_name(context, request.project))
    plain_name(ref.name)
    context.projects.get(ref.project)
    validate(request.config, request.devices)
    request = dataclasses.replace(request, config=own_keys(request.config))
    check_program(request)
    names = _profiles_of(context, request)
    config, devices = merge(_profiles(context, request.project, names), request.config, request.devices)
    check_namespaces(config, request.devices)
    ids_of_peer(context, ref.project, config)
    require(
        devices,
        network=lambda name: context.network(ref.project, name),
        pool=context.pools.get,
    )
    isolation = choose_isolation(context.runtimes, request, config, only=_only(context, request))
    context.permit([_draft(context, request, ref, names, isolation)])
    with naming("runtime"):
        runtime = context.runtimes.choose(isolation, request.runtime)
    require_config(context.runtimes, runtime, isolation, config)
    devices = unheld(devices, request.marks)
    return Plan(dataclasses.replace(request, name=ref.name), ref, isolation, runtime, names, config, devices)


def _draft(context: Context, request: InstanceRequest, ref: Ref, profiles: tuple[str, ...], isolation: str) -> Instance:
    """The part of the record to which a project's limits and restrictions apply."""
    return Instance(
        id="",
        name=ref.name,
        image="",
        idmap=IdRange(0),
        created_at=context.host.clock.now(),
        project=ref.project,
        type=type_of(isolation),
        isolation=isolation,
        config=request.config,
        devices=request.devices,
        profiles=profiles,
        notes=request.notes,
    )


def choose_isolation(runtimes: Runtimes, request: InstanceRequest, config: Config, *, only: str = "") -> str:
    """That of the runtime, if the request names a runtime alone. Raises NotFound, InvalidInput, DriverUnavailable."""
    if request.runtime and not request.isolation:
        with naming("runtime"):
            offered = runtimes.get(request.runtime).capabilities.isolations
        return min(offered, key=lambda each: each != config.get(ISOLATION))
    return isolation_of(request, config, only=only)


def _only(context: Context, request: InstanceRequest) -> str:
    """The one isolation that its image is made for, as far as that is there already; or empty."""
    image = request.made_of
    if request.image is not None:
        image = context.images.resolve(context.scoped(request.project, Kind.IMAGE, request.image))
    if image is None:
        return ""
    return UNIKERNEL if is_unikernel(image.config.labels) else disks.isolation_of_image(image)


async def create(context: Context, op: Operation, plan: Plan) -> Instance:
    """Create the instance. Starting is a second stage: if it fails, a stopped instance remains."""
    image = await _image(context, op, plan.request, type_of(plan.isolation))
    plan = check(context, plan.request)  # building the image may have taken long: the profiles may have changed
    require_image(plan.isolation, unikernel=image is not None and is_unikernel(image.config.labels))
    await require_disk(context, plan, image)
    await undo_of_name(context, plan.ref)
    id = plan.request.id or context.host.clock.token(8)
    half = HalfMade(id, plan.ref)
    op.if_undo_fails(lambda _: keep_in_mind(context, half))
    op.on_rollback("give back user ids", partial(give_back, context, id))
    draft = await _record(context, op, plan, image, id=id)
    half = half_of(context, draft)
    with context.layers.reserved(id, draft.start):
        ids = range_for(context, id, plan.ref.project, plan.config)
        _, idmap = await both(announce(context, op, draft), ids)
        instance = dataclasses.replace(draft, idmap=idmap)
        await _build(context, op, instance)
        await op.commit(lambda: record_created(context, plan, instance))
    if image is not None:
        with suppress(IsolaError):  # optional: must not fail the creation
            await context.images.used(image.ref)
    context.tell("created", instance.ref, caller=op.caller, type=instance.type)
    if plan.request.start:
        op.reopen()
        await start(context, op, instance.ref)
    return instance


async def require_disk(context: Context, plan: Plan, image: Image | None) -> None:
    """Raises InvalidInput for an image of another kind, or with a larger disk."""
    disks.require_image(context, plan.runtime, plan.isolation, image)
    if image is not None and disks.has_disks(context, plan.runtime):
        await disks.require_size(context, plan.devices, image)


def half_of(context: Context, instance: Instance) -> HalfMade:
    """Possible remains if the creation fails from now on."""
    plugs = plugs_of(context, instance)
    return HalfMade(instance.id, instance.ref, context.pool_name(instance), instance.start.layers, plugs)


async def record_created(context: Context, plan: Plan, instance: Instance) -> None:
    """Raises PreconditionFailed if its profiles have changed meanwhile."""
    if check(context, dataclasses.replace(plan.request, profiles=plan.profiles)).devices != plan.devices:
        raise PreconditionFailed(
            f"A profile was changed while instance {instance.name!r} was being created", remedy="create it again"
        )
    await _add(context, instance)


async def _image(context: Context, op: Operation, request: InstanceRequest, type: str) -> Image | None:
    """Of images with the same name, that for this type of instances."""
    if request.image is None:
        return request.made_of
    wanted = context.scoped(request.project, Kind.IMAGE, request.image)
    found = context.images.resolve(wanted)
    return found if found and found.type == type else await context.images.ensure(op, wanted, type)


async def _record(context: Context, op: Operation, plan: Plan, image: Image | None, *, id: str) -> Instance:
    """All but its ids."""
    volatile: dict[str, str] = {
        "root.pool": root_pool(plan.devices),
        "uuid": (uuid := context.host.clock.uuid()),
        GENERATION: uuid,
        LAST_BOOT: context.host.system.boot_id(),
        **plan.request.marks,
    }
    if image is not None:
        volatile |= {"base_image": image.fingerprint, PENDING: "create"}
    request = plan.request
    templates = await context.images.templates(image) if image is not None else ()
    instance = Instance(
        id=id,
        name=plan.ref.name,
        image=image.fingerprint if image else "",
        idmap=IdRange(0),
        created_at=context.host.clock.now(),
        project=request.project,
        type=type_of(plan.isolation),
        isolation=plan.isolation,
        runtime=plan.runtime,
        architecture=image.architecture if image else context.host.system.kernel().architecture,
        description=request.description,
        config=dict(request.config),
        devices={name: dict(device) for name, device in request.devices.items()},
        profiles=plan.profiles,
        ephemeral=request.ephemeral,
        volatile=with_size(volatile, await first_size(context, plan.runtime, plan.devices)),
        image_properties=dict(image.properties) if image else {},
        start=begin(image, templates, request),
        notes=dict(request.notes),
    )
    return await refreshed(context, op, instance, plan.devices)


async def announce(context: Context, op: Operation, instance: Instance) -> None:
    """Write an intent, so that the next daemon can undo an interrupted creation: it removes only known objects."""
    intent = intent_of(half_of(context, instance))

    async def withdraw() -> None:
        if instance.id in await context.storage(instance).volumes():
            raise HostFailure(f"A volume {instance.id} is left", remedy="the daemon removes it by itself")
        await context.intents.end(instance.id)

    await op.effect(f"announce {instance.name}", lambda: context.intents.begin(intent), undo=withdraw)


async def _add(context: Context, instance: Instance) -> None:
    await context.records.add(
        instance.ref, instance, context.intents.ending(instance.id), allow=lambda: context.permit([instance])
    )
    context.intents.ended(instance.id)


async def _build(context: Context, op: Operation, instance: Instance) -> None:
    storage = context.storage(instance)
    with op.step("Prepare image layers", total=len(instance.start.layers), unit="items") as step:
        blobs = dict(zip(instance.start.layers, instance.start.blobs, strict=True))

        async def unpack(key: str, target: Path) -> None:
            await context.images.unpack_layer(blobs[key], target)

        await storage.layers.ensure(op, instance.start.layers, unpack, step.advance)
        await context.images.check_layers(blobs.values())  # also of those that the pool had
    await both(_make_volume(context, op, instance), _register(context, op, instance))
    await make_working_directory(context, instance)


async def _make_volume(context: Context, op: Operation, instance: Instance) -> None:
    storage, descriptions = context.storage(instance), context.descriptions(context.pool_name(instance))
    with op.step("Create root volume"):
        op.on_rollback(f"forget description of {instance.name}", lambda: descriptions.forget(instance.id))
        await describe_new(
            context, instance, lambda described: storage.create_volume(op, context.volume(instance), described)
        )


async def _register(context: Context, op: Operation, instance: Instance) -> None:
    with op.step("Register devices"):
        await context.devices.register(op, instance)


def _profiles_of(context: Context, request: InstanceRequest) -> tuple[str, ...]:
    """Those of the request, or else of its image; an image that has to be built first has none."""
    if request.profiles is not None:
        require_distinct(request.profiles)
        return request.profiles
    image = None
    if request.image is not None:
        image = context.images.resolve(context.scoped(request.project, Kind.IMAGE, request.image))
    return image.profiles if image is not None else ("default",)


def _profiles(context: Context, project: str, names: tuple[str, ...]) -> list[Profile]:
    try:
        return [context.profiles.get(context.scoped(project, Kind.PROFILE, name)) for name in names]
    except NotFound as error:
        raise InvalidInput(error.message, field="profiles", remedy="create the profile first") from error


def _free_name(context: Context, project: str) -> str:
    """A readable unused name, for requests without a name."""
    while True:
        name = f"i-{context.host.clock.token(4)}"
        if Ref(project, name) not in context.records:
            return name
