"""Renames files and creates hard links inside a root."""

from __future__ import annotations

import errno
import os

from isola.host import kernel
from isola.host.walking import Walker, is_mount_point


def rename(walker: Walker, old: str, new: str, *, replace: bool) -> None:
    """Within one mount. Raises OSError: EEXIST unless ``replace``, EBUSY for mount points."""
    with walker.parent(old) as (source, name), walker.parent(new) as (target, other):
        source.require_change(name, old)
        target.require_change(other, new)
        # The kernel refuses mount points of the daemon's mount namespace only; an instance's would be detached.
        if is_mount_point(source, name) or is_mount_point(target, other):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if replace:
            os.rename(name, other, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor)
        else:
            kernel.rename_new(source.descriptor, name, target.descriptor, other)


def link(walker: Walker, old: str, new: str) -> None:
    """Create a hard link; symbolic links are not followed. Raises OSError."""
    with walker.parent(old) as (source, name), walker.parent(new) as (target, other):
        with walker.found(old, follow=False) as found:
            found.require_own(old)
        target.require_change(other, new)
        os.link(name, other, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor, follow_symlinks=False)
