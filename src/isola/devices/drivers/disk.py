"""Disks: the root, directories and files of the host, custom volumes, content of images, and file systems in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from isola.devices import values
from isola.devices.block_disks import BlockDisks
from isola.devices.copy_up import CopyUp
from isola.devices.driver import DeviceDriver, Parts, Plug, Target
from isola.devices.image_sources import IMAGE, image_name
from isola.devices.image_sources import SOURCE as OF_IMAGE
from isola.devices.image_sources import parse as parse_image
from isola.devices.image_trees import ImageTrees
from isola.devices.volume_sources import below as below_of
from isola.devices.volume_sources import parse, volume_name
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound, WrongState
from isola.host.guest_mounts import PROPAGATIONS, Graft
from isola.model.build import BUILDS
from isola.model.device import DeviceState
from isola.model.disk import Disk as BlockDisk
from isola.model.identity import IdRange
from isola.model.isolation import has_machine
from isola.model.volume import VolumeRef
from isola.operations import Operation
from isola.runtimes import Capability, WithDisks
from isola.settings import Setting, Settings, boolean, one_of, text, whole
from isola.storage.volume_mounts import VolumeMount, mount_of

ROOT = "/"
TMPFS = "tmpfs:"
_OPTIONS = {
    "ro": "read_only",
    "nosuid": "set_ids",
    "noexec": "executable",
    "rw": "",
    "exec": "",
    "suid": "",
    "nodev": "",
}
_TMPFS_KEYS = ("mode", "uid", "gid")
_MOUNT = "mount"
"""Key of the mount id in the note."""
_DISK = "disk"
"""Key of the path of the disk of a guest; empty if its source does not exist and is not required."""
_PROPAGATIONS = {f"r{kind}": kind for kind in PROPAGATIONS} | {kind: kind for kind in PROPAGATIONS}


def _source(value: str) -> str:
    if value.startswith("/"):
        return values.path_on_host(value)
    if value.startswith(OF_IMAGE):
        return parse_image(text(value))
    name, below = parse(text(value))
    if not name or name in (".", ".."):
        raise ValueError(
            "an absolute path of the host, a volume, VOLUME/PATH, image:NAME, or tmpfs: is expected, without .."
        )
    return f"{name}/{below}" if below else name


def _options(value: str) -> tuple[str, ...]:
    options = tuple(part.strip() for part in value.split(","))
    if any(option not in _OPTIONS for option in options):
        raise ValueError(f"options out of {', '.join(_OPTIONS)}, separated by commas, are expected")
    return options


class Disk(DeviceDriver):
    """Mounted into the instance's mount namespace, from a detached mount made on the host."""

    example: ClassVar[Mapping[str, str]] = {"source": "tmpfs:", "path": "/scratch", "size": "64MiB"}
    settings = Settings(
        "disk",
        Setting(
            "path", values.mount_point, "Mount point inside; `/` for the root file system, which each instance needs."
        ),
        Setting(
            "source",
            _source,
            "A path of the host, also of a block device with a file system, a custom volume of `pool`, by its name or"
            " with a path in it (`VOLUME/PATH`), the content of an image (`image:NAME`), or `tmpfs:`.",
        ),
        Setting("pool", text, "The storage pool of the root or of the custom volume."),
        Setting("size", values.size, "Size of a tmpfs (default 64MiB), or of the root if its pool has quotas."),
        Setting("readonly", boolean, "Mount it read-only, as the content of images always is.", "false", live=True),
        Setting(
            "recursive", boolean, "Include file systems that are mounted below a path of the host.", "false", live=True
        ),
        Setting(
            "propagation",
            one_of(*sorted(_PROPAGATIONS)),
            "Propagation of later mounts on the host or inside.",
            "private",
        ),
        Setting(
            "shift",
            boolean,
            "Shift owners of files of the host, so that the host's root is the instance's root; without it "
            "they belong to `nobody` inside. Custom volumes are always shifted.",
            "false",
        ),
        Setting(
            "shift.partial",
            boolean,
            "With `shift`: file systems whose owners cannot be shifted (`/proc`, overlays) are mounted all the same, "
            "and their files belong to `nobody` inside; without it the instance does not start.",
            "false",
        ),
        Setting("required", boolean, "Whether the instance fails to start if the source does not exist.", "true"),
        Setting("optional", boolean, "The opposite of `required`, used by older clients.", "false"),
        Setting("create", boolean, "Create a missing source on the host as a directory that belongs to root.", "false"),
        Setting(
            "copy",
            boolean,
            "Fill an empty custom volume with what the instance has at `path`: files, owners and permissions.",
            "false",
        ),
        Setting(
            "subpath", values.path_below, "A directory or file of the custom volume or image to mount, not all of it."
        ),
        Setting("mode", values.mode_of_directory, "Permission bits of a tmpfs, in octal.", "0755"),
        Setting("uid", whole(0, 65535), "Owner of a tmpfs inside.", "0"),
        Setting("gid", whole(0, 65535), "Group of a tmpfs inside; by default `uid`."),
        Setting(
            "boot.priority",
            whole(0, 1000),
            "Of a disk of a virtual machine: the firmware tries the highest first.",
            "0",
        ),
        Setting(
            "io.bus",
            one_of("nvme", "virtio-blk", "virtio-scsi"),
            "How a virtual machine sees the disk; by default as its runtime chooses.",
        ),
        Setting("raw.mount.options", _options, "Mount options, separated by commas."),
    )

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._copying = CopyUp(self.host)
        self._disks = BlockDisks(parts)
        self._images = ImageTrees(parts)

    @classmethod
    def check(cls, where: str, config: Mapping[str, str]) -> None:
        """The root, volumes, tmpfs and paths of the host have different keys."""
        path, source, pool = config.get("path"), config.get("source", ""), config.get("pool")
        if not path:
            _without_path(where, source, pool)
            return
        if path == ROOT:
            _only(where, config, "A root disk", ("path", "pool", "size", "readonly", "boot.priority", "io.bus"))
            if not pool:
                raise InvalidInput("A root disk needs a pool", field=f"{where}.pool", remedy="name a storage pool")
            return
        if not source:
            raise InvalidInput(
                f"The disk for {path} needs a source",
                field=f"{where}.source",
                remedy=f"a path of the host, a volume with its pool, {OF_IMAGE}NAME, or {TMPFS}",
            )
        if image_name(config):
            _check_image(where, config)
            return
        if source.startswith("/") and pool:
            raise InvalidInput("A path of the host has no pool", field=f"{where}.pool", remedy="leave it out")
        _check_volume(where, config)
        if source != TMPFS and config.get("size"):
            raise InvalidInput("Only a root and a tmpfs have a size here", field=f"{where}.size", remedy="leave it out")
        if source == TMPFS:
            _only(where, config, "A tmpfs", ("path", "source", "size", "readonly", "raw.mount.options", *_TMPFS_KEYS))
        for keys, what, fits in (
            (_TMPFS_KEYS, "a tmpfs", source == TMPFS),
            (("copy", "subpath"), "a custom volume", bool(pool)),
            (("create",), "a path of the host", source.startswith("/")),
        ):
            for key in keys:
                if config.get(key) and not fits:
                    raise InvalidInput(
                        f"Only {what} has the key {key!r}", field=f"{where}.{key}", remedy="leave it out"
                    )

    @classmethod
    def pool(cls, config: Mapping[str, str]) -> str | None:
        """The pool of the root or of a volume."""
        return config.get("pool")

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """Its mount point; None for a disk that is a block device."""
        return f"path {values.mount_point(config['path'])}" if config.get("path") else None

    @classmethod
    def order(cls, name: str, config: Mapping[str, str]) -> tuple[int, str]:
        """The root first, then each path before paths below it."""
        if not config.get("path"):
            return 1, name
        path = values.mount_point(config["path"])
        return (0 if path == ROOT else 1 + path.count("/")), path

    async def require(self, plug: Plug) -> None:
        """Its source exists, unless ``required`` is false."""
        source = plug.config.get("source", "")
        self._disks.check(plug)
        if _is_volume(plug.config):
            try:
                volume = self.parts.volumes.get(self._volume(plug))
            except NotFound as error:
                field = f"{plug.field}.source"
                raise NotFound(error.message, field=field, remedy="create the volume first") from error
            self.parts.permit_host_path(plug.instance.project, volume)
        if source.startswith("/") and required(plug.config) and not _true(plug.config, "create"):
            await self._find(plug, Path(source))

    async def choose(
        self, op: Operation, plug: Plug, known: DeviceState | None, *, starting: bool = False
    ) -> DeviceState:
        """An image is found by its name once."""
        return await self._images.choose(op, plug, known) if image_name(plug.config) else plug.state

    def lasting(self, state: DeviceState) -> DeviceState | None:
        """Its image, also if the name stands for another one by now."""
        return state if IMAGE in state.facts else None

    def _require(self, plug: Plug, target: Target) -> None:
        if self._disks.are(plug):
            self._disks.require(plug, target)
        elif plug.config.get("path") != ROOT:
            target.capabilities.require(Capability.MOUNTS)

    async def disk(self, op: Operation, plug: Plug) -> BlockDisk | None:
        """A volume with a disk, an image file or a block device of the host."""
        if not self._disks.are(plug):
            return None
        return await op.effect(
            f"open disk {plug.name}", lambda: self._open(plug), undo=lambda: self._detach(plug, None)
        )

    async def _open(self, plug: Plug) -> BlockDisk | None:
        disk = await self._disks.open(plug)
        await self.notes.write(plug.instance.id, plug.name, {_DISK: str(disk.path) if disk else ""})
        return disk

    async def _attach(self, plug: Plug, target: Target) -> None:
        if plug.config.get("path") == ROOT:
            return
        if self._disks.are(plug):
            guest = target.guest
            assert isinstance(guest, WithDisks)  # by _require
            if plug.name not in await guest.disks() and (disk := await self._open(plug)) is not None:
                await guest.add_disk(disk)
            return
        if image_name(plug.config):
            async with self._images.shown(plug) as files:
                await self._mount(plug, target, _image_graft(plug.config, files))
            return
        graft = await self._volume_graft(plug, target) if _is_volume(plug.config) else await self._graft(plug)
        if graft is not None:
            await self._mount(plug, target, graft)

    async def _mount(self, plug: Plug, target: Target, graft: Graft) -> None:
        async with AsyncExitStack() as stack:
            try:
                tree = await stack.enter_async_context(self.host.guest_mounts.prepare(graft))
            except (NotFound, Forbidden) as error:
                if not (below := _below(plug.config)):
                    raise
                raise _unreachable(plug, below, error) from error
            await self.notes.write(plug.instance.id, plug.name, {_MOUNT: str(tree.number)})
            await target.guest.mount(tree, values.mount_point(plug.config["path"]))

    async def _detach(self, plug: Plug, target: Target | None) -> None:
        if plug.config.get("path") == ROOT:
            return
        note = await self.notes.read(plug.instance.id, plug.name)
        if target is not None and note.get(_DISK) and isinstance(target.running, WithDisks):
            with contextlib.suppress(WrongState):  # its disks ended with it
                await target.running.remove_disk(plug.name)
        if target is not None and _MOUNT in note:
            with contextlib.suppress(WrongState):  # its mounts ended with it
                await target.guest.unmount(int(note[_MOUNT]))
        await self.notes.forget(plug.instance.id, plug.name)
        if _is_volume(plug.config):
            await self.parts.volumes.hide(self._volume(plug), _holder(plug))

    async def _attached(self, plug: Plug, target: Target) -> bool:
        if plug.config.get("path") == ROOT:
            return True
        note = await self.notes.read(plug.instance.id, plug.name)
        if _DISK in note:
            guest = target.guest
            return not note[_DISK] or (isinstance(guest, WithDisks) and plug.name in await guest.disks())
        return _MOUNT in note and int(note[_MOUNT]) in await target.guest.mounts()

    async def _graft(self, plug: Plug) -> Graft | None:
        """The mount; None if the source does not exist and is not required."""
        config, idmap = plug.config, plug.instance.idmap
        options = config.get("raw.mount.options", "").split(",")
        read_only = _true(config, "readonly") or "ro" in options
        set_ids, executable = "nosuid" not in options, "noexec" not in options
        if config["source"] == TMPFS:
            return _memory(config, idmap, read_only=read_only, executable=executable)
        source = Path(config["source"])
        if _true(config, "create"):
            await self._create(plug, source)
        if not required(config) and not await self.host.files.exists(source):
            return None
        await self._find(plug, source)
        beneath = self._beneath(plug, source)
        if beneath is not None and _true(config, "shift"):
            raise Forbidden(
                f"A disk of project {plug.instance.project!r} must not be shifted",
                field=f"{plug.field}.shift",
                evidence="root inside could write programs there that run as root of the host (set-user-ID)",
                remedy="see restricted.devices.disk.paths of the project",
            )
        if await self._is_block_device(source):
            return await self._device_graft(
                plug, Graft(source, read_only=read_only, set_ids=set_ids, executable=executable)
            )
        return Graft(
            source,
            beneath=beneath,
            read_only=read_only,
            recursive=_true(config, "recursive"),
            propagation=_PROPAGATIONS[config.get("propagation") or "private"],
            idmap=idmap if _true(config, "shift") else None,
            partial=_true(config, "shift.partial"),
            set_ids=set_ids,
            executable=executable,
        )

    async def _is_block_device(self, source: Path) -> bool:
        try:
            return not (await self.host.nodes.find(source)).character
        except InvalidInput:
            return False

    async def _device_graft(self, plug: Plug, graft: Graft) -> Graft:
        """The file system on a block device: the kernel that mounts it trusts what is on it."""
        source, project, where = graft.source, plug.instance.project, f"{plug.field}.source"
        assert source is not None
        if self.parts.disk_paths(project) or not self.parts.block_devices(project):
            raise Forbidden(
                f"Block devices of the host are not mounted in project {project!r}",
                field=where,
                remedy="see restricted.devices.unix-block and restricted.devices.disk.paths of the project",
            )
        if has_machine(plug.instance.isolation):
            remedy = "leave out path: the guest mounts it"
            raise InvalidInput(f"{source} is a disk for a guest with its own kernel", field=where, remedy=remedy)
        if not (kind := await self.host.nodes.file_system(source)):
            raise InvalidInput(
                f"{source} has no file system that can be mounted", field=where, remedy="make one on it, such as ext4"
            )
        return replace(graft, file_system=kind, idmap=plug.instance.idmap if _true(plug.config, "shift") else None)

    def _beneath(self, plug: Plug, source: Path) -> Path | None:
        """The directory to which the project limits the source; links in it must not lead out. None: no limit."""
        allowed = [Path(each) for each in self.parts.disk_paths(plug.instance.project)]
        if not allowed or source.is_relative_to(self.parts.directory / BUILDS):
            return None  # users who are limited cannot ask for a source of builds
        for each in allowed:
            if source.is_relative_to(each):
                return each
        raise Forbidden(
            f"{source} is not allowed in project {plug.instance.project!r}",
            field=f"{plug.field}.source",
            remedy="see restricted.devices.disk.paths of the project",
        )

    async def _create(self, plug: Plug, source: Path) -> None:
        """Not where a project limits the sources: the path could lead elsewhere by a symbolic link."""
        if await self.host.files.exists(source) or self._beneath(plug, source) is not None:
            return
        await self.host.files.make_directory(source, mode=0o755)

    async def _volume_graft(self, plug: Plug, target: Target) -> Graft:
        """The volume, mounted on the host for this device, with the instance's ids; or what it stands for."""
        ref, idmap = self._volume(plug), plug.instance.idmap
        volume = self.parts.volumes.get(ref)
        if (mount := mount_of(volume.config)) is not None:
            self.parts.permit_host_path(plug.instance.project, volume)
            return await self._stand_in(plug, mount)
        place = await self.parts.volumes.show(ref, _holder(plug), idmap)
        plan = target.guest.plan
        if _true(plug.config, "copy") and plan is not None:
            path = values.mount_point(plug.config["path"])
            await self._copying.fill(place, Path(ref.key), plan.root.path, path, idmap)
        options = plug.config.get("raw.mount.options", "").split(",")
        below = below_of(plug.config)
        return Graft(
            place / below,
            beneath=place if below else None,
            read_only=_true(plug.config, "readonly") or "ro" in options,
            propagation=_PROPAGATIONS[plug.config.get("propagation") or "private"],
            set_ids="nosuid" not in options,
            executable="noexec" not in options,
        )

    async def _stand_in(self, plug: Plug, mount: VolumeMount) -> Graft:
        """What a volume of a path of the host or of memory stands for."""
        options, idmap = plug.config.get("raw.mount.options", "").split(","), plug.instance.idmap
        graft = Graft(
            read_only=_true(plug.config, "readonly") or "ro" in options or mount.read_only,
            set_ids="nosuid" not in options and mount.set_ids,
            executable="noexec" not in options and mount.executable,
        )
        if mount.path is None:
            owner, group = idmap.outside(mount.uid), idmap.outside(mount.gid)
            return replace(graft, size=mount.size, owner=owner, group=group, mode=mount.mode, set_ids=False)
        below = below_of(plug.config)
        await self._find(plug, mount.path)
        return replace(
            graft,
            source=mount.path / below,
            beneath=self._beneath(plug, mount.path) or (mount.path if below else None),
            recursive=mount.recursive,
            propagation=_PROPAGATIONS[plug.config.get("propagation") or "private"],
            idmap=idmap,
        )

    def _volume(self, plug: Plug) -> VolumeRef:
        return self.parts.volume_ref(plug.instance.project, plug.config["pool"], volume_name(plug.config))

    async def _find(self, plug: Plug, source: Path) -> None:
        if not await self.host.files.exists(source):
            raise NotFound(
                f"{source} does not exist on the host",
                field=f"{plug.field}.source",
                remedy="create it, or set required=false",
            )


def _without_path(where: str, source: str, pool: str | None) -> None:
    """It is a block device: what its source contains is found out when it is attached."""
    if not source.startswith("/") and not (source and pool):
        raise InvalidInput("A disk needs a path", field=f"{where}.path", remedy="set its mount point inside")
    if source.startswith("/") and pool:
        raise InvalidInput("A path of the host has no pool", field=f"{where}.pool", remedy="leave it out")
    if "/" in source and pool:
        raise InvalidInput(
            "A path in a volume needs a mount point", field=f"{where}.path", remedy="set path, or name the volume alone"
        )


def _check_volume(where: str, config: Mapping[str, str]) -> None:
    source, pool = config.get("source", ""), config.get("pool")
    if not source.startswith("/") and source != TMPFS and not pool:
        raise InvalidInput(
            f"The volume {source[:80]!r} needs its pool",
            field=f"{where}.pool",
            remedy="name a storage pool, or begin with a slash for a path of the host",
        )
    if "/" in source and pool and config.get("subpath"):
        raise InvalidInput(
            "The path in the volume is given twice", field=f"{where}.subpath", remedy="leave it out of source"
        )


def _check_image(where: str, config: Mapping[str, str]) -> None:
    keys = ("path", "source", "subpath", "readonly", "raw.mount.options")
    _only(where, config, "A disk with the content of an image", keys)
    writable = config.get("readonly") and not _true(config, "readonly")
    if writable or "rw" in _options(config.get("raw.mount.options") or "ro"):
        raise InvalidInput(
            "The content of an image is always read-only",
            field=f"{where}.{'readonly' if writable else 'raw.mount.options'}",
            remedy="leave it out, or copy what is to be changed into a custom volume",
        )


def _image_graft(config: Mapping[str, str], files: Path) -> Graft:
    options, below = config.get("raw.mount.options", "").split(","), config.get("subpath", "")
    return Graft(
        files / below,
        beneath=files if below else None,
        read_only=True,
        set_ids="nosuid" not in options,
        executable="noexec" not in options,
    )


def _unreachable(plug: Plug, below: str, error: NotFound | Forbidden) -> IsolaError:
    """Without the path on the host, which may be one for a moment."""
    source = plug.config["source"].partition("/")[0] if plug.config.get("pool") else plug.config["source"]
    field = f"{plug.field}.subpath"
    if isinstance(error, NotFound):
        return NotFound(f"The path does not exist in {source}", evidence=below, field=field, remedy="name another one")
    return Forbidden(f"The path leads out of {source}", evidence=below, field=field, remedy=error.remedy)


def _memory(config: Mapping[str, str], idmap: IdRange, *, read_only: bool, executable: bool) -> Graft:
    owner = int(config.get("uid") or 0)
    return Graft(
        size=values.size(config.get("size") or "64MiB"),
        owner=idmap.outside(owner),
        group=idmap.outside(int(config.get("gid") or owner)),
        mode=values.mode_of_directory(config.get("mode") or "0755"),
        read_only=read_only,
        set_ids=False,
        executable=executable,
    )


def _is_volume(config: Mapping[str, str]) -> bool:
    source = config.get("source", "")
    return bool(source) and not source.startswith(("/", OF_IMAGE)) and source != TMPFS


def _below(config: Mapping[str, str]) -> str:
    """What of the volume or the image is mounted; empty: all of it, or something else."""
    if _is_volume(config):
        return below_of(config)
    return config.get("subpath", "") if image_name(config) else ""


def _holder(plug: Plug) -> str:
    return f"{plug.instance.id}/{plug.name}"


def required(config: Mapping[str, str]) -> bool:
    """Whether a missing source is an error."""
    if config.get("required"):
        return boolean(config["required"])
    return not _true(config, "optional")


def _true(config: Mapping[str, str], key: str) -> bool:
    return boolean(config.get(key) or "false")


def _only(where: str, config: Mapping[str, str], what: str, keys: tuple[str, ...]) -> None:
    for key in config:
        if key not in keys:
            raise InvalidInput(
                f"{what} has no key {key!r}", field=f"{where}.{key}", remedy=f"it may have {', '.join(keys)}"
            )


DRIVER = Disk
