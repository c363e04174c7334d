"""An image from the root of an instance or a snapshot of it: on the same layers, with one more for the changes."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host.cancellation import finish
from isola.images.compose import Named, compose, store_layer
from isola.images.instructions import apply
from isola.images.oci_config import History, OciConfig
from isola.images.oci_manifest import MAX_LAYERS
from isola.images.store import Intake
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.disks import has_disks
from isola.instances.flatten import flatten
from isola.instances.phases import require_kept
from isola.instances.roots import moment
from isola.instances.snapshot import still_the
from isola.instances.snapshot_records import find
from isola.model.image import PARENT, Image, ImageConfig, Layer
from isola.model.instance import Instance
from isola.model.names import alias_name
from isola.model.reference import Kind, Ref
from isola.operations import Operation

MOUNT_POINTS = (
    "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "etc/hostname", "etc/hosts", "etc/mtab",
    "etc/resolv.conf", "proc", "run/.containerenv", "sys", ".dockerenv",
)  # fmt: skip
"""Empty files and directories on which something is mounted in an instance; images do not need them."""
_LABEL, _VARIABLE = "user.", "environment."


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What the image is to be, beside the files."""

    names: tuple[str, ...] = ()
    """Aliases that point to it then."""
    snapshot: str = ""
    """The snapshot that it is made from; empty: the present state."""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    """Dockerfile instructions."""
    pause: bool = True
    """Freeze a running instance meanwhile; otherwise its files may be from different moments."""
    properties: Mapping[str, str] = field(default_factory=dict)
    public: bool = False
    profiles: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    exported: bool = False
    """Whether its fingerprint is that of its archive: LXD's clients compare it with what they export."""


def check(context: Context, ref: Ref, request: CommitRequest) -> Instance:
    """Raises NotFound, InvalidInput, Unsupported, WrongState; returns the instance, or as it was at the snapshot."""
    instance = context.records.get(ref)
    require_kept(instance)
    origin = find(context, instance, request.snapshot).instance if request.snapshot else instance
    for name in request.names:
        alias_name(name, "aliases")
    if any(not blob.diff_id for blob in origin.start.blobs) or (origin.start.layers and not origin.start.blobs):
        raise Unsupported(f"Instance {ref.name!r} is on layers of Isola 0.1", remedy="create it again from its image")
    if has_disks(context, origin.runtime) and request.changes:
        raise Unsupported(
            f"Instance {ref.name!r} is a virtual machine, whose image has no instructions",
            field="changes",
            remedy="leave them out",
        )
    if len(origin.start.blobs) >= MAX_LAYERS:
        raise InvalidInput(f"Instance {ref.name!r} has {MAX_LAYERS} image layers", remedy="start with a smaller image")
    apply(_run(context, origin, None), request.changes)
    return origin


async def commit(context: Context, op: Operation, ref: Ref, id: str, request: CommitRequest) -> Image:
    """Make and record the image; its lower layers are shared with the instance's own image."""
    instance = still_the(context, ref, id)
    origin = check(context, ref, request)
    home = context.home(instance.project, Kind.IMAGE)
    with context.layers.reserved(op.id, origin.start):
        (image,) = await context.images.add(
            op, lambda intake: _made(context, op, intake, instance, request), project=home
        )
    about = {"fingerprint": image.fingerprint, "names": list(request.names), "message": request.message}
    context.tell("committed", instance.ref, caller=op.caller, **about)
    return image


async def _made(
    context: Context, op: Operation, intake: Intake, instance: Instance, request: CommitRequest
) -> Sequence[Named]:
    origin = check(context, instance.ref, request)
    if has_disks(context, origin.runtime):
        async with _at(context, op, origin, request) as moment, _shown(context, origin, moment) as tree:
            image = await flatten(context, op, intake, origin, tree)
        return [Named(_described(context, origin, image, request), request.names)]
    for blob in origin.start.blobs:
        await intake.keep(blob.digest)
        if not await context.images.store.has(blob.digest):
            raise NotFound(f"The content store has no layer {blob.digest[7:19]}", remedy="import its image again")
    base = await _base(context, origin)
    config = dataclasses.replace(
        base,
        run=apply(_run(context, origin, base.run), request.changes),
        created_at=context.host.clock.now(),
        author=request.author,
    )
    await ensure_layers(context, op, origin)
    layer = await _packed(context, op, intake, origin, request)
    history = History(
        " ".join(origin.start.command)[:4096], config.created_at, request.author, request.message, layer is None
    )
    config = dataclasses.replace(config, history=(*base.history, history))
    layers = [*origin.start.blobs, *([layer] if layer else [])]
    source = {"instance": origin.name, **({PARENT: origin.image} if origin.image else {})}
    image = await compose(intake, config, layers, config.created_at, source=source)
    if request.exported:
        image = dataclasses.replace(image, fingerprint=await context.images.archives.fingerprint(image))
    return [Named(_described(context, origin, image, request), request.names)]


def _shown(context: Context, origin: Instance, snapshot: str | None) -> AbstractAsyncContextManager[Path]:
    """Its volume, or that of the snapshot, read-only."""
    return context.storage(origin).contents(context.volume(origin), snapshot)


def _described(context: Context, origin: Instance, image: Image, request: CommitRequest) -> Image:
    return dataclasses.replace(
        image,
        project=context.home(origin.project, Kind.IMAGE),
        properties={**image.properties, **origin.image_properties, **request.properties},
        public=request.public,
        profiles=("default",) if request.profiles is None else request.profiles,
        expires_at=request.expires_at,
        templates=origin.start.templates,
    )


async def _base(context: Context, origin: Instance) -> OciConfig:
    """The configuration of its image, or of one that was deleted as far as the instance remembers it."""
    image = context.images.resolve(context.scoped(origin.project, Kind.IMAGE, origin.image)) if origin.image else None
    if image is not None and tuple(image.layers) == tuple(origin.start.blobs):
        try:
            return await context.images.configuration(image)
        except (NotFound, InvalidInput):  # damaged: the instance can still be saved
            pass
    now = context.host.clock.now()
    return OciConfig(
        origin.architecture, now, (), ImageConfig(), history=tuple(History("unknown", now) for _ in origin.start.blobs)
    )


def _run(context: Context, origin: Instance, image: ImageConfig | None) -> ImageConfig:
    """How the instance is run; what it does not say is as in its image."""
    start, (config, _) = origin.start, expanded(context, origin)
    set_here = {key.removeprefix(_VARIABLE): value for key, value in config.items() if key.startswith(_VARIABLE)}
    labels = {key.removeprefix(_LABEL): value for key, value in config.items() if key.startswith(_LABEL)}
    base = image or ImageConfig()
    inherited = base.environment if set(base.environment) == set(start.environment) else start.environment
    return dataclasses.replace(
        base,
        system=start.system,
        command=start.command,
        entrypoint=start.entrypoint,
        environment={**{name: start.environment[name] for name in inherited}, **set_here},
        cwd=start.cwd,
        user=start.user,
        stop_signal=start.stop_signal,
        labels={**base.labels, **({} if start.system else labels)},
    )


async def ensure_layers(context: Context, op: Operation, origin: Instance) -> None:
    """Unpack layers that its pool has not kept, because every root there is a copy of its own."""
    blobs: Mapping[str, Layer] = dict(zip(origin.start.layers, origin.start.blobs, strict=True))

    async def unpack(key: str, target: Path) -> None:
        await context.images.unpack_layer(blobs[key], target)

    await context.storage(origin).layers.ensure(op, origin.start.layers, unpack)


async def _packed(
    context: Context, op: Operation, intake: Intake, origin: Instance, request: CommitRequest
) -> Layer | None:
    """The layer with the changes; None if there are none."""
    driver, volume = context.storage(origin), context.volume(origin)
    compression = context.images.compression
    file = context.images.store.scratch / f"layer-{context.host.clock.token(8)}"
    try:
        async with _at(context, op, origin, request) as snapshot:
            with op.step(f"Pack changes of {origin.name}"):
                report = await driver.pack_layer(
                    volume, file, snapshot=snapshot, compression=compression, leave_out=MOUNT_POINTS
                )
        return await store_layer(intake, file, report.diff_id, compression) if report.entries else None
    finally:
        await finish(context.host.files.remove_tree(file))


@asynccontextmanager
async def _at(context: Context, op: Operation, origin: Instance, request: CommitRequest) -> AsyncIterator[str | None]:
    """The id of the snapshot that is packed; None: the root itself."""
    if request.snapshot:
        yield find(context, context.records.get(origin.ref), request.snapshot).id
    elif not request.pause:
        yield None
    else:
        async with moment(context, op, context.records.get(origin.ref), "") as passing:
            yield passing
