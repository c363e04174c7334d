"""Files and block devices of the host that contain disks of guests, as open descriptors."""

from __future__ import annotations

import errno
import os
import stat


def open_disk(path: str, *, writable: bool) -> int:
    """Follows no symbolic link at its end. Raises OSError, also if it is no regular file or block device."""
    access = os.O_RDWR if writable else os.O_RDONLY
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "neither a regular file nor a block device", path)
    os.set_blocking(descriptor, True)
    return descriptor


def is_device(path: str) -> bool:
    """Whether it is a block device. Raises OSError."""
    return stat.S_ISBLK(os.lstat(path).st_mode)
