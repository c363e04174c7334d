"""Walks over untrusted directory trees: by descriptor, never through a symbolic link, never across a mount."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isola.errors import HostFailure
from isola.host import kernel
from isola.host.directories import DIRECTORY

_RESOLVE = kernel.RESOLVE_NO_XDEV | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_BENEATH
_REMOVE_DEPTH = 48
"""Directories open at once. Deeper ones are first moved to the top, which bounds the number of descriptors."""
_COUNT_DEPTH = 2000
"""Deeper directories are assumed to be malicious, and are not counted."""
_MAX_LINKED = 200_000
"""Number of hard-linked files that are recognized; after that, each name counts its share of the size."""
_SMALL = 1 << 20
_PATH_SIZE = 4000
"""A system call accepts paths of up to 4095 bytes."""


def remove_tree(path: Path) -> None:
    """Remove a file or a tree; no effect if it is missing. Raises HostFailure, e.g. at a mount point."""
    try:
        parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # such as: no descriptor is left
        raise HostFailure(f"Cannot remove {path}", evidence=str(error)) from error
    try:
        name = os.fsencode(path.name)
        if not _unlink(parent, name):
            _Removal(parent, name).run()
    except OSError as error:
        why = "something is mounted in it" if error.errno in (errno.EXDEV, errno.EBUSY) else ""
        raise HostFailure(f"Cannot remove {path}", evidence=str(error), remedy=why) from error
    finally:
        os.close(parent)


def remove_small(path: Path) -> bool:
    """Remove a small file without delay; False if ``remove_tree`` is needed, True if there is no file."""
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode) or status.st_size > _SMALL:
            return False
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _unlink(parent: int, name: bytes) -> bool:
    """Remove a file that is not a directory; False if it is one."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    return True


@dataclass(slots=True)
class _Level:
    descriptor: int
    name: bytes
    directories: list[bytes]


class _Removal:
    """Removes one directory; a stack instead of recursion."""

    def __init__(self, parent: int, name: bytes) -> None:
        self._parent = parent
        self._name = name
        self._levels: list[_Level] = []
        self._moved = 0
        self._prefix = secrets.token_hex(8).encode()

    def run(self) -> None:
        try:
            self._enter(self._parent, self._name)
            while self._levels:
                level = self._levels[-1]
                if level.directories:
                    self._descend(level, level.directories.pop())
                else:
                    self._leave()
        finally:
            for level in self._levels:
                os.close(level.descriptor)

    def _descend(self, level: _Level, name: bytes) -> None:
        if len(self._levels) < _REMOVE_DEPTH:
            self._enter(level.descriptor, name)
            return
        top = self._levels[0]
        moved = b".removed-%s-%d" % (self._prefix, self._moved)
        self._moved += 1
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, moved, src_dir_fd=level.descriptor, dst_dir_fd=top.descriptor)
            top.directories.append(moved)

    def _enter(self, parent: int, name: bytes) -> None:
        try:
            descriptor = kernel.open_beneath(parent, name, DIRECTORY, _RESOLVE)
        except FileNotFoundError:
            return
        except OSError as error:
            # Replaced by a link or a file meanwhile: remove that.
            if error.errno not in (errno.ELOOP, errno.ENOTDIR) or not _unlink(parent, name):
                raise
            return
        level = _Level(descriptor, name, [])
        self._levels.append(level)
        with os.scandir(descriptor) as entries:
            for child in entries:
                if child.is_dir(follow_symlinks=False) or not _unlink(descriptor, os.fsencode(child.name)):
                    level.directories.append(os.fsencode(child.name))

    def _leave(self) -> None:
        level = self._levels.pop()
        os.close(level.descriptor)
        parent = self._levels[-1].descriptor if self._levels else self._parent
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(level.name, dir_fd=parent)


def disk_usage(directory: Path) -> int:
    """Bytes allocated below a directory, on its own file system; a file with several names counts once."""
    try:
        top = os.open(directory, DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return sum(_allocated(top))
    finally:
        os.close(top)


def without_links(directory: Path, root: Path | None = None) -> int:
    """A descriptor of a detached read-only mount of a tree, in which the kernel follows no symbolic link.

    For programs on the host that open files by path, while an instance may replace a directory by a symbolic link.
    With ``root`` the path of the directory itself is resolved in there, as in an instance with this root.
    """
    with contextlib.ExitStack() as stack:
        if root is not None:
            directory = Path(f"/proc/self/fd/{_resolved(stack, root, directory)}")
        tree = kernel.clone_tree(directory, recursive=root is None)
    try:
        attributes = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOSYMFOLLOW
        kernel.set_attributes(tree, attributes, recursive=True)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _resolved(stack: contextlib.ExitStack, root: Path, path: Path) -> int:
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, top)
    how = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
    found = kernel.open_beneath(top, os.fsencode(path), os.O_PATH | os.O_DIRECTORY, how)
    stack.callback(os.close, found)
    return found


@dataclass(frozen=True, slots=True)
class _Node:
    """A directory by its parent and its name: full paths would take memory quadratic in the depth."""

    parent: _Node | None
    name: bytes
    depth: int

    @property
    def path(self) -> bytes:
        names, node = [], self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return b"/".join([node.name, *reversed(names)])


def _allocated(top: int) -> Iterator[int]:
    pending = [_Node(None, b".", 0)]
    linked: set[int] = set()
    while pending:
        here = pending.pop()
        try:
            directory = _open_deep(top, here.path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                continue  # removed, replaced, or another file system
            raise HostFailure("Cannot count disk usage", evidence=str(error)) from error
        try:
            yield os.fstat(directory).st_blocks * 512
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if here.depth < _COUNT_DEPTH:
                            pending.append(_Node(here, os.fsencode(entry.name), here.depth + 1))
                    else:
                        yield _blocks(directory, entry.name, linked)
        finally:
            os.close(directory)


def _open_deep(top: int, path: bytes) -> int:
    here = os.dup(top)
    while len(path) > _PATH_SIZE:
        cut = path.rindex(b"/", 0, _PATH_SIZE)
        try:
            below = kernel.open_beneath(here, path[:cut], DIRECTORY, _RESOLVE)
        finally:
            os.close(here)
        here, path = below, path[cut + 1 :]
    try:
        return kernel.open_beneath(here, path, DIRECTORY, _RESOLVE)
    finally:
        os.close(here)


def _blocks(directory: int, name: str, linked: set[int]) -> int:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if status.st_nlink > 1:
        if status.st_ino in linked:
            return 0
        if len(linked) >= _MAX_LINKED:
            return status.st_blocks * 512 // status.st_nlink
        linked.add(status.st_ino)
    return status.st_blocks * 512
