"""Trees of mounts whose owners are shifted where the file systems permit it, each mount for itself.

The kernel shifts a whole tree or nothing, and of a detached tree the top alone. So each mount is copied by itself,
shifted if that is possible, and all are put together again in a mount namespace of no one else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from isola.host import kernel, sealed_mounts
from isola.host.places import in_passing_thread

_BENEATH = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS


Give = Callable[[int, int, int | None], None]
"""Gives a detached mount attributes, and the ids of a user namespace. Raises OSError."""


def shifted(source: int, give: Give, attributes: int, space: int, *, recursive: bool) -> int:
    """A descriptor of a detached copy of what is at ``source`` (``O_PATH``), with the mounts below it if wanted."""
    with contextlib.ExitStack() as stack:
        top = _copy(source, give, attributes, space)
        stack.callback(os.close, top)
        below: list[tuple[bytes, int]] = []
        for path in _below(source) if recursive else ():
            # Gone meanwhile, hidden by another mount, or exchanged by who may write above it.
            with contextlib.suppress(OSError):
                found = kernel.open_beneath(source, path, os.O_PATH, _BENEATH)
                stack.callback(os.close, found)
                if kernel.is_mount_root(found):
                    below.append((path, _copy(found, give, attributes, space)))
                    stack.callback(os.close, below[-1][1])
        return in_passing_thread(lambda: _joined(top, below)) if below else os.dup(top)


def _copy(found: int, give: Give, attributes: int, space: int) -> int:
    tree = kernel.clone_tree_of(found)
    try:
        try:
            give(tree, attributes, space)
        except OSError:
            give(tree, attributes, None)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _joined(top: int, below: list[tuple[bytes, int]]) -> int:
    kernel.enter_mounts(sealed_mounts.stage())
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.attach_tree(top, sealed_mounts.DIRECTORY)
    root = os.open(sealed_mounts.DIRECTORY, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, tree in below:
            # Where a directory above has an owner without an id here, neither the daemon nor those inside can pass.
            with contextlib.suppress(OSError):
                place = kernel.open_beneath(root, path, os.O_PATH, _BENEATH)
                try:
                    kernel.attach_tree_to(tree, place)
                finally:
                    os.close(place)
        return kernel.clone_tree_of(root, recursive=True)
    finally:
        os.close(root)


def _below(source: int) -> list[bytes]:
    """Mount points below an open directory, relative to it, those above first."""
    top = os.fsencode(os.readlink(f"/proc/self/fd/{source}")).rstrip(b"/") + b"/"
    with open("/proc/thread-self/mountinfo", "rb") as table:
        points = {kernel.unescaped(line.split(b" ", 5)[4]) for line in table}
    return sorted(point.removeprefix(top) for point in points if point.startswith(top) and point != top)
