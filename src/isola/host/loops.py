"""Loop devices: image files as block devices that the kernel detaches automatically (autoclear)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

_GET_FREE, _CONFIGURE, _SET_CAPACITY, _GET_STATUS = 0x4C82, 0x4C0A, 0x4C07, 0x4C05
_AUTOCLEAR, _DIRECT_IO = 4, 16
_CONFIG_SIZE, _FLAGS_AT = 304, 60
"""``struct loop_config``: descriptor, block size, then ``struct loop_info64`` with its flags."""
_STATUS_SIZE = 232
_STATUS = struct.Struct("=QQQQQIIII")
"""Of ``struct loop_info64``: device and inode of the file, a device, offset, limit of the size, numbers, flags."""
_READ_ONLY = 1
_ATTEMPTS = 64


@contextlib.contextmanager
def attached(source: Path) -> Iterator[Path]:
    """A block device for ``source``: itself if it is one, else a loop device.

    The device is marked ``autoclear``: it is released when it is neither open nor mounted any more, so that one
    whose owner is killed, or whose mount is removed later, does not remain.

    One that has this file already is used again: a mount namespace of another process may have a copy of a mount that
    was removed here, and a file system that is mounted from two devices at a time is damaged.
    """
    if stat.S_ISBLK(os.stat(source).st_mode):
        yield source
        return
    file = os.open(source, os.O_RDWR | os.O_CLOEXEC)
    try:
        device, descriptor = _present(file) or _claim(file)
    finally:
        os.close(file)
    try:
        yield device
    finally:
        os.close(descriptor)


def grow(device: Path) -> None:
    """Update the size of a loop device after its file has grown."""
    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SET_CAPACITY)
    finally:
        os.close(descriptor)


def _present(file: int) -> tuple[Path, int] | None:
    """The device of this file, if there is one."""
    wanted = os.fstat(file)
    for bound in Path("/sys/block").glob("loop*/loop"):
        device = Path("/dev") / bound.parent.name
        with contextlib.suppress(OSError):  # it may be released at this moment
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                status = fcntl.ioctl(descriptor, _GET_STATUS, bytes(_STATUS_SIZE))
                backed, inode, _, offset, limit, *_, flags = _STATUS.unpack_from(status)
                whole = (backed, inode, offset, limit) == (wanted.st_dev, wanted.st_ino, 0, 0)
                if whole and not flags & _READ_ONLY:
                    fcntl.ioctl(descriptor, _SET_CAPACITY)
                    return device, os.dup(descriptor)
            finally:
                os.close(descriptor)
    return None


def _claim(file: int) -> tuple[Path, int]:
    """The first free device; if another process takes it first, the next one is requested."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(_ATTEMPTS):
            device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(descriptor, file)
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY or attempt == _ATTEMPTS - 1:
                    raise
                continue
            return device, descriptor
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")


def _configure(descriptor: int, file: int) -> None:
    try:
        fcntl.ioctl(descriptor, _CONFIGURE, _config(file, _AUTOCLEAR | _DIRECT_IO))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Not every file system below takes direct I/O (tmpfs does not).
        fcntl.ioctl(descriptor, _CONFIGURE, _config(file, _AUTOCLEAR))


def _config(file: int, flags: int) -> bytearray:
    config = bytearray(_CONFIG_SIZE)
    struct.pack_into("=I", config, 0, file)
    struct.pack_into("=I", config, _FLAGS_AT, flags)
    return config
