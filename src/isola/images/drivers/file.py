"""Images from files: unified and split tarballs of LXD, squashfs roots, and root file systems without metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isola.errors import InvalidInput, NotFound
from isola.host import Host
from isola.host.archive.archives import RepackReport
from isola.images import bare
from isola.images.architecture import check_runs
from isola.images.assemble import Ingredients, assemble
from isola.images.descriptor import LAYER_TYPE, Descriptor
from isola.images.disk_import import DiskImport
from isola.images.manifest import Part
from isola.images.metadata import MAX_SIZE, METADATA_NAMES, Metadata, metadata_tarball, read
from isola.images.source import ImageSource, SourceRequest
from isola.images.store import Intake
from isola.images.system import WANTED, config_of
from isola.images.templates import read_templates
from isola.images.unikernel_image import is_unikernel, unikernel_image
from isola.model.image import Image, Layer
from isola.model.probe import Probe
from isola.operations import Operation

_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"hsqs": "squashfs",
}
_ENDINGS = {"gzip": ".tar.gz", "bzip2": ".tar.bz2", "xz": ".tar.xz", "lzma": ".tar.lzma", "zstd": ".tar.zst"}
_LEGAL = {"": LAYER_TYPE, "gzip": f"{LAYER_TYPE}+gzip", "zstd": f"{LAYER_TYPE}+zstd"}
"""Compressions of layers that OCI allows, and their media types."""


@dataclass(frozen=True, slots=True)
class _Root:
    """A root file system that was checked and stored."""

    layer: Layer
    report: RepackReport


class FileSource(ImageSource):
    """Imports uploaded files; an export returns the same bytes."""

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Always available; warns if squashfs roots or some isolation of the unpacker are unavailable."""
        warnings = [
            f"archives are unpacked without {wall}, which this host does not allow"
            for wall in await host.archives.lacks()
        ]
        if host.system.find_program("sqfs2tar") is None:
            warnings.append("images with a squashfs root need the package squashfs-tools-ng")
        return Probe(True, warnings=tuple(warnings))

    def offers(self) -> Mapping[str, str]:
        """Empty: an import needs a file."""
        return {}

    def check(self, request: SourceRequest) -> None:
        """Accepts one or two files, without name and options."""
        if request.name or request.options:
            raise InvalidInput(
                "An import of files takes no name and no options", field="name" if request.name else "options"
            )
        if len(request.files) not in (1, 2):
            raise InvalidInput("Expected one or two files", field="files", remedy="unified, or metadata and rootfs")

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        if is_unikernel(request.properties):
            return await unikernel_image(op, self.host, intake, request.files, place, request.properties)
        kinds = [_kind_of(await self.host.files.read(path, 8)) for path in request.files]
        disks = DiskImport(self.host, self.config, op, request, intake, place)
        if await disks.is_bare():
            return await disks.bare()
        try:
            metadata = await self._metadata(request.files[0], kinds[0])
        except NotFound as error:
            if len(request.files) == 1:
                return await self._bare(op, request, intake, place, kinds[0])
            raise InvalidInput(
                "The first file has no metadata.yaml", field="files", remedy="send the metadata tarball, then the root"
            ) from error
        check_runs(metadata.architecture, self.host.system.kernel().architecture)
        templates = await read_templates(self.host.archives, request.files[0], metadata)
        if await disks.is_split():
            return await disks.split(metadata, templates, _ENDINGS.get(kinds[0], ".tar"))
        if await disks.has_disk():
            return await disks.unified(metadata, templates, _ENDINGS.get(kinds[0], ".tar"))
        if len(request.files) == 1:
            root, parts = await self._unified(op, request, intake, place, kinds[0])
        else:
            root, parts = await self._split(op, request, intake, place, kinds)
        fingerprint = request.fingerprint or (await self.host.files.digest(*request.files))[0]
        ingredients = Ingredients(
            fingerprint=fingerprint,
            metadata=metadata,
            config=config_of(root.report.found, {**metadata.properties, **request.properties}),
            layers=[root.layer],
            parts=parts,
            made_by="import of an LXD image",
            properties=request.properties,
            filename=request.filename,
            templates=templates,
        )
        return await op.effect("describe image", lambda: assemble(intake, ingredients, self.host.clock.now()))

    async def _bare(self, op: Operation, request: SourceRequest, intake: Intake, place: Path, kind: str) -> Image:
        """A root file system alone becomes a split image with generated metadata, which other servers can import."""
        upload = request.files[0]
        root, stored = await self._root(op, upload, intake, place, kind)
        metadata = bare.describe(root.report, request.properties)
        check_runs(metadata.architecture, self.host.system.kernel().architecture)
        described = place / "metadata.tar.gz"
        await self.host.files.write(described, metadata_tarball(metadata))
        fingerprint, _ = await self.host.files.digest(described, upload)
        first = await op.effect("store metadata", lambda: intake.put_file(described, consume=True))
        ingredients = Ingredients(
            fingerprint=fingerprint,
            metadata=metadata,
            config=config_of(root.report.found, metadata.properties),
            layers=[root.layer],
            parts=[_part("metadata", first, ".tar.gz"), _part("rootfs", stored, _ENDINGS.get(kind, ".tar"))],
            made_by="import of a root file system",
            filename=request.filename,
        )
        return await op.effect("describe image", lambda: assemble(intake, ingredients, self.host.clock.now()))

    async def _metadata(self, path: Path, kind: str) -> Metadata:
        if kind == "squashfs":
            raise InvalidInput(
                f"The image is a lone {kind} file", field="files", remedy="send its metadata tarball first, then this"
            )
        return read(await self.host.archives.read_document(path, METADATA_NAMES, limit=MAX_SIZE))

    async def _unified(
        self, op: Operation, request: SourceRequest, intake: Intake, place: Path, kind: str
    ) -> tuple[_Root, list[Part]]:
        upload = request.files[0]
        root = await self._converted(op, upload, intake, place, subtree="rootfs")
        if not root.report.entries:
            raise InvalidInput("The archive has no rootfs/", field="files", remedy="send a unified LXD image")
        stored = await op.effect("store image", lambda: intake.put_file(upload))
        return root, [_part("unified", stored, _ENDINGS.get(kind, ".tar"))]

    async def _split(
        self, op: Operation, request: SourceRequest, intake: Intake, place: Path, kinds: list[str]
    ) -> tuple[_Root, list[Part]]:
        upload, kind = request.files[1], kinds[1]
        root, stored = await self._root(op, upload, intake, place, kind)
        if not root.report.entries:
            raise InvalidInput("The root file system is empty", field="files", remedy="send a split LXD image")
        metadata = await op.effect("store metadata", lambda: intake.put_file(request.files[0]))
        ending = ".squashfs" if kind == "squashfs" else _ENDINGS.get(kind, ".tar")
        return root, [_part("metadata", metadata, _ENDINGS.get(kinds[0], ".tar")), _part("rootfs", stored, ending)]

    async def _root(
        self, op: Operation, upload: Path, intake: Intake, place: Path, kind: str
    ) -> tuple[_Root, Descriptor]:
        """The root as a layer (unchanged if OCI allows its format, else converted), and the uploaded file."""
        if kind in _LEGAL:
            report = await self._repack(op, upload, None)
            stored = await op.effect("store root file system", lambda: intake.put_file(upload))
            return _Root(Layer(stored.digest, _LEGAL[kind], stored.size, report.diff_id), report), stored
        root = await self._converted(op, upload, intake, place)
        return root, await op.effect("store root file system", lambda: intake.put_file(upload))

    async def _converted(self, op: Operation, source: Path, intake: Intake, place: Path, subtree: str = "") -> _Root:
        layer = place / "layer.tar.zst"
        report = await self._repack(op, source, layer, subtree)
        stored = await op.effect("store layer", lambda: intake.put_file(layer, consume=True))
        return _Root(Layer(stored.digest, _LEGAL["zstd"], stored.size, report.diff_id), report)

    async def _repack(self, op: Operation, source: Path, target: Path | None, subtree: str = "") -> RepackReport:
        size = await self.host.files.size(source)
        with op.step("Check and convert image", total=size, unit="bytes") as step:
            report = await self.host.archives.repack(
                source, target, subtree=subtree, wanted=WANTED, heads=bare.HEADS, progress=step.advance
            )
            step.reach(size)
            return report


def _kind_of(head: bytes) -> str:
    """Compression or file system by magic bytes; empty for anything else (an uncompressed tar, or no archive)."""
    return next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), "")


def _part(name: str, stored: Descriptor, ending: str) -> Part:
    return Part(name, f"{name}{ending}", stored.digest, stored.size)


DRIVER = FileSource
