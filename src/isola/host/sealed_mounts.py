"""Mounts with locked attributes, which root in a user namespace cannot clear.

Root in a mount namespace may change the attributes of its mounts: an instance could make a read-only mount writable.
The kernel locks the attributes of mounts when a mount namespace is copied into another user namespace, so each mount
is passed through such a copy. The copy also turns mounts shared with the host into slaves: mounts made inside do not
appear on the host.
"""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from pathlib import Path

from isola.host import call_chain, kernel
from isola.host.places import in_passing_thread

DIRECTORY, FILE = Path("/directory"), Path("/file")


def sealed(tree: int, *, directory: bool, recursive: bool) -> int:
    """A descriptor of a detached copy with locked attributes of a detached mount, which is consumed. Raises OSError."""
    flags = 1 | os.O_CLOEXEC | (kernel.AT_RECURSIVE if recursive else 0)  # OPEN_TREE_CLONE
    place = DIRECTORY if directory else FILE

    def work() -> int:
        kernel.enter_mounts(stage())
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.attach_tree(tree, place)
        return call_chain.descriptor_of(
            [("unshare", kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)],
            ("syscall", kernel.OPEN_TREE, kernel.AT_FDCWD, os.fsencode(place), flags),
        )

    found = in_passing_thread(work)
    if not kernel.is_locked(found):  # the child could not create its namespaces, and opened the original
        os.close(found)
        raise OSError(errno.EPERM, "a user namespace with a mount namespace could not be created")
    return found


@lru_cache(1)
def stage() -> int:
    """A mount namespace with only an empty file and an empty directory as mount points, so that copying it is quick."""

    def work() -> int:
        kernel.unshare(kernel.CLONE_FS | kernel.CLONE_NEWNS)
        kernel.make_private(Path("/"))
        namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            root = kernel.new_file_system("tmpfs", {"source": "isola", "size": "64k", "mode": "0755"})
            try:
                os.mkdir(DIRECTORY.name, 0o755, dir_fd=root)
                os.close(os.open(FILE.name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=root))
                kernel.attach_tree(root, Path("/proc"))
                os.fchdir(root)
            finally:
                os.close(root)
            kernel.pivot_root(b".", b".")
            kernel.unmount(Path("."))
        except BaseException:
            os.close(namespace)
            raise
        return namespace

    return in_passing_thread(work)
