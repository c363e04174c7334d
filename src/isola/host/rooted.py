"""An instance's root: every path is resolved with the root as ``/``, by the kernel (``openat2``) and never beyond it.

Nothing is opened before it is known to be a regular file or a directory (``O_PATH`` first), so that a FIFO cannot hold
us and a device is never touched. What lies on file systems that answer according to who opens them (proc, sysfs, ...)
is listed, never read or written, for we are the host's root; those that may not answer at all are not entered.
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

from isola.errors import HostFailure, InvalidInput, NotFound, Unsupported
from isola.host.cancellation import finish
from isola.host.credentials import owner_of_files
from isola.host.drafts import Draft
from isola.host.mount_table import MountTable
from isola.host.proc import ProcessRef, open_of
from isola.host.roots import Entry, Root
from isola.host.threads import Work, in_long_thread
from isola.host.walking import Found, Walker, encoded, is_mount_point, just_made
from isola.model.identity import IdRange

P = ParamSpec("P")
T = TypeVar("T")
_BLOCK = 256 * 1024
_PIECE = 4096
"""Names in a directory that are handled at once."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await in_long_thread(Work.INSIDE, function, *args, **kwargs)


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
    """What that very process sees as ``/``. Raises WrongState when it has ended."""

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
        root = await _in_thread(work, stack)
        stack.callback(root.close)
        yield root


class LinuxRoot:
    """One open root."""

    def __init__(self, root: int, mounts: MountTable, idmap: IdRange | None) -> None:
        self._walker = Walker(root, mounts)
        self._idmap = idmap
        self._streams: set[int] = set()

    def close(self) -> None:
        """Close every stream still open."""
        for descriptor in self._streams:
            os.close(descriptor)
        self._streams.clear()

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        """What is at ``path``."""
        return await _in_thread(_reported, path, lambda: self._stat(path, follow))

    async def names(self, path: str) -> AsyncIterator[tuple[str, ...]]:
        """The names in a directory, in pieces."""
        descriptor = await _in_thread(_reported, path, lambda: self._open(path, os.O_RDONLY | os.O_DIRECTORY))
        self._streams.add(descriptor)
        return self._pieces(descriptor, path)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """The content of a regular file."""
        descriptor = await _in_thread(_reported, path, lambda: self._open(path, os.O_RDONLY))
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
        """Create or replace the content, all at once when it is whole."""
        dress = partial(self._dress, uid=uid, gid=gid, mode=mode)
        stack = contextlib.ExitStack()
        try:
            draft = await _in_thread(_reported, path, self._as_root_inside, lambda: self._draft(stack, path, append))
            async for block in content:
                await _in_thread(_reported, path, draft.write, block)
            await _in_thread(_reported, path, self._as_root_inside, lambda: draft.commit(dress))
        finally:
            await finish(asyncio.ensure_future(_in_thread(stack.close)))  # what is dropped may be large

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Fine when the directory is there."""
        work = partial(self._make_directory, path, uid, gid, mode)
        await _in_thread(_reported, path, self._as_root_inside, work)

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """A symbolic link that may point anywhere: it is only ever followed inside."""
        work = partial(self._make_symlink, path, target, uid, gid)
        await _in_thread(_reported, path, self._as_root_inside, work)

    async def remove(self, path: str) -> None:
        """Remove a file, a link or an empty directory."""
        await _in_thread(_reported, path, lambda: self._remove(path))

    # --- below runs in threads ----------------------------------------------------------------------------------

    def _as_root_inside(self, work: Callable[[], T]) -> T:
        """What is made belongs to the instance from the beginning: its own tmpfs takes nothing else."""
        if self._idmap is None:
            return work()
        with owner_of_files(self._idmap.base):
            return work()

    def _stat(self, path: str, follow: bool) -> Entry:
        with self._walker.found(path, follow=follow) as found:
            status = os.fstat(found.descriptor)
            kind = _kind(status.st_mode)
            return Entry(
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=self._inside(status.st_uid),
                gid=self._inside(status.st_gid),
                size=status.st_size,
                target=_shown(os.readlink(b"", dir_fd=found.descriptor)) if kind == "symlink" else "",
                modified=int(status.st_mtime),
            )

    def _open(self, path: str, flags: int) -> int:
        with self._walker.found(path) as found:
            if not flags & os.O_DIRECTORY:
                _require_file(found, path)
            # Now that it is known to be a directory or a regular file.
            return os.open(f"/proc/self/fd/{found.descriptor}", flags | os.O_NONBLOCK | os.O_CLOEXEC)

    async def _pieces(self, descriptor: int, path: str) -> AsyncIterator[tuple[str, ...]]:
        try:
            with await _in_thread(_reported, path, os.scandir, descriptor) as entries:
                while piece := await _in_thread(_reported, path, _some_names, entries):
                    yield piece
        finally:
            self._close(descriptor)

    async def _blocks(self, descriptor: int, path: str) -> AsyncIterator[bytes]:
        try:
            while block := await _in_thread(_reported, path, os.read, descriptor, _BLOCK):
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
            _require_file(place.found, path)
        elif place.linked:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        place.directory.mount.require_store(path)
        draft = Draft(place, append=append)
        stack.callback(draft.close)
        return draft

    def _dress(self, descriptor: int, before: os.stat_result | None, *, uid: int, gid: int, mode: int | None) -> None:
        """What is not asked for is that of the file before, or root's."""
        old = (before.st_uid, before.st_gid) if before is not None else (self._outside(0), self._outside(0))
        owner = (old[0] if uid < 0 else self._outside(uid), old[1] if gid < 0 else self._outside(gid))
        if mode is None:
            mode = 0o644 if before is None else before.st_mode
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode & 0o7777)  # after fchown, which clears setuid

    def _make_directory(self, path: str, uid: int, gid: int, mode: int) -> None:
        with contextlib.suppress(FileNotFoundError), self._walker.found(path) as found:
            if stat.S_ISDIR(found.mode):
                return
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with self._walker.parent(path) as (directory, name):
            os.mkdir(name, 0o700, dir_fd=directory.descriptor)
            with just_made(directory, name, os.O_RDONLY | os.O_DIRECTORY) as made:
                self._dress(made, None, uid=uid, gid=gid, mode=mode)

    def _make_symlink(self, path: str, target: str, uid: int, gid: int) -> None:
        with self._walker.parent(path) as (directory, name):
            try:
                os.symlink(encoded(target), name, dir_fd=directory.descriptor)
            except FileExistsError:
                if _target(directory.descriptor, name) != encoded(target):
                    raise
                return
            owner = self._outside(max(uid, 0)), self._outside(max(gid, 0))
            with just_made(directory, name, os.O_PATH) as made:
                os.chown(f"/proc/self/fd/{made}", *owner)

    def _remove(self, path: str) -> None:
        with self._walker.parent(path) as (directory, name):
            # The kernel asks our own namespace only, and would take the mount away in the instance's.
            if is_mount_point(directory, name):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            try:
                os.unlink(name, dir_fd=directory.descriptor)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=directory.descriptor)

    def _outside(self, inner: int) -> int:
        return self._idmap.outside(inner) if self._idmap else inner

    def _inside(self, outer: int) -> int:
        return self._idmap.inside(outer) if self._idmap else outer


def _reported(path: str, work: Callable[..., T], *arguments: object) -> T:
    """Run, and speak of failures in our words."""
    try:
        return work(*arguments)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFound(f"{path!r} does not exist") from error
    except OSError as error:
        what = _REASONS.get(error.errno or 0)
        if what is None:
            raise HostFailure(f"The file system refused {path!r}", evidence=str(error)) from error
        raise InvalidInput(f"{path!r} {what}", field="path") from error


_REASONS = {
    errno.ENOTDIR: "is not a directory, or lies below something that is not",
    errno.EISDIR: "is a directory",
    errno.ENOTEMPTY: "is not empty",
    errno.EEXIST: "exists already",
    errno.ELOOP: "leads through a link that may not be followed",
    errno.ENAMETOOLONG: "is too long",
    errno.EXDEV: "leads outside",
    errno.EBUSY: "is a mount point",
    errno.EINVAL: "is not a valid path",
    errno.EROFS: "lies on a read-only file system",
}


def _require_file(found: Found, path: str) -> None:
    mode = found.mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise Unsupported(f"{path!r} is not a regular file", remedy="only files, directories and links are transferred")
    found.mount.require_store(path)


def _some_names(entries: Iterator[os.DirEntry[str]]) -> tuple[str, ...]:
    return tuple(sorted(_shown(os.fsencode(entry.name)) for entry in itertools.islice(entries, _PIECE)))


def _target(directory: int, name: bytes) -> bytes | None:
    """Where a link leads; None where there is none any more."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def _shown(name: bytes) -> str:
    """Names in a root may be any bytes; what goes out is always text."""
    return name.decode("utf-8", "replace")
