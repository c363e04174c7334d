"""The images of this daemon: records, aliases, sources, and the content store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

from isola import state
from isola.errors import HostFailure, InUse, InvalidInput, NotFound, Unsupported
from isola.events import Events
from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.cancellation import finish
from isola.host.disk_images import DiskLimits
from isola.images.acquire import Acquire
from isola.images.aliases import Aliases
from isola.images.architecture import platform
from isola.images.archive_limits import compression_of, disk_limits_of, limits_of
from isola.images.archive_verbs import ArchiveVerbs
from isola.images.catalogue import Catalogue
from isola.images.descriptor import MANIFEST_TYPE, Descriptor
from isola.images.lending import is_lent, lend
from isola.images.metadata import MAX_SIZE, METADATA_NAMES, Metadata, read
from isola.images.oci_config import OciConfig, read_config
from isola.images.oci_manifest import Manifest, read_document
from isola.images.ownership import Ownership
from isola.images.recording import Recording
from isola.images.registry.reaching import Reach
from isola.images.registry.settings import ALIASES, SHORT_NAMES
from isola.images.registry.verbs import RegistryVerbs
from isola.images.source import SourceRequest
from isola.images.sources import Sources
from isola.images.store import ContentStore, Intake
from isola.images.templates import read_templates
from isola.images.unpacking import Unpacking
from isola.images.uses import mounted_by, refuse_if_mounted
from isola.model.caller import DAEMON, Caller
from isola.model.image import Alias, Image, Layer, layer_keys
from isola.model.image_reference import as_alias
from isola.model.probe import Probe
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.model.template import Template
from isola.operations import Operation, Operations, alone

log = logging.getLogger(__name__)
_EXACT_TO = timedelta(minutes=1)
"""Resolution of an image's time of last use."""
_NOTHING: Mapping[str, str] = {}


class ImageLibrary:
    """Reading, naming and changing images; ``acquire.py`` adds them."""

    def __init__(
        self,
        host: Host,
        images: state.Scoped[Image],
        aliases: state.Scoped[Alias],
        events: Events,
        directory: Path,
        *,
        references: state.References | None = None,
        operations: Operations | None = None,
        released: Callable[[Collection[str]], Awaitable[None]] | None = None,
        intents: state.Intents,
        permit: Callable[[Image], None] = lambda image: None,
        config: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """``config``: of the server."""
        self._limits = partial(limits_of, config)
        self._config = config
        self._host = host
        self._records = images
        self._events = events
        self._references = references or state.References()
        self._permit = permit
        self._released = released
        """Called after deletions, to release data kept for deleted images."""
        self._operations = operations
        self._indexing = asyncio.Lock()
        self.store = ContentStore(host, directory / "images", intents)
        certificates = directory / "certs.d"
        self.sources = Sources(host, self.store.scratch, certificates, config)
        self._catalogue = Catalogue(images, self.store)
        self.with_properties = self._catalogue.with_properties
        self._aliases = Aliases(aliases, events, self._catalogue.get, self._write_index)
        self.ownership = Ownership(self._catalogue.owns, self._catalogue.pulled_with)
        unpacking = Unpacking(host, self.store, self._limits, lambda: disk_limits_of(config()))
        self.unpack_layer = unpacking.unpack
        self.check_layers = unpacking.check
        self._acquire = Acquire(
            store=self.store,
            sources=self.sources,
            catalogue=self._catalogue,
            aliases=self._aliases,
            record=self._recording.record,
            collect_garbage=self.collect_garbage,
            owned=self.ownership.of,
        )
        self.also_named: Callable[[], set[str]] = set
        """Blobs that repositories need."""
        self.on_deletion: Callable[[Image], Awaitable[None]] = _nothing
        """Called after an image was deleted."""
        self._reach = Reach(host, certificates, config)
        self.ensure = self._acquire.ensure
        self.build = self._acquire.build
        self.import_files = self._acquire.import_files
        self.add = self._acquire.add

    @property
    def limits(self) -> UnpackLimits:
        """Those of archives, as the settings are now."""
        return self._limits()

    @property
    def disk_limits(self) -> DiskLimits:
        """The same for images of virtual machines: bytes of a disk, and of the data on it."""
        return disk_limits_of(self._config())

    @cached_property
    def _recording(self) -> Recording:
        return Recording(
            records=self._records,
            catalogue=self._catalogue,
            aliases=self._aliases,
            store=self.store,
            permit=self._permit,
            changed=self._write_index,
            publish=self._publish,
        )

    @cached_property
    def registries(self) -> RegistryVerbs:
        """Pulling and pushing."""
        return RegistryVerbs(
            host=self._host,
            reach=self._reach,
            store=self.store,
            build=self._acquire.build,
            get=self._catalogue.get,
            aliases=lambda: self._aliases,
            operations=self._running,
            collect_garbage=self.collect_garbage,
            given_with=self.ownership.is_given_with,
        )

    @cached_property
    def archives(self) -> ArchiveVerbs:
        """Loading, importing and saving archives."""
        return ArchiveVerbs(
            host=self._host,
            store=self.store,
            acquire=self._acquire,
            limits=self._limits,
            layers=self._layers_of,
            operations=self._running,
        )

    # --- at daemon start ----------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """Probe every source."""
        await self.sources.probe()

    @property
    def probes(self) -> Mapping[str, Probe]:
        """The results of ``probe``."""
        return self.sources.probes

    async def open(self) -> None:
        """Empty the scratch space, delete dangling aliases, release incomplete images, write the index."""
        await self.store.open()
        try:
            await self._catalogue.rekey()
        except HostFailure as error:  # a full disk: tried again at the next start; the old keys work too
            log.warning("Some image records keep their old keys until the next start: %s", error)
        await self._catalogue.load()
        for alias in list(self._aliases):
            if self._catalogue.find(alias.ref.renamed(alias.target)) is None:
                await self._aliases.remove(alias.ref)
        await self.collect_garbage()
        await self._write_index()

    def used_by(self, ref: Ref) -> Sequence[Entity]:
        """The users of an image."""
        return self._references.users(Entity.of(Kind.IMAGE, ref))

    def mounted_by(self, ref: Ref) -> Sequence[Entity]:
        """Instances and snapshots with disks that have its content: it cannot be deleted before they are."""
        return mounted_by(self._references, Entity.of(Kind.IMAGE, ref))

    def _layers_in_use(self) -> set[str]:
        """The layers that instances use, including instances that are being created or have no record."""
        kinds = (Kind.IMAGE_LAYERS, Kind.IMAGE_BLOBS)
        return {name for kind in kinds for used, _ in self._references.of_kind(kind) for name in used.names}

    async def collect_garbage(self, keep_layers: Collection[str] = ()) -> int:
        """Delete added or released blobs that no image and no layer in use needs; returns their number."""
        kept = {*keep_layers} | self._layers_in_use()

        async def named() -> set[str]:
            await self._catalogue.learn_missing()
            return self._catalogue.blobs() | self.also_named()

        return await self.store.sweep(named, kept)

    async def unknown(self) -> Mapping[str, int]:
        """Blobs of unknown origin with their sizes; they are kept until ``remove_unknown``."""
        found = await self.store.unreferenced(self._catalogue.blobs() | self._layers_in_use() | self.also_named())
        return {digest: await self._host.files.size(self.store.path(digest)) for digest in found}

    async def remove_unknown(self) -> None:
        await self.store.mark_removable(sorted(await self.unknown()))
        await self.collect_garbage()

    def start_remove_unknown(self, *, caller: Caller = DAEMON) -> Operation:
        """``remove_unknown`` in the background."""
        entity = Entity.of_host(Kind.UNKNOWN, "image-content")
        return alone(
            self._running(), "Remove unknown image-content", entity, lambda _: self.remove_unknown(), caller=caller
        )

    # --- reading ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Image]:
        return iter(self._records)

    def get(self, ref: Ref) -> Image:
        """By fingerprint or an unambiguous prefix of at least four digits. Raises NotFound."""
        return self._catalogue.get(ref)

    def resolve(self, reference: Ref) -> Image | None:
        """The image with this alias or fingerprint, or None. Raises InvalidInput for an ambiguous prefix."""
        alias = self._aliases.find(reference)
        return self._catalogue.find(reference.renamed(alias.target) if alias else reference)

    def intake(self, project: str) -> Intake:
        """For blobs that no image of the project needs at its end."""
        return self.store.intake(self.ownership.of(project), project)

    def is_of(self, image: Image, digest: str) -> bool:
        """Whether a blob came with an image; its documents may name others."""
        return self._catalogue.is_of(image, digest)

    def blobs_of(self, image: Image) -> frozenset[str]:
        """Digests of all that its documents refer to, present or not."""
        return self._catalogue.blobs_of(image)

    def names_of(self, image: Image) -> list[Alias]:
        """Its aliases."""
        return self._aliases.of(image.ref)

    def holds(self, fingerprint: str) -> bool:
        """Whether any project has this image."""
        return self._catalogue.holds(fingerprint)

    @property
    def generation(self) -> tuple[int, int]:
        """Changes with every change of any image or alias."""
        return self._records.generation, self._aliases.generation

    def revision(self, ref: Ref) -> int:
        """Changes with every write of the record."""
        image = self._catalogue.find(ref)
        return self._records.revision(self._catalogue.key(image)) if image is not None else 0

    def manifest(self, image: Image) -> Descriptor:
        """Its manifest, with the platform; the size is 0 if it cannot be read."""
        size, on = self._catalogue.manifest_size(image), platform(image.architecture)
        return Descriptor(MANIFEST_TYPE, image.manifest, size, platform=on)

    def offers(self) -> Mapping[str, str]:
        """Names that the sources can build -> description."""
        return self.sources.offers()

    def export(self, ref: Ref) -> Sequence[tuple[str, Path]]:
        """Names and files of an export as in LXD: one unified, or metadata and root. Raises NotFound, Unsupported."""
        image = self.get(ref)
        parts = self._catalogue.parts(image)
        if not parts:
            raise Unsupported(f"Image {image.fingerprint[:12]} has no tarball to export")
        return [(part.file_name(image.fingerprint), self.store.path(part.digest)) for part in parts]

    def has_files(self, ref: Ref) -> bool:
        """Whether it can be exported as in LXD. Raises NotFound."""
        return bool(self._catalogue.parts(self.get(ref)))

    async def metadata(self, ref: Ref) -> Metadata:
        """The parsed ``metadata.yaml``. Raises NotFound, Unsupported."""
        (_, first), *_ = self.export(ref)
        return read(await self._host.archives.read_document(first, METADATA_NAMES, limit=MAX_SIZE))

    async def configuration(self, image: Image) -> OciConfig:
        """Its whole OCI configuration, with the history and the order of the environment. Raises NotFound."""
        manifest = read_document(await self.store.read(image.manifest))
        if not isinstance(manifest, Manifest):
            raise InvalidInput(f"The manifest of image {image.fingerprint[:12]} is not that of an image")
        return read_config(await self.store.read(manifest.config.digest))

    async def templates(self, image: Image) -> tuple[Template, ...]:
        """The image's templates; read once from its files if an earlier version did not record them."""
        if image.templates is not None:
            return image.templates
        found: tuple[Template, ...] = ()
        with suppress(Unsupported):  # it has no tarball
            metadata = await self.metadata(image.ref)
            (_, first), *_ = self.export(image.ref)
            found = await read_templates(self._host.archives, first, metadata)
        with suppress(NotFound):  # deleted meanwhile
            await self._change(image, lambda record: replace(record, templates=found))
        return found

    @property
    def compression(self) -> str:
        """Of new layers: ``zstd``, ``gzip`` or ``none``."""
        return compression_of(self._config())

    def short_name(self, text: str) -> str:
        """The alias that ``debian:12`` may mean, ``debian/12``; empty unless ``images.short_names`` permits that."""
        return as_alias(text) if self._config().get(SHORT_NAMES) == ALIASES else ""

    # --- changing -----------------------------------------------------------------------------------------------

    async def update(self, ref: Ref, decide: Callable[[Image], Image], *, caller: Caller = DAEMON) -> None:
        """Change an image's editable fields. Raises NotFound."""
        image = self.get(ref)
        await self._change(image, decide)
        self._publish("updated", image, caller)

    async def used(self, ref: Ref) -> None:
        """Record the time of use; does nothing if it was deleted meanwhile.

        With a resolution of a minute, so that many launches at once cost one write.
        """
        now = self._host.clock.now()
        image = self._catalogue.find(ref)
        if image is None or (image.last_used_at is not None and now - image.last_used_at < _EXACT_TO):
            return
        with suppress(NotFound):
            await self._change(image, lambda image: replace(image, last_used_at=now))

    async def delete(self, op: Operation, ref: Ref, *, unless_named: bool = False) -> None:
        """Delete an image and its aliases. Instances made from it keep their layers.

        Raises NotFound, InUse while a disk has its content.
        """
        image = self.get(ref)
        refuse_if_mounted(self._references, image)
        try:
            await op.commit(lambda: self._recording.forget(image, op.caller, unless_named=unless_named))
        finally:
            if op.committed and self._catalogue.find(image.ref) is None:  # the rest is only cleanup
                await finish(self._after_deletion(image))

    async def copy(
        self, op: Operation, ref: Ref, project: str, decide: Callable[[Image], Image], aliases: Sequence[str] = ()
    ) -> None:
        """Add the image to another project, or change it there, by ``decide``; the content is shared.

        The caller holds the image's lock, so the content is not deleted. Raises NotFound, AlreadyExists for an alias.
        """
        origin = self.get(ref)
        self._acquire.check_aliases(project, aliases, but=origin.fingerprint)
        existing = self._catalogue.find(Ref(project, origin.fingerprint))
        fresh = replace(
            origin,
            project=project,
            uploaded_at=self._host.clock.now(),
            last_used_at=None,
            public=False,
            cached=False,
            profiles=("default",),
        )

        async def record() -> None:
            if existing is not None:
                await self._change(existing, decide)
                self._publish("updated", existing, op.caller)
            await self._recording.record(decide(fresh), aliases, op.caller)

        await op.commit(record)
        op.resources = (fresh.entity,)
        op.update_metadata(fingerprint=origin.fingerprint, size=origin.size)

    # --- for repositories -------------------------------------------------------------------------------------------

    async def record_pushed(self, image: Image, name: Ref, *, caller: Caller = DAEMON) -> None:
        """Record an image that was pushed, unless it is there already, and point an alias to it.

        Raises Forbidden (a limit of the project).
        """
        await self._recording.record(image, (name.name,), caller)

    async def drop(self, image: Image, *, caller: Caller = DAEMON) -> None:
        """Remove the record of an image that has no name any more, and is not the content of a disk.

        A repository that has its content keeps that.
        """
        if self.mounted_by(image.ref):
            return
        with suppress(InUse):  # by an instance that is just being recorded
            await self._recording.forget(image, caller, unless_named=True)
        if self._catalogue.find(image.ref) is None:
            await finish(self._clean_up(image))

    # --- as operations in the background ----------------------------------------------------------------------------

    def start_build(
        self,
        source: str,
        request: SourceRequest,
        aliases: Sequence[str] = (),
        public: bool = False,
        auto_update: bool = False,
        *,
        project: str = DEFAULT_PROJECT,
        caller: Caller = DAEMON,
    ) -> Operation:
        """``build`` in the background. Raises NotFound, DriverUnavailable, InvalidInput, Busy."""
        self._acquire.check_build(source, request, aliases)
        work = partial(
            self.build,
            source=source,
            request=request,
            aliases=aliases,
            public=public,
            auto_update=auto_update,
            project=project,
        )
        locks = (f"image-build/{project}/{source}/{request.name}",)
        return self._running().start("Building image", work, locks=locks, project=project, caller=caller, wait=False)

    def start_import(
        self,
        files: Sequence[Path],
        *,
        properties: Mapping[str, str] = _NOTHING,
        public: bool = False,
        filename: str = "",
        aliases: Sequence[str] = (),
        auto_update: bool = False,
        fingerprint: str | None = None,
        scratch: Path | None = None,
        project: str = DEFAULT_PROJECT,
        caller: Caller = DAEMON,
    ) -> Operation:
        """``import_files`` in the background; ``scratch``, the directory of the files, is removed at its end.

        Raises AlreadyExists, InvalidInput for the aliases.
        """
        self._acquire.check_aliases(project, aliases)

        async def work(op: Operation) -> None:
            try:
                await self.import_files(
                    op,
                    files,
                    properties=properties,
                    public=public,
                    filename=filename,
                    aliases=aliases,
                    auto_update=auto_update,
                    fingerprint=fingerprint,
                    project=project,
                )
            finally:
                if scratch is not None:
                    await finish(self._host.files.remove_tree(scratch))

        return self._running().start("Importing image", work, project=project, caller=caller)

    def start_delete(self, ref: Ref, *, caller: Caller = DAEMON, unless_named: bool = False) -> Operation:
        """``delete`` in the background; succeeds if another deletion was first. Raises NotFound."""
        image = self.get(ref)

        async def work(op: Operation) -> None:
            if not (op.waited and self._catalogue.find(image.ref) is None):
                await self.delete(op, image.ref, unless_named=unless_named)

        return self._running().start(
            "Deleting image",
            work,
            locks=(image.entity.lock,),
            resources=(image.entity,),
            caller=caller,
        )

    def start_copy(
        self,
        ref: Ref,
        project: str,
        decide: Callable[[Image], Image],
        aliases: Sequence[str] = (),
        *,
        caller: Caller = DAEMON,
    ) -> Operation:
        """``copy`` in the background. Raises NotFound, AlreadyExists."""
        image = self.get(ref)
        self._acquire.check_aliases(project, aliases, but=image.fingerprint)
        return self._running().start(
            "Copying image",
            lambda op: self.copy(op, image.ref, project, decide, aliases),
            locks=sorted({image.entity.lock, replace(image, project=project).entity.lock}),
            project=project,
            caller=caller,
        )

    def start_lending(self, ref: Ref, *, caller: Caller = DAEMON) -> Operation:
        """A token with which an untrusted client may download the image while the operation runs. Raises NotFound."""
        return lend(self._running(), self._host.clock, self.get(ref), caller=caller)

    def is_lent(self, image: Image, secret: str) -> bool:
        """Whether the secret is currently valid for the image."""
        return is_lent(self._running(), image, secret)

    # --- aliases ----------------------------------------------------------------------------------------------------

    def aliases(self) -> Iterator[Alias]:
        return iter(self._aliases)

    def alias(self, ref: Ref) -> Alias:
        """Raises NotFound."""
        return self._aliases.get(ref)

    def find_alias(self, ref: Ref) -> Alias | None:
        return self._aliases.find(ref)

    async def add_alias(self, alias: Alias, *, caller: Caller = DAEMON) -> None:
        """Raises AlreadyExists, NotFound (no such image), InvalidInput (the name)."""
        image = self.resolve(Ref(alias.project, alias.target))
        async with self._recording.one(image.ref if image is not None else alias.ref):
            await self._aliases.add(alias, caller=caller)

    async def update_alias(self, ref: Ref, decide: Callable[[Alias], Alias], *, caller: Caller = DAEMON) -> None:
        """Raises NotFound."""
        async with self._recording.of_alias(ref, decide):
            await self._aliases.update(ref, decide, caller=caller)

    async def point_alias(self, ref: Ref, fingerprint: str, *, caller: Caller = DAEMON) -> None:
        """Point an alias, new or existing, to an image. Raises NotFound, InvalidInput."""
        image = self.get(ref.renamed(fingerprint))
        async with self._recording.one(image.ref):
            await self._aliases.point(ref, self.get(image.ref).fingerprint, caller=caller)

    async def rename_alias(self, old: Ref, new: str, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound, AlreadyExists."""
        async with self._recording.of_alias(old):
            await self._aliases.rename(old, new, caller=caller)

    async def remove_alias(self, ref: Ref, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound."""
        await self._aliases.remove(ref, caller=caller)

    # --- private ----------------------------------------------------------------------------------------------------

    def _layers_of(self, project: str) -> list[Layer]:
        return [layer for image in self if image.project == project for layer in image.layers if layer.diff_id]

    async def _change(self, image: Image, decide: Callable[[Image], Image]) -> None:
        """Change the record. Raises NotFound if it was deleted meanwhile."""
        await self._records.change(self._catalogue.key(image), decide)

    async def _after_deletion(self, image: Image) -> None:
        await self.on_deletion(image)
        await self._clean_up(image)

    async def _clean_up(self, image: Image) -> None:
        if self._released is not None:
            await self._released(layer_keys(image.layers))
        await self.collect_garbage()

    async def _write_index(self) -> None:
        """The index serves other tools and is derived from the records, so a failed write is only logged."""
        async with self._indexing:
            try:
                await self.store.write_index(self._catalogue.index(self._aliases))
            except HostFailure as error:
                log.warning("Could not write the image index: %s", error)

    def _publish(self, what: str, image: Image, caller: Caller) -> None:
        self._events.lifecycle(f"image-{what}", image.entity, caller=caller)

    def _running(self) -> Operations:
        if self._operations is None:
            raise Unsupported("This library was built without operations")
        return self._operations


async def _nothing(image: Image) -> None:
    pass
