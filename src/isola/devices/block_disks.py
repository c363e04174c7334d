"""Disks that are block devices of a guest: volumes with a disk, image files and block devices of the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isola.devices.driver import Parts, Plug, Target
from isola.devices.volume_sources import volume_name
from isola.errors import Forbidden, InUse, InvalidInput, IsolaError, NotFound, Unsupported
from isola.model.disk import VOLUME_DISK, Disk, DiskFormat
from isola.model.isolation import has_machine
from isola.model.volume import FILESYSTEM, ISO, VolumeRecord, VolumeRef
from isola.runtimes import Capability
from isola.settings import boolean

_OF_DISCS = "virtio-scsi"
_QCOW2 = ".qcow2"


class BlockDisks:
    """What a disk device means for a guest with disks of its own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._host = parts.host

    def are(self, plug: Plug) -> bool:
        """Whether the device is such a disk: it has no path, or its volume is no file system."""
        config = plug.config
        if not config.get("path"):
            return True
        if not config.get("pool") or not config.get("source"):
            return False
        record = self._find(plug)
        return record is not None and record.content_type != FILESYSTEM

    def check(self, plug: Plug) -> None:
        """Raises InvalidInput if it is such a disk, and its instance has no block devices."""
        if not has_machine(plug.instance.isolation) and self.are(plug):
            missing = "" if plug.config.get("path") else ".path"
            raise InvalidInput(
                f"Device {plug.name!r} is a disk, which only virtual machines, microVMs and unikernels can have",
                field=f"{plug.field}{missing}",
                remedy="set a path inside, with a directory or a volume of content type filesystem as its source",
            )

    def require(self, plug: Plug, target: Target) -> None:
        """Raises Unsupported for guests without disks, or that get none while they run, InvalidInput for a path."""
        target.capabilities.require(Capability.DISKS)
        plan = None if target.running is None else target.running.plan
        if plan is not None and plug.name not in {disk.name for disk in plan.disks}:
            target.capabilities.require(Capability.PLUGGED_DISKS)
        if plug.config.get("path"):
            raise InvalidInput(
                "A disk has no path: the guest mounts what is on it",
                field=f"{plug.field}.path",
                remedy="leave it out",
            )
        record = self._find(plug) if plug.config.get("pool") else None
        if record is not None and record.content_type == FILESYSTEM:
            raise InvalidInput(
                f"The volume {record.name!r} has files, which need a mount point", field=f"{plug.field}.path"
            )

    async def open(self, plug: Plug) -> Disk | None:
        """The disk; None if its source does not exist and is not required. Undone by hiding its volume.

        Raises NotFound, InUse, InvalidInput, Forbidden.
        """
        if plug.config.get("pool"):
            return await self._of_volume(plug)
        return await self._of_host(plug, Path(plug.config["source"]))

    async def _of_volume(self, plug: Plug) -> Disk:
        ref, holder = self._ref(plug), f"{plug.instance.id}/{plug.name}"
        record = self._parts.volumes.get(ref)
        disc = record.content_type == ISO
        read_only = disc or _true(plug.config, "readonly")
        others = [each for each in record.attachments if each != holder]
        if others and not read_only:
            same = all(each.startswith(f"{plug.instance.id}/") for each in others)
            by = "another device of this instance" if same else "another instance"
            raise InUse(
                f"Storage volume {record.name!r} is in use by {by}, and two writers would destroy it",
                field=f"{plug.field}.source",
                remedy="detach it there, or attach it with readonly=true to all",
            )
        place = await self._parts.volumes.show(ref, holder, plug.instance.idmap)
        return self._disk(plug, place / VOLUME_DISK, DiskFormat.RAW, read_only=read_only, disc=disc)

    async def _of_host(self, plug: Plug, source: Path) -> Disk | None:
        if self._parts.disk_paths(plug.instance.project):
            raise Forbidden(
                f"Disks of the host are not allowed in project {plug.instance.project!r}",
                field=f"{plug.field}.source",
                remedy="import the file as a storage volume",
            )
        if not await self._host.files.exists(source):
            if not _required(plug.config):
                return None
            raise NotFound(f"{source} does not exist on the host", field=f"{plug.field}.source", remedy="create it")
        if await self._is_device(source):
            return self._disk(plug, source, DiskFormat.RAW, read_only=_true(plug.config, "readonly"), disc=False)
        try:
            header = await self._host.disk_images.header(source)
        except IsolaError as error:
            raise type(error)(
                error.message, evidence=error.evidence, remedy=error.remedy, field=f"{plug.field}.source"
            ) from error
        if header.format is DiskFormat.VMDK:
            raise Unsupported(
                "VMDK files are imported as images, and not used directly",
                field=f"{plug.field}.source",
                remedy="convert it to raw or qcow2",
            )
        read_only = header.disc or _true(plug.config, "readonly")
        if header.format is DiskFormat.QCOW2 and not read_only and source.suffix != _QCOW2:
            # A guest may have written the header to its raw disk, which another program would then grow without bound.
            raise InvalidInput(
                f"{source} is a qcow2 file by its content, and not by its name",
                field=f"{plug.field}.source",
                remedy=f"rename it to {source.name}{_QCOW2} if it is one, or attach it with readonly=true",
            )
        return self._disk(plug, source, header.format, read_only=read_only, disc=header.disc)

    async def _is_device(self, source: Path) -> bool:
        """Raises InvalidInput for a character device."""
        try:
            number = await self._host.nodes.find(source)
        except InvalidInput:
            return False
        if number.character:
            raise InvalidInput(f"{source} is not a block device")
        return True

    def _disk(self, plug: Plug, path: Path, format: DiskFormat, *, read_only: bool, disc: bool) -> Disk:
        boot, bus = int(plug.config.get("boot.priority") or 0), plug.config.get("io.bus", "")
        if disc and bus not in ("", _OF_DISCS):
            raise InvalidInput(
                f"Optical discs need a drive, which {bus} has not",
                field=f"{plug.field}.io.bus",
                remedy=f"use {_OF_DISCS}, or no io.bus",
            )
        return Disk(plug.name, path, format, read_only=read_only, cdrom=disc, boot=boot, bus=bus)

    def _find(self, plug: Plug) -> VolumeRecord | None:
        try:
            return self._parts.volumes.get(self._ref(plug))
        except NotFound:
            return None

    def _ref(self, plug: Plug) -> VolumeRef:
        return self._parts.volume_ref(plug.instance.project, plug.config["pool"], volume_name(plug.config))


def _required(config: Mapping[str, str]) -> bool:
    if config.get("required"):
        return boolean(config["required"])
    return not _true(config, "optional")


def _true(config: Mapping[str, str], key: str) -> bool:
    return boolean(config.get(key) or "false")
