"""A mount namespace with few mounts: it is copied quickly, and keeps few file systems of the host busy.

It contains the root file system without its submounts, ``/usr``, ``/dev``, new mounts of proc and sysfs with cgroup v2
only, one directory of the host with some of the mounts below it, and beside these an empty directory (the shelf) and
all cgroup hierarchies of the host.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from isola.host import kernel
from isola.host.places import in_passing_thread

_CGROUPS = Path("/sys/fs/cgroup")
_PLAIN = os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY


def shelf_in(directory: Path) -> Path:
    """Path of the empty directory in the namespace for ``directory``. Pure."""
    return _beside(directory) / "shelf"


def cgroups_in(directory: Path) -> Path:
    """Path in that namespace of what is at ``/sys/fs/cgroup`` on the host. Pure."""
    return _beside(directory) / "cgroup"


@functools.cache
def _beside(directory: Path) -> Path:
    """A directory that every root file system has, and on which a tmpfs does not hide ``directory``. Pure."""
    return Path("/tmp" if directory.is_relative_to("/run") else "/run")


def make(directory: Path, inside: Sequence[Path], unified: Path) -> int:
    """A descriptor of a new namespace with ``directory`` and what is mounted at the paths ``inside`` it.

    ``unified`` is where the host has mounted cgroup v2. Raises OSError.
    """
    return in_passing_thread(lambda: _made(directory, inside, unified))


def _made(directory: Path, inside: Sequence[Path], unified: Path) -> int:
    kernel.unshare(kernel.CLONE_FS | kernel.CLONE_NEWNS)
    kernel.make_private(Path("/"))
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.ExitStack() as stack:
            root = kernel.clone_tree(Path("/"))
            stack.callback(os.close, root)
            places = (Path("/usr"), Path("/dev"), *_mounts_to(directory, inside))
            copies = {place: kernel.clone_tree(place) for place in places}
            cgroups = [kernel.clone_tree(unified), kernel.clone_tree(_CGROUPS, recursive=True)]
            for tree in (*copies.values(), *cgroups):
                stack.callback(os.close, tree)
            kernel.attach_tree(root, Path("/proc"))
            for kind, place in (("proc", Path("/proc")), ("sysfs", Path("/sys")), ("tmpfs", _beside(directory))):
                _attach_new(root, kind, place)
            # A bind mount, because a new mount of cgroup2 takes the kernel ten milliseconds.
            _attach(root, cgroups[0], _CGROUPS)
            for place in (shelf_in(directory), cgroups_in(directory)):
                os.mkdir(_inside(place), dir_fd=root)
            _attach(root, cgroups[1], cgroups_in(directory))
            for place, tree in copies.items():
                _attach(root, tree, place)
            os.fchdir(root)
        # With the same path for both, the old root is stacked on top of the new one, and can be unmounted there.
        kernel.pivot_root(b".", b".")
        kernel.unmount(Path("."))
    except BaseException:
        os.close(namespace)
        raise
    return namespace


def _mounts_to(directory: Path, inside: Sequence[Path]) -> list[Path]:
    """The mount points above the directory, topmost first, the directory itself, and the mount points ``inside`` it."""
    above = [place for place in reversed(directory.parents) if place.parts[1:] and kernel.is_mount_point(place)]
    return [*above, directory, *(place for place in inside if place.exists() and kernel.is_mount_point(place))]


def _attach_new(root: int, kind: str, place: Path) -> None:
    options = {"mode": "0755", "size": "1m"} if kind == "tmpfs" else {}
    tree = kernel.new_file_system(kind, {"source": "isola", **options})
    try:
        _attach(root, tree, place)
    finally:
        os.close(tree)


def _attach(root: int, tree: int, place: Path) -> None:
    target = os.open(_inside(place), _PLAIN, dir_fd=root)
    try:
        kernel.attach_tree_to(tree, target)
    finally:
        os.close(target)


def _inside(place: Path) -> str:
    return str(place.relative_to("/"))
