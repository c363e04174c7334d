"""Btrfs: subvolumes, snapshots and quotas, by the file system's own ioctls."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from isola.errors import AlreadyExists, CommandFailed, HostFailure, NotFound
from isola.host import kernel
from isola.host.directories import opened
from isola.host.exhaustion import full_by, has_no_room
from isola.host.process import Processes
from isola.host.threads import Work, in_long_thread, in_thread

T = TypeVar("T")
MAGIC = 0x9123683E
_FIRST_OBJECT = 256
"""Inode of every subvolume's root, and the lowest id a subvolume can have."""
_LIMIT_REFERENCED = 1
_ENABLE_SIMPLE_QUOTA = 4
_NO_LIMIT = (1 << 64) - 1
_SYSFS = Path("/sys/fs/btrfs")


def _request(number: int, size: int, direction: int = 1) -> int:
    """Number of a btrfs ioctl: direction 1 writes to the kernel, 2 reads from it, 3 does both."""
    return direction << 30 | size << 16 | 0x94 << 8 | number


_RESIZE, _DESTROY = _request(3, 4096), _request(15, 4096)
_SNAPSHOT, _CREATE = _request(23, 4096), _request(24, 4096)
_LOOKUP, _FS_INFO = _request(18, 4096, 3), _request(31, 1024, 2)
_QUOTA_CONTROL, _QGROUP_LIMIT = _request(40, 16, 3), _request(43, 48, 2)


class Subvolumes(Protocol):
    """Subvolumes of btrfs file systems. Paths are absolute."""

    async def format(self, device: Path, label: str) -> None:
        """Make a file system on a device or in a file that has none. Raises HostFailure."""
        ...

    async def supports(self, path: Path) -> bool:
        """Whether ``path`` is on btrfs."""
        ...

    async def create(self, path: Path) -> None:
        """A new empty subvolume. Raises AlreadyExists, NotFound, HostFailure."""
        ...

    async def snapshot(self, source: Path, target: Path) -> None:
        """An atomic writable snapshot, which shares all blocks with its source. Raises the same as ``create``."""
        ...

    async def delete(self, path: Path) -> bool:
        """Remove a subvolume and those nested in it; no effect if it is missing. Raises HostFailure.

        False if the path is not a subvolume; it is left alone then.
        """
        ...

    async def enable_quota(self, path: Path) -> None:
        """Enable simple quotas (Linux 6.7): usage is counted from now on. Raises HostFailure."""
        ...

    async def has_quota(self, path: Path) -> bool:
        """Whether quotas are enabled on the file system."""
        ...

    async def limit(self, path: Path, size: int | None) -> None:
        """Limit a subvolume to ``size`` bytes. Raises HostFailure."""
        ...

    async def usage(self, path: Path) -> int | None:
        """Bytes that the subvolume references, by its quota group; None without quotas."""
        ...

    async def fill_device(self, path: Path) -> None:
        """Grow the file system to the size that its device has now. Raises HostFailure."""
        ...


class LinuxSubvolumes:
    """By ioctl; only ``mkfs.btrfs`` is run as a program."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def format(self, device: Path, label: str) -> None:
        """Without ``--force``, so that the program refuses a device with a file system."""
        # One copy of the metadata: on a single disk a second copy protects from little.
        argv = ("mkfs.btrfs", "--quiet", "--metadata", "single", "--label", label, "--", str(device))
        try:
            await self._processes.run(argv, timeout=300)
        except CommandFailed as error:
            if await in_thread(has_no_room, device.parent):  # it speaks of an error of input or output
                raise full_by(error) from error
            raise

    async def supports(self, path: Path) -> bool:
        return await in_thread(_reported, path, lambda: _is_btrfs(path))

    async def create(self, path: Path) -> None:
        await in_thread(_reported, path, lambda: _create(path))

    async def snapshot(self, source: Path, target: Path) -> None:
        """The kernel flushes the source first, which takes time."""
        await in_long_thread(Work.COPY, _reported, target, lambda: _snapshot(source, target))

    async def delete(self, path: Path) -> bool:
        """The kernel frees the blocks afterwards, in the background."""
        return await in_long_thread(Work.REMOVE, _reported, path, lambda: _delete(path))

    async def enable_quota(self, path: Path) -> None:
        """Simple quotas: the full ones slow down every write of a file system with many snapshots."""
        await in_thread(_reported, path, lambda: _enable_quota(path))

    async def has_quota(self, path: Path) -> bool:
        return await in_thread(_reported, path, lambda: _has_quota(path))

    async def limit(self, path: Path, size: int | None) -> None:
        """A limit of the subvolume's own quota group."""
        await in_thread(_reported, path, lambda: _limit(path, size))

    async def usage(self, path: Path) -> int | None:
        """From sysfs; data that is not yet written to disk is not counted."""
        return await in_thread(_reported, path, lambda: _usage(path))

    async def fill_device(self, path: Path) -> None:
        await in_thread(_reported, path, lambda: _control(path, _RESIZE, _named(b"max")))


def _reported(path: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist", evidence=str(error)) from error
    except FileExistsError as error:
        raise AlreadyExists(f"{path} exists already", evidence=str(error)) from error
    except OSError as error:
        raise HostFailure(f"btrfs refused {path}", evidence=str(error)) from error


def _control(path: Path, request: int, argument: bytearray) -> bytearray:
    with opened(path) as descriptor:
        fcntl.ioctl(descriptor, request, argument)
    return argument


def _is_btrfs(path: Path) -> bool:
    with opened(path) as descriptor:
        return kernel.file_system_type(descriptor) == MAGIC


def _name(path: Path) -> bytes:
    name = os.fsencode(path.name)
    if not name or len(name) > 255:
        raise OSError(errno.ENAMETOOLONG, "a name of 1 to 255 bytes is expected", str(path))
    return name


def _named(name: bytes) -> bytearray:
    """``struct btrfs_ioctl_vol_args``."""
    return bytearray(struct.pack("=q4088s", 0, name))


def _named_v2(name: bytes, source: int = 0) -> bytearray:
    """``struct btrfs_ioctl_vol_args_v2``."""
    return bytearray(struct.pack("=qQQ32s4040s", source, 0, 0, b"", name))


def _create(path: Path) -> None:
    _control(path.parent, _CREATE, _named_v2(_name(path)))


def _snapshot(source: Path, target: Path) -> None:
    with opened(source) as descriptor:
        _control(target.parent, _SNAPSHOT, _named_v2(_name(target), descriptor))


def _delete(path: Path) -> bool:
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_ino != _FIRST_OBJECT or not _is_btrfs(path):
            return False
        _destroy(path)
    except FileNotFoundError:
        pass
    return True


def _destroy(path: Path) -> None:
    try:
        _control(path.parent, _DESTROY, _named(_name(path)))
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        for nested in _nested(path):
            _destroy(nested)
        _control(path.parent, _DESTROY, _named(_name(path)))


def _nested(path: Path) -> list[Path]:
    """Subvolumes that programs inside have created, found by a walk that follows no links."""
    found: list[Path] = []
    for top, directories, _ in os.walk(path):
        for name in list(directories):
            below = Path(top) / name
            status = os.lstat(below)
            if status.st_ino == _FIRST_OBJECT and status.st_dev != os.lstat(path).st_dev:
                found.append(below)
                directories.remove(name)
    return found


def _enable_quota(path: Path) -> None:
    try:
        _control(path, _QUOTA_CONTROL, bytearray(struct.pack("=QQ", _ENABLE_SIMPLE_QUOTA, 0)))
    except FileExistsError:
        return


def _limit(path: Path, size: int | None) -> None:
    wanted = _NO_LIMIT if size is None else size
    _control(path, _QGROUP_LIMIT, bytearray(struct.pack("=QQQQQQ", 0, _LIMIT_REFERENCED, wanted, 0, 0, 0)))


def _quota_directory(path: Path) -> Path:
    information = _control(path, _FS_INFO, bytearray(1024))
    return _SYSFS / str(uuid.UUID(bytes=bytes(information[16:32]))) / "qgroups"


def _has_quota(path: Path) -> bool:
    return (_quota_directory(path) / "enabled").exists()


def _usage(path: Path) -> int | None:
    found = _control(path, _LOOKUP, bytearray(struct.pack("=QQ4080s", 0, _FIRST_OBJECT, b"")))
    (number,) = struct.unpack_from("=Q", found)
    try:
        return int((_quota_directory(path) / f"0_{number}" / "referenced").read_text())
    except FileNotFoundError:
        return None
