"""Loads images from an archive: of OCI's layout, or as ``docker save`` writes it; see ``layouts``.

The archive is only listed by the confined process. Its documents are read like those of a registry, and blobs are
copied by their place and verified by their digest; those that are in the store already are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from isola.errors import InvalidInput, IsolaError, NotFound, Unsupported
from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.archive.formats import compression
from isola.host.archive.members import ArchiveIndex, ArchiveMember
from isola.host.cancellation import finish
from isola.host.several import several
from isola.images.compose import LAYER_KINDS, Named
from isola.images.descriptor import (
    CONFIG_TYPE,
    INDEX_TYPES,
    LAYER_TYPE,
    MANIFEST_TYPE,
    MANIFEST_TYPES,
    Descriptor,
)
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.layouts import INDEX, LaidOut, Members, Saved, check_kind, may_hold_images, read_layout, read_saved
from isola.images.oci_config import read_config
from isola.images.oci_image import oci_image
from isola.images.oci_manifest import Index, Manifest, check_image, manifest_document, read_document
from isola.images.platforms import choose
from isola.images.store import ContentStore, Intake
from isola.model.image import Image, Layer
from isola.operations import Operation

_DEEPEST = 4
"""Indexes within indexes."""


async def holds_images(host: Host, file: Path) -> bool:
    """Whether a file looks like an archive of images; False for one that is no archive at all."""
    try:
        return may_hold_images(await host.archives.first_names(file))
    except IsolaError:
        return False


class Loading:
    """The images of one archive."""

    def __init__(
        self,
        host: Host,
        store: ContentStore,
        intake: Intake,
        *,
        project: str,
        limits: UnpackLimits,
        known: Iterable[Layer] = (),
    ) -> None:
        self._host = host
        self._store = store
        self._intake = intake
        self._project = project
        self._limits = limits
        self._known: Mapping[str, Layer] = {layer.diff_id: layer for layer in known}
        """Layers of recorded images by diff id, which are used instead of equal ones of the archive."""

    async def load(self, op: Operation, source: Path | ArchiveIndex) -> Sequence[Named]:
        """Bring all images of the archive into the store. Raises InvalidInput, UnsafeArchive, Unsupported."""
        plain = self._store.scratch / f"plain-{self._host.clock.token(8)}"
        try:
            index = source if isinstance(source, ArchiveIndex) else await self._listed(op, source, plain)
            archive = _Archive(self._host, index)
            if check_kind(archive.members) == INDEX:
                found = read_layout(await archive.document(INDEX))
                return [await self._laid_out(op, archive, each) for each in found]
            saved = read_saved(await archive.document("manifest.json"))
            return [await self._saved(op, archive, each) for each in saved]
        finally:
            await finish(self._host.files.remove_tree(plain))

    async def _listed(self, op: Operation, file: Path, plain: Path) -> ArchiveIndex:
        size = await self._host.files.size(file)
        with op.step("Read archive", total=size, unit="bytes") as step:
            return await self._host.archives.list_members(file, plain, limits=self._limits, progress=step.advance)

    # --- OCI's layout -------------------------------------------------------------------------------------------

    async def _laid_out(self, op: Operation, archive: _Archive, each: LaidOut | Index) -> Named:
        kernel = self._host.system.kernel().architecture
        at, names = (choose(each, kernel), ()) if isinstance(each, Index) else (each.at, each.names)
        index = ""
        for _ in range(_DEEPEST):
            data = await self._document(archive, at)
            document = read_document(data, at.media_type)
            if isinstance(document, Manifest):
                image = await self._image(op, archive, at, document, index)
                await self._intake.put_bytes(data, at.media_type, expected=at.digest)
                return Named(image, names)
            await self._intake.put_bytes(data, at.media_type, expected=at.digest)
            index = index or at.digest
            at = choose(document, kernel)
        raise InvalidInput("The archive has indexes within indexes", evidence=f"more than {_DEEPEST} of them")

    async def _document(self, archive: _Archive, at: Descriptor) -> bytes:
        if at.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            raise Unsupported(f"Documents of type {at.media_type[:80]!r} are not images")
        member = archive.members.blob(at.digest)
        data = await archive.read(member) if member is not None else await self._stored(at.digest)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != at.digest:
            raise _mismatch(at.digest)
        return data

    async def _stored(self, digest: str) -> bytes:
        """A document that the archive leaves out because the project has it."""
        try:
            if await self._intake.holds(digest):
                return await self._store.read(digest)
        except NotFound:
            pass
        raise _missing(digest)

    async def _image(self, op: Operation, archive: _Archive, at: Descriptor, manifest: Manifest, index: str) -> Image:
        check_image(manifest)
        config = read_config(await self._document(archive, replace(manifest.config, media_type=MANIFEST_TYPE)))
        image = oci_image(at, manifest, config, now=self._host.clock.now(), index=index)
        await several(partial(self._blob, op, archive, blob) for blob in (manifest.config, *manifest.layers))
        return replace(image, project=self._project)

    async def _blob(self, op: Operation, archive: _Archive, blob: Descriptor) -> None:
        await self._intake.keep(blob.digest)
        if await self._intake.holds(blob.digest):
            return
        member = archive.members.blob(blob.digest)
        if member is None:
            raise _missing(blob.digest)
        if member.size != blob.size:
            raise InvalidInput(
                "A blob of the archive is not as large as its manifest says", evidence=f"{member.size}, not {blob.size}"
            )
        await self._extract(op, archive, member, blob.digest)

    # --- Docker's layout ----------------------------------------------------------------------------------------

    async def _saved(self, op: Operation, archive: _Archive, saved: Saved) -> Named:
        data = await archive.document(saved.config)
        config = read_config(data)
        if len(config.diff_ids) != len(saved.layers):
            raise InvalidInput(
                "manifest.json and an image's configuration disagree on the number of layers",
                evidence=f"{len(saved.layers)} and {len(config.diff_ids)}",
                field="manifest.json",
            )
        both = zip(saved.layers, config.diff_ids, strict=True)
        layers = await several(partial(self._layer, op, archive, path, diff_id) for path, diff_id in both)
        stored = await self._intake.put_bytes(data, CONFIG_TYPE)
        descriptors = tuple(Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers)
        manifest = Manifest(MANIFEST_TYPE, stored, descriptors)
        at = await self._intake.put_bytes(manifest_document(manifest), MANIFEST_TYPE)
        image = oci_image(at, manifest, config, now=self._host.clock.now())
        return Named(replace(image, project=self._project), saved.names)

    async def _layer(self, op: Operation, archive: _Archive, path: str, diff_id: str) -> Layer:
        known = self._known.get(diff_id)
        if known is not None:
            await self._intake.keep(known.digest)
            if await self._store.has(known.digest):
                return known
        member = archive.members.get(path)
        kind = compression(await archive.start(member))
        if kind not in LAYER_KINDS:
            raise Unsupported(f"Layers compressed with {kind} are not supported", remedy="save the image again")
        expected = diff_id if not kind else None
        if expected is not None:
            await self._intake.keep(expected)
        if expected is None or not await self._intake.holds(expected):
            digest = await self._extract(op, archive, member, expected)
        else:
            digest = expected
        return Layer(digest, LAYER_KINDS[kind], member.size, diff_id)

    async def _extract(self, op: Operation, archive: _Archive, member: ArchiveMember, expected: str | None) -> str:
        target = self._store.scratch / f"blob-{self._host.clock.token(8)}"
        name = (expected or member.name).rpartition(":")[2][:12]
        try:
            with op.step(f"Loading layer {name}", total=member.size, unit="bytes") as step:
                digest = await op.effect(
                    f"copy layer {name}", lambda: self._host.archives.extract(archive.index, member, target)
                )
                step.reach(member.size)
            if expected is not None and digest != expected:
                raise _mismatch(expected)
            await self._intake.put_verified(target, Descriptor(LAYER_TYPE, digest, member.size))
        except BaseException:
            await finish(self._host.files.remove_tree(target))
            raise
        return digest


class _Archive:
    """The archive's members, and their content."""

    def __init__(self, host: Host, index: ArchiveIndex) -> None:
        self._host = host
        self.index = index
        self.members = Members(index.members)

    async def document(self, name: str) -> bytes:
        """Raises InvalidInput, TooLarge."""
        return await self.read(self.members.get(name))

    async def read(self, member: ArchiveMember) -> bytes:
        """One byte more than the largest document, for which an error is raised when it is parsed."""
        return await self._host.archives.content(self.index, member, MAX_DOCUMENT + 1)

    async def start(self, member: ArchiveMember) -> bytes:
        return await self._host.archives.content(self.index, member, 8)


def _missing(digest: str) -> InvalidInput:
    return InvalidInput(
        "The archive is incomplete", evidence=f"it has no blob {digest}", remedy="save the images again, with all blobs"
    )


def _mismatch(digest: str) -> InvalidInput:
    return InvalidInput(
        "The content does not match its digest", evidence=digest, field="digest", remedy="save the images again"
    )
