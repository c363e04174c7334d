"""Images for virtual machines from uploaded files: LXD's, unified or split, and bare disks of other systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from isola.errors import InvalidInput
from isola.host import Host
from isola.host.archive.formats import compression
from isola.host.archive.members import ArchiveIndex
from isola.images.architecture import architecture, check_runs, debian_architecture
from isola.images.archive_limits import disk_limits_of, limits_of
from isola.images.assemble import Ingredients, assemble
from isola.images.descriptor import Descriptor
from isola.images.manifest import Part
from isola.images.metadata import Metadata
from isola.images.source import SourceRequest
from isola.images.store import Intake
from isola.images.vm_image import check_disk, vm_image
from isola.images.vm_layers import MACHINE, disk_layer
from isola.model.disk import DiskFormat
from isola.model.disk_header import HEAD, is_disk, read_header
from isola.model.image import Image
from isola.model.template import Template
from isola.operations import Operation

TYPE = "isola.type"
"""The property that says what an upload is: ``vm``, ``system`` or ``application``."""
_VM = "vm"
_DISK_NAMES = frozenset({"rootfs.img", "./rootfs.img"})
_FIRST = 50
_MOST_MEMBERS = 1000
_USTAR, _USTAR_AT = b"ustar", 257


@dataclass(frozen=True, slots=True)
class DiskImport:
    """One upload; the files in ``place`` are removed by the caller."""

    host: Host
    config: Callable[[], Mapping[str, str]]
    op: Operation
    request: SourceRequest
    intake: Intake
    place: Path

    async def is_bare(self) -> bool:
        """Whether it is a disk without metadata."""
        if len(self.request.files) != 1:
            return False
        head = await self.host.files.read(self.request.files[0], HEAD)
        if is_archive(head):
            return False
        return is_disk(head) or self.request.properties.get(TYPE) == _VM

    async def is_split(self) -> bool:
        """Whether its second file is a disk."""
        if len(self.request.files) != 2:
            return False
        head = await self.host.files.read(self.request.files[1], HEAD)
        return not is_archive(head) and is_disk(head)

    async def has_disk(self) -> bool:
        """Whether it is a unified tarball with a disk, which is among the first members."""
        if len(self.request.files) != 1:
            return False
        names = await self.host.archives.first_names(self.request.files[0], _FIRST)
        return not _DISK_NAMES.isdisjoint(names)

    async def bare(self) -> Image:
        """A split image with metadata made here, which other servers can import."""
        (upload,) = self.request.files
        header = await self.host.disk_images.header(upload)
        image = await vm_image(
            self.op,
            self.host,
            self.intake,
            disk=upload,
            metadata=self._described(),
            made_by="import of a disk",
            source={},
            format=header.format,
            limits=disk_limits_of(self.config()),
            scratch=self.place,
            filename=self.request.filename,
        )
        return image

    async def split(self, metadata: Metadata, templates: Sequence[Template], ending: str) -> Image:
        """The files are kept as they are, so that an export has the same fingerprint."""
        first, disk = self.request.files
        await self._check(disk)
        described = await self.op.effect("store metadata", lambda: self.intake.put_file(first))
        stored = await self.op.effect("store disk", lambda: self.intake.put_file(disk))
        parts = [
            Part("metadata", f"metadata{ending}", described.digest, described.size),
            Part("rootfs", "rootfs.qcow2", stored.digest, stored.size),
        ]
        return await self._assembled(metadata, templates, stored, parts)

    async def unified(self, metadata: Metadata, templates: Sequence[Template], ending: str) -> Image:
        """The tarball is kept for exports, beside the disk in it."""
        (upload,) = self.request.files
        disk = self.place / "disk.qcow2"
        index = await self._index()
        member = next((each for each in index.members if each.name in _DISK_NAMES), None)
        if member is None:
            raise InvalidInput("The archive has no disk", field="files", remedy="send a unified LXD image")
        await self.host.archives.extract(index, member, disk)
        await self._drop_copy(index)
        await self._check(disk)
        stored = await self.op.effect("store disk", lambda: self.intake.put_file(disk, consume=True))
        kept = await self.op.effect("store image", lambda: self.intake.put_file(upload))
        parts = [Part("unified", f"unified{ending}", kept.digest, kept.size)]
        return await self._assembled(metadata, templates, stored, parts)

    async def _assembled(
        self, metadata: Metadata, templates: Sequence[Template], stored: Descriptor, parts: Sequence[Part]
    ) -> Image:
        request, files = self.request, self.host.files
        ingredients = Ingredients(
            fingerprint=request.fingerprint or (await files.digest(*request.files))[0],
            metadata=metadata,
            config=replace(MACHINE),
            layers=[disk_layer(stored)],
            parts=parts,
            made_by="import of an LXD image",
            properties=request.properties,
            filename=request.filename,
            templates=templates,
        )
        return await self.op.effect("describe image", lambda: assemble(self.intake, ingredients, self.host.clock.now()))

    async def _check(self, disk: Path) -> None:
        head, size = await self.host.files.read(disk, HEAD), await self.host.files.size(disk)
        if read_header(head, size).format is not DiskFormat.QCOW2:
            raise InvalidInput(
                "The disk of the image is not a qcow2 file", field="files", remedy="import it without its metadata"
            )
        await check_disk(self.op, self.host, disk, disk_limits_of(self.config()))

    async def _index(self) -> ArchiveIndex:
        """Of the tarball, of which a compressed one is uncompressed first."""
        (upload,), plain = self.request.files, self.place / "plain.tar"
        return await self.host.archives.list_members(upload, plain, most=_MOST_MEMBERS, limits=limits_of(self.config))

    async def _drop_copy(self, index: ArchiveIndex) -> None:
        if index.file.parent == self.place:
            await self.host.files.remove_tree(index.file)

    def _described(self) -> Metadata:
        given, running = self.request.properties, self.host.system.kernel().architecture
        machine = architecture(given.get("architecture") or running)
        check_runs(machine, running)
        now = self.host.clock.now()
        guessed = {
            "os": "unknown",
            "release": "unknown",
            "architecture": debian_architecture(machine),
            "serial": now.strftime("%Y%m%d"),
            "description": PurePath(self.request.filename).name[:200] or "Disk of a virtual machine",
            **{key: value for key, value in given.items() if key != TYPE},
        }
        return Metadata(machine, now, None, {key: value for key, value in guessed.items() if value})


def is_archive(head: bytes) -> bool:
    """Whether it begins as a tarball does, compressed or not."""
    return bool(compression(head)) or head[_USTAR_AT : _USTAR_AT + len(_USTAR)] == _USTAR
