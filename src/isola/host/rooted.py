"""Files in an instance's root: the kernel resolves every path with the root as ``/`` (``openat2``).

A file is opened with ``O_PATH`` first, and for reading or writing only when it is a regular file or a directory, so
that a FIFO cannot block the daemon and no device is opened. Files on pseudo file systems (proc, sysfs, ...) are listed,
but never read or written, because what they show depends on the reader, which is root of the host here. File systems
that may never respond (FUSE, NFS, ...) are not entered.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from isola.errors import NotFound
from isola.host.attempts import attempt, unreported
from isola.host.cancellation import finish
from isola.host.credentials import owner_of_files
from isola.host.drafts import Draft
from isola.host.handles import LinuxOpenFile, apply, open_handle
from isola.host.listing import entry_of, listed
from isola.host.mount_table import MountTable
from isola.host.proc import ProcessRef, open_of
from isola.host.renaming import link, rename
from isola.host.roots import Access, Changes, Entry, OpenFile, Root
from isola.host.walking import Walker, encoded, is_mount_point, just_made, require_file
from isola.model.identity import IdRange

P = ParamSpec("P")
T = TypeVar("T")
_BLOCK = 256 * 1024
_UNMAPPED = IdRange(0, 2**32)
_PIECE = 4096
"""Names of a directory that are processed in one piece."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


@asynccontextmanager
async def open_root(place: Path, idmap: IdRange | None) -> AsyncIterator[Root]:
    """The root at ``place``, open until the context ends."""

    def opened(stack: contextlib.ExitStack) -> LinuxRoot:
        try:
            root = os.open(place, _DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"There is no root at {place}", evidence=str(error)) from error
        stack.callback(os.close, root)
        mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, mounts)
        return LinuxRoot(root, MountTable(mounts, root, trusted=True), idmap)

    async with _opened(opened) as found:
        yield found


@asynccontextmanager
async def open_process_root(process: ProcessRef, idmap: IdRange | None) -> AsyncIterator[Root]:
    """The root directory of a process. Raises WrongState if it has ended."""

    def opened(stack: contextlib.ExitStack) -> LinuxRoot:
        root = open_of(process, "root", _DIRECTORY)
        stack.callback(os.close, root)
        mounts = open_of(process, "mountinfo")
        stack.callback(os.close, mounts)
        return LinuxRoot(root, MountTable(mounts, root, trusted=False), idmap)

    async with _opened(opened) as found:
        yield found


@asynccontextmanager
async def _opened(work: Callable[[contextlib.ExitStack], LinuxRoot]) -> AsyncIterator[Root]:
    with contextlib.ExitStack() as stack:
        root = await unreported(work, stack)
        stack.callback(root.close)
        yield root


class LinuxRoot:
    """One open root."""

    def __init__(self, root: int, mounts: MountTable, idmap: IdRange | None) -> None:
        self._walker = Walker(root, mounts, idmap)
        self._idmap = idmap
        self._ids = idmap or _UNMAPPED
        self._streams: set[int] = set()

    def close(self) -> None:
        """Close all descriptors that are still open."""
        for descriptor in self._streams:
            os.close(descriptor)
        self._streams.clear()

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        return await attempt(path, lambda: self._stat(path, follow))

    async def names(self, path: str) -> AsyncIterator[tuple[str, ...]]:
        descriptor = await attempt(path, lambda: self._open(path, os.O_RDONLY | os.O_DIRECTORY))
        self._streams.add(descriptor)
        return self._pieces(descriptor, path)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        descriptor = await attempt(path, lambda: self._open(path, os.O_RDONLY))
        self._streams.add(descriptor)
        return self._blocks(descriptor, path)

    async def write(
        self,
        path: str,
        content: AsyncIterator[bytes],
        *,
        uid: int,
        gid: int,
        mode: int | None,
        append: bool = False,
    ) -> None:
        set_owner = partial(self._set_owner_and_mode, uid=uid, gid=gid, mode=mode)
        stack = contextlib.ExitStack()
        try:
            draft = await attempt(path, self._as_root_inside, lambda: self._draft(stack, path, append))
            async for block in content:
                await attempt(path, draft.write, block)
            await attempt(path, self._as_root_inside, lambda: draft.commit(set_owner))
        finally:
            await finish(asyncio.ensure_future(unreported(stack.close)))  # deleting a large draft takes time

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        work = partial(self._make_directory, path, uid, gid, mode)
        await attempt(path, self._as_root_inside, work)

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """The target is not checked: the link is only followed inside the root."""
        work = partial(self._make_symlink, path, target, uid, gid)
        await attempt(path, self._as_root_inside, work)

    async def remove(self, path: str, *, files: bool = True, directories: bool = True) -> None:
        await attempt(path, lambda: self._remove(path, files, directories))

    async def open(self, path: str, access: Access, *, mode: int | None = None) -> OpenFile:
        work = partial(open_handle, self._walker, path, access, mode, self._ids)
        handle = await attempt(path, self._as_root_inside, work)
        self._streams.add(handle.descriptor)
        return LinuxOpenFile(self._closed, handle, path)

    async def create_directory(self, path: str, *, mode: int) -> None:
        work = partial(self._create_directory, path, 0, 0, mode)
        await attempt(path, self._as_root_inside, work)

    async def create_symlink(self, path: str, target: str) -> None:
        work = partial(self._create_symlink, path, target, 0, 0)
        await attempt(path, self._as_root_inside, work)

    async def target(self, path: str) -> str:
        return await attempt(path, lambda: self._target(path))

    async def entries(self, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        descriptor = await attempt(path, lambda: self._open(path, os.O_RDONLY | os.O_DIRECTORY))
        self._streams.add(descriptor)
        return self._listed(descriptor, path)

    async def change(self, path: str, changes: Changes, *, follow: bool = True) -> None:
        await attempt(path, lambda: self._change(path, changes, follow))

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        work = partial(rename, self._walker, old, new, replace=replace)
        await attempt(new, self._as_root_inside, work)

    async def link(self, old: str, new: str) -> None:
        await attempt(new, self._as_root_inside, partial(link, self._walker, old, new))

    async def space(self, path: str) -> os.statvfs_result:
        return await attempt(path, lambda: self._space(path))

    async def _closed(self, descriptor: int) -> None:
        """In a thread, because closing a file may write data."""
        if descriptor in self._streams:
            self._streams.remove(descriptor)
            await unreported(os.close, descriptor)

    # --- below runs in threads ----------------------------------------------------------------------------------

    def _as_root_inside(self, work: Callable[[], T]) -> T:
        """Create files as root of the instance: file systems mounted inside refuse owners whose ids are not mapped."""
        if self._idmap is None:
            return work()
        with owner_of_files(self._idmap.base):
            return work()

    def _stat(self, path: str, follow: bool) -> Entry:
        with self._walker.found(path, follow=follow) as found:
            return entry_of(found.descriptor, self._ids)

    def _open(self, path: str, flags: int) -> int:
        with self._walker.found(path) as found:
            if not flags & os.O_DIRECTORY:
                require_file(found, path)
            found.require(5 if flags & os.O_DIRECTORY else 4, path)
            # Safe now: it is a directory or a regular file.
            return os.open(f"/proc/self/fd/{found.descriptor}", flags | os.O_NONBLOCK | os.O_CLOEXEC)

    async def _pieces(self, descriptor: int, path: str) -> AsyncIterator[tuple[str, ...]]:
        try:
            with await attempt(path, os.scandir, descriptor) as entries:
                while piece := await attempt(path, _some_names, entries):
                    yield piece
        finally:
            self._close(descriptor)

    async def _listed(self, descriptor: int, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        try:
            with await attempt(path, os.scandir, descriptor) as names:
                work = partial(listed, self._walker, descriptor, names, path, self._ids)
                while piece := await attempt(path, work):
                    yield piece
        finally:
            self._close(descriptor)

    async def _blocks(self, descriptor: int, path: str) -> AsyncIterator[bytes]:
        try:
            while block := await attempt(path, os.read, descriptor, _BLOCK):
                yield block
        finally:
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        if descriptor in self._streams:
            self._streams.remove(descriptor)
            os.close(descriptor)

    def _draft(self, stack: contextlib.ExitStack, path: str, append: bool) -> Draft:
        place = stack.enter_context(self._walker.target(path))
        if place.found is not None:
            require_file(place.found, path)
            place.found.require(2, path)
        elif place.linked:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        place.directory.mount.require_store(path)
        if place.found is None or not append:
            place.directory.require_change(place.name, path)
        draft = Draft(place, append=append)
        stack.callback(draft.close)
        return draft

    def _set_owner_and_mode(
        self, descriptor: int, before: os.stat_result | None, *, uid: int, gid: int, mode: int | None
    ) -> None:
        """Ids below 0 and no mode mean those of the replaced file, or root of the instance and 0644."""
        old = (before.st_uid, before.st_gid) if before is not None else (self._ids.outside(0), self._ids.outside(0))
        owner = (old[0] if uid < 0 else self._ids.outside(uid), old[1] if gid < 0 else self._ids.outside(gid))
        if mode is None:
            mode = 0o644 if before is None else before.st_mode
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode & 0o7777)  # after fchown, which clears setuid

    def _make_directory(self, path: str, uid: int, gid: int, mode: int) -> None:
        with contextlib.suppress(FileNotFoundError), self._walker.found(path) as found:
            if stat.S_ISDIR(found.mode):
                return
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self._create_directory(path, uid, gid, mode)

    def _create_directory(self, path: str, uid: int, gid: int, mode: int) -> None:
        with self._walker.parent(path) as (directory, name):
            directory.require_change(name, path)
            os.mkdir(name, 0o700, dir_fd=directory.descriptor)
            with just_made(directory, name, os.O_RDONLY | os.O_DIRECTORY) as made:
                self._set_owner_and_mode(made, None, uid=uid, gid=gid, mode=mode)

    def _make_symlink(self, path: str, target: str, uid: int, gid: int) -> None:
        try:
            self._create_symlink(path, target, uid, gid)
        except FileExistsError:
            with self._walker.parent(path) as (directory, name):
                if _target(directory.descriptor, name) != encoded(target):
                    raise

    def _create_symlink(self, path: str, target: str, uid: int, gid: int) -> None:
        with self._walker.parent(path) as (directory, name):
            directory.require_change(name, path)
            os.symlink(encoded(target), name, dir_fd=directory.descriptor)
            owner = self._ids.outside(max(uid, 0)), self._ids.outside(max(gid, 0))
            with just_made(directory, name, os.O_PATH) as made:
                os.chown(f"/proc/self/fd/{made}", *owner)

    def _target(self, path: str) -> str:
        with self._walker.found(path, follow=False) as found:
            if not stat.S_ISLNK(found.mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return os.fsdecode(os.readlink(b"", dir_fd=found.descriptor))

    def _change(self, path: str, changes: Changes, follow: bool) -> None:
        with self._walker.found(path, follow=follow) as found:
            found.mount.require_store(path)
            if changes.size is not None:
                require_file(found, path)
                found.require(2, path)
            if changes != Changes(size=changes.size):
                found.require_own(path)
            apply(found.descriptor, changes, self._ids)

    def _space(self, path: str) -> os.statvfs_result:
        with self._walker.found(path) as found:
            return os.fstatvfs(found.descriptor)

    def _remove(self, path: str, files: bool, directories: bool) -> None:
        with self._walker.parent(path) as (directory, name):
            directory.require_change(name, path)
            # The kernel refuses mount points of the daemon's mount namespace only; an instance's would be detached.
            if is_mount_point(directory, name):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            if files:
                try:
                    os.unlink(name, dir_fd=directory.descriptor)
                    return
                except IsADirectoryError:
                    if not directories:
                        raise
            os.rmdir(name, dir_fd=directory.descriptor)


def _some_names(entries: Iterator[os.DirEntry[str]]) -> tuple[str, ...]:
    return tuple(sorted(_shown(os.fsencode(entry.name)) for entry in itertools.islice(entries, _PIECE)))


def _target(directory: int, name: bytes) -> bytes | None:
    """Target of a symbolic link; None if it has been removed meanwhile."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _shown(name: bytes) -> str:
    """File names may contain any bytes; invalid UTF-8 is replaced."""
    return name.decode("utf-8", "replace")
