"""Open files inside a root, read and written at any offset (as SFTP does)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace

from isola.host import kernel
from isola.host.attempts import attempt
from isola.host.listing import entry_of
from isola.host.roots import Access, Changes, Entry
from isola.host.walking import Found, Place, Walker, require_file
from isola.model.identity import IdRange

_BLOCK = 256 * 1024
_OFFSET_LIMIT = 2**63 - 1
_DEFAULT_MODE = 0o644


class Handle:
    """One open regular file. Every method blocks."""

    def __init__(self, descriptor: int, ids: IdRange, found: Found, path: str) -> None:
        self.descriptor = descriptor
        self._ids = ids
        self._mine = replace(found, descriptor=descriptor)
        self._path = path

    def read(self, offset: int, size: int) -> bytes:
        """At most 256 KiB; empty at the end."""
        return os.pread(self.descriptor, min(size, _BLOCK), _checked(offset))

    def write(self, offset: int, data: bytes) -> None:
        _checked(offset + len(data))
        view = memoryview(data)
        while view:
            count = os.pwrite(self.descriptor, view, offset)
            view, offset = view[count:], offset + count

    def stat(self) -> Entry:
        """As it is now."""
        return entry_of(self.descriptor, self._ids)

    def change(self, changes: Changes) -> None:
        """Set what is not None."""
        if changes.size is not None:
            self._mine.require(2, self._path)
        if changes != Changes(size=changes.size):
            self._mine.require_own(self._path)
        apply(self.descriptor, changes, self._ids)

    def sync(self) -> None:
        """Content and metadata are on disk when this returns."""
        os.fsync(self.descriptor)

    def space(self) -> os.statvfs_result:
        """Of its file system."""
        return os.fstatvfs(self.descriptor)


def open_handle(walker: Walker, path: str, access: Access, mode: int | None, ids: IdRange) -> Handle:
    """Open a regular file, or create it for root inside. Raises OSError, Unsupported, InvalidInput.

    A directory can be opened too, but only for ``stat``: some clients open a path before they ask for its type.
    """
    flags = os.O_RDWR if access.read and access.write else os.O_WRONLY if access.write else os.O_RDONLY
    flags |= os.O_APPEND if access.append else 0
    if not (access.write or access.create):
        with walker.found(path) as found:
            if not stat.S_ISDIR(found.mode):
                require_file(found, path)
            found.require(4, path)
            return Handle(_reopened(found.descriptor, flags), ids, found, path)
    with walker.target(path) as place:
        if place.found is None:
            if access.create:
                place.directory.require_change(place.name, path)
            return Handle(_created(place, access, flags, mode, ids), ids, place.directory, path)
        if access.create and access.exclusive:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        require_file(place.found, path)
        place.found.require((4 if access.read else 0) | (2 if access.write else 0), path)
        flags |= os.O_TRUNC if access.write and access.truncate else 0
        return Handle(_reopened(place.found.descriptor, flags), ids, place.found, path)


def apply(descriptor: int, changes: Changes, ids: IdRange) -> None:
    """Set size, owner, mode and times, in this order: changing the owner clears set-user-id, the size the time."""
    path = f"/proc/self/fd/{descriptor}"
    if changes.size is not None:
        os.truncate(path, _checked(changes.size))
    if changes.uid is not None or changes.gid is not None:
        # Through /proc, for a mere reference (O_PATH) can be a symbolic link or a device, which are not opened.
        uid = -1 if changes.uid is None else ids.outside(changes.uid)
        os.chown(path, uid, -1 if changes.gid is None else ids.outside(changes.gid))
    if changes.mode is not None:
        os.chmod(path, changes.mode & 0o7777)
    if changes.accessed is not None or changes.modified is not None:
        before = os.fstat(descriptor)
        accessed = before.st_atime_ns if changes.accessed is None else changes.accessed * 10**9
        os.utime(path, ns=(accessed, before.st_mtime_ns if changes.modified is None else changes.modified * 10**9))


def _created(place: Place, access: Access, flags: int, mode: int | None, ids: IdRange) -> int:
    if not access.create:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if place.linked:  # a dangling link: its target is not created
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK
    within = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
    descriptor = kernel.open_beneath(place.directory.descriptor, place.name, flags, within, 0o600)
    try:
        os.fchown(descriptor, ids.outside(0), ids.outside(0))
        os.fchmod(descriptor, _DEFAULT_MODE if mode is None else mode & 0o7777)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _reopened(descriptor: int, flags: int) -> int:
    """Open an ``O_PATH`` descriptor that is known to be a regular file."""
    return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _checked(offset: int) -> int:
    if not 0 <= offset <= _OFFSET_LIMIT:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return offset


Closing = Callable[[int], Awaitable[None]]


class LinuxOpenFile:
    """An open file, by system calls in threads."""

    def __init__(self, closing: Closing, handle: Handle, path: str) -> None:
        self._closing = closing
        self._handle = handle
        self._path = path

    async def read(self, offset: int, size: int) -> bytes:
        """At most 256 KiB."""
        return await attempt(self._path, self._handle.read, offset, size)

    async def write(self, offset: int, data: bytes) -> None:
        await attempt(self._path, self._handle.write, offset, data)

    async def stat(self) -> Entry:
        """As it is now."""
        return await attempt(self._path, self._handle.stat)

    async def change(self, changes: Changes) -> None:
        """Set what is not None."""
        await attempt(self._path, self._handle.change, changes)

    async def sync(self) -> None:
        """To disk."""
        await attempt(self._path, self._handle.sync)

    async def space(self) -> os.statvfs_result:
        """Of its file system."""
        return await attempt(self._path, self._handle.space)

    async def close(self) -> None:
        """No effect if it is closed."""
        await self._closing(self._handle.descriptor)
