"""What a tree changes of another one, found while both are walked side by side.

The tree is complete, or has changes only, with overlay's whiteouts and opaque directories. Both are hostile: paths are
resolved beneath their roots, without links and mounts, and only the entries of the directories on the way down are in
memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput
from isola.host import kernel
from isola.model.file_change import ChangeKind

_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_XDEV
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_LONGEST = 4000
"""Bytes of a path; the kernel takes 4095."""
_MARK = b".wh."
"""Names with this prefix have a meaning in layers, and cannot be files there."""
_PACKED = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)
_NOTHING: Mapping[bytes, os.stat_result] = {}
Entries = Mapping[bytes, os.stat_result]


@dataclass(frozen=True, slots=True)
class Found:
    """A path that differs. Of a deleted or added directory, what it contained is not reported, or reported as well."""

    path: bytes
    kind: ChangeKind


@dataclass(slots=True)
class _Level:
    path: bytes
    new: Entries
    old: Entries
    names: Iterator[bytes]
    whole: bool
    """Whether what the new directory lacks is deleted; otherwise only what it has a whiteout for."""
    reported: bool
    """Whether the directory itself was reported."""


class Comparing:
    """Two trees by descriptors of their roots; ``old`` None is an empty one."""

    def __init__(self, new: int, old: int | None, *, layered: bool, is_opaque: Callable[[int], bool]) -> None:
        self._new = new
        self._old = old
        self._layered = layered
        """Whether the tree has changes only."""
        self._is_opaque = is_opaque
        """Whether an open directory of the new tree hides all of the lower one."""
        self.skipped = 0
        """Number of files that a layer cannot contain: devices, sockets, and names with a meaning of their own."""

    def run(self) -> Iterator[Found]:
        """In the order of paths, a directory before its entries. Raises OSError, InvalidInput."""
        stack = [self._level(b"", whole=not self._layered, old=self._old is not None)]
        while stack:
            name = next(stack[-1].names, None)
            if name is None:
                stack.pop()
                continue
            found = self._entry(stack[-1], name, stack)
            if found is not None:
                yield from _found(stack)
                yield found

    def _level(self, path: bytes, *, whole: bool, old: bool, reported: bool = True) -> _Level:
        if len(path) > _LONGEST:
            raise InvalidInput("The tree is too deep to be packed", evidence=f"a path of {len(path)} bytes")
        new = _entries(self._new, path)
        below: Entries = _NOTHING
        if old and self._old is not None:
            below = _entries(self._old, path) if whole else _entries(self._old, path, only=new)
        names = sorted(new.keys() | below.keys()) if whole else sorted(new)
        return _Level(path, new, below, iter(names), whole, reported)

    def _entry(self, level: _Level, name: bytes, stack: list[_Level]) -> Found | None:
        path = level.path + b"/" + name if level.path else name
        here, there = level.new.get(name), level.old.get(name)
        if there is not None and _is_whiteout(there):
            there = None
        if here is None or name.startswith(_MARK) or stat.S_IFMT(here.st_mode) not in _PACKED:
            self.skipped += here is not None and not (self._layered and _is_whiteout(here))
            return None if there is None else Found(path, ChangeKind.DELETED)
        kind = ChangeKind.ADDED if there is None else ChangeKind.MODIFIED
        differs = there is None or self._layered or self._differs(path, here, there)
        if stat.S_ISDIR(here.st_mode):
            both = there is not None and stat.S_ISDIR(there.st_mode)
            whole = level.whole or (both and self._layered and self._opaque(path))
            stack.append(self._level(path, whole=whole, old=both, reported=differs))
        return Found(path, kind) if differs else None

    def _opaque(self, path: bytes) -> bool:
        descriptor = kernel.open_beneath(self._new, path, _DIRECTORY, _RESOLVE)
        try:
            return self._is_opaque(descriptor)
        finally:
            os.close(descriptor)

    def _differs(self, path: bytes, here: os.stat_result, there: os.stat_result) -> bool:
        if (here.st_ino, here.st_ctime_ns) == (there.st_ino, there.st_ctime_ns):
            return False  # unchanged since the snapshot was taken
        if any(getattr(here, each) != getattr(there, each) for each in ("st_mode", "st_uid", "st_gid")):
            return True
        if not stat.S_ISDIR(here.st_mode):
            if (here.st_size, here.st_mtime_ns) != (there.st_size, there.st_mtime_ns):
                return True
            if not stat.S_ISREG(here.st_mode):
                return False
        return self._old is not None and _attributes(self._new, path) != _attributes(self._old, path)


def _found(stack: list[_Level]) -> Iterator[Found]:
    """The directories above a path that differs."""
    for level in stack:
        if not level.reported:
            level.reported = True
            yield Found(level.path, ChangeKind.MODIFIED)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _entries(root: int, path: bytes, only: Entries | None = None) -> dict[bytes, os.stat_result]:
    """Status of all entries of a directory, or of those with the names in ``only``."""
    found: dict[bytes, os.stat_result] = {}
    descriptor = kernel.open_beneath(root, path or b".", _DIRECTORY, _RESOLVE)
    try:
        if only is not None:
            for name in only:
                if (status := _status(name, descriptor)) is not None:
                    found[name] = status
            return found
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if (status := _status(name, descriptor)) is not None:
                    found[name] = status
        return found
    finally:
        os.close(descriptor)


def _status(name: bytes, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:  # gone meanwhile
        return None


def _attributes(root: int, path: bytes) -> dict[str, bytes]:
    descriptor = kernel.open_beneath(root, path, _FILE, _RESOLVE)
    try:
        return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    finally:
        os.close(descriptor)
