"""An instance's root by ``openat2``: every path is resolved by the kernel with the root as ``/``.

Nothing is opened before it is known to be a regular file or a directory (``O_PATH`` first), so that a FIFO cannot hold
us and a device is never touched. Kernel file systems (proc, sysfs, cgroup, ...) answer to whoever opens them, and we
are the host's root: their files are listed, never read or written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound, Unsupported
from isola.host import kernel
from isola.host.proc import ProcessRef, open_of
from isola.host.roots import Entry, Root
from isola.host.threads import in_thread
from isola.model.identity import IdRange

T = TypeVar("T")
_BLOCK = 256 * 1024
_INSIDE = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_KERNEL_FILE_SYSTEMS = {
    0x9FA0: "proc", 0x62656572: "sysfs", 0x27E0EB: "cgroup", 0x63677270: "cgroup2", 0x64626720: "debugfs",
    0x74726163: "tracefs", 0x73636673: "securityfs", 0xCAFE4A11: "bpf", 0x6165676C: "pstore", 0x62656570: "configfs",
    0xDE5E81E4: "efivarfs", 0xF97CFF8C: "selinuxfs", 0x43415D53: "smackfs", 0x6E736673: "nsfs",
    0x42494E4D: "binfmt_misc", 0x19800202: "mqueue",
}  # fmt: skip


@asynccontextmanager
async def open_root(place: Path, idmap: IdRange | None) -> AsyncIterator[Root]:
    """The root at ``place``, open until the context ends."""

    def opened() -> int:
        try:
            return os.open(place, _DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"There is no root at {place}", evidence=str(error)) from error

    async with _root(opened, idmap) as root:
        yield root


@asynccontextmanager
async def open_process_root(process: ProcessRef, idmap: IdRange | None) -> AsyncIterator[Root]:
    """What that very process sees as ``/``. Raises WrongState when it has ended."""
    async with _root(lambda: open_of(process, "root", _DIRECTORY), idmap) as root:
        yield root


@asynccontextmanager
async def _root(opened: Callable[[], int], idmap: IdRange | None) -> AsyncIterator[Root]:
    root = LinuxRoot(await in_thread(opened), idmap)
    try:
        yield root
    finally:
        root.close()


class LinuxRoot:
    """One open root."""

    def __init__(self, descriptor: int, idmap: IdRange | None) -> None:
        self._root = descriptor
        self._idmap = idmap
        self._streams: set[int] = set()

    def close(self) -> None:
        """Close the root and every stream still open."""
        for descriptor in (self._root, *self._streams):
            os.close(descriptor)
        self._streams.clear()

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        """What is at ``path``."""
        return await in_thread(_reported, path, lambda: self._stat(path, follow))

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """The content of a regular file."""

        def opened() -> int:
            with self._found(path) as found:
                return _reopen(found, path, os.O_RDONLY)

        descriptor = await in_thread(_reported, path, opened)
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
        """Create or replace the content; a new file that could not be filled is removed again."""
        descriptor, created = await in_thread(_reported, path, lambda: self._open_for_writing(path, append))
        try:
            async for block in content:
                await in_thread(_reported, path, _write_all, descriptor, block)
            owner = (0 if created and uid < 0 else uid, 0 if created and gid < 0 else gid)
            permissions = 0o644 if created and mode is None else mode
            await in_thread(_reported, path, lambda: self._dress(descriptor, *owner, permissions))
        except BaseException:
            if created:
                await in_thread(self._discard, path)
            raise
        finally:
            os.close(descriptor)

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Fine when the directory is there."""
        await in_thread(_reported, path, lambda: self._make_directory(path, uid, gid, mode))

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """A symbolic link that may point anywhere: it is only ever followed inside."""
        await in_thread(_reported, path, lambda: self._make_symlink(path, target, uid, gid))

    async def remove(self, path: str) -> None:
        """Remove a file, a link or an empty directory."""
        await in_thread(_reported, path, lambda: self._remove(path))

    # --- below runs in threads ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _found(self, path: str, *, follow: bool = True) -> Iterator[int]:
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        descriptor = kernel.open_beneath(self._root, _encoded(path) or b".", flags, _INSIDE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, bytes]]:
        """The directory that holds the last component, and that component."""
        directory, _, name = _encoded(path).rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            raise InvalidInput(f"{path!r} does not name anything in a directory", field="path")
        descriptor = kernel.open_beneath(self._root, directory or b".", _DIRECTORY, _INSIDE)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _stat(self, path: str, follow: bool) -> Entry:
        with self._found(path, follow=follow) as found:
            status = os.fstat(found)
            kind = _kind(status.st_mode)
            return Entry(
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=self._inside(status.st_uid),
                gid=self._inside(status.st_gid),
                size=status.st_size,
                names=_listed(found) if kind == "directory" else (),
                target=_shown(os.readlink(b"", dir_fd=found)) if kind == "symlink" else "",
            )

    async def _blocks(self, descriptor: int, path: str) -> AsyncIterator[bytes]:
        try:
            while block := await in_thread(_reported, path, os.read, descriptor, _BLOCK):
                yield block
        finally:
            if descriptor in self._streams:
                self._streams.remove(descriptor)
                os.close(descriptor)

    def _open_for_writing(self, path: str, append: bool) -> tuple[int, bool]:
        flags = os.O_WRONLY | (os.O_APPEND if append else 0)
        try:
            with self._found(path) as found:
                return _reopen(found, path, flags | (0 if append else os.O_TRUNC)), False
        except FileNotFoundError:
            with self._parent(path) as (directory, name):
                _refuse_kernel_file_system(directory, path)
                return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory), True

    def _dress(self, descriptor: int, uid: int, gid: int, mode: int | None) -> None:
        if uid >= 0 or gid >= 0:
            os.fchown(descriptor, self._outside(uid), self._outside(gid))
        if mode is not None:
            os.fchmod(descriptor, mode & 0o7777)  # after fchown, which clears setuid

    def _discard(self, path: str) -> None:
        with contextlib.suppress(OSError, IsolaError), self._parent(path) as (directory, name):
            os.unlink(name, dir_fd=directory)

    def _make_directory(self, path: str, uid: int, gid: int, mode: int) -> None:
        with contextlib.suppress(FileNotFoundError), self._found(path) as found:
            if stat.S_ISDIR(os.fstat(found).st_mode):
                return
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with self._parent(path) as (directory, name):
            _refuse_kernel_file_system(directory, path)
            os.mkdir(name, 0o700, dir_fd=directory)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                self._dress(made, max(uid, 0), max(gid, 0), mode)
            finally:
                os.close(made)

    def _make_symlink(self, path: str, target: str, uid: int, gid: int) -> None:
        with self._parent(path) as (directory, name):
            _refuse_kernel_file_system(directory, path)
            os.symlink(_encoded(target), name, dir_fd=directory)
            owner = self._outside(max(uid, 0)), self._outside(max(gid, 0))
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)

    def _remove(self, path: str) -> None:
        with self._parent(path) as (directory, name):
            _refuse_kernel_file_system(directory, path)
            try:
                os.unlink(name, dir_fd=directory)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=directory)

    def _outside(self, inner: int) -> int:
        if inner < 0:
            return -1
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


def _reopen(found: int, path: str, flags: int) -> int:
    """Open for use what so far is only a reference, once it is known to be a regular file."""
    mode = os.fstat(found).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise Unsupported(f"{path!r} is not a regular file", remedy="only files, directories and links are transferred")
    _refuse_kernel_file_system(found, path)
    return os.open(f"/proc/self/fd/{found}", flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _refuse_kernel_file_system(descriptor: int, path: str) -> None:
    kind = _KERNEL_FILE_SYSTEMS.get(kernel.file_system_type(descriptor) & 0xFFFFFFFF)
    if kind is not None:
        raise Unsupported(
            f"{path!r} lies on {kind}, a view of the kernel", remedy="read and write it by a command inside"
        )


def _listed(found: int) -> tuple[str, ...]:
    descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return tuple(sorted(_shown(os.fsencode(name)) for name in os.listdir(descriptor)))
    finally:
        os.close(descriptor)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def _shown(name: bytes) -> str:
    """Names in a root may be any bytes; what goes out is always text."""
    return name.decode("utf-8", "replace")


def _encoded(path: str) -> bytes:
    if "\0" in path:
        raise InvalidInput("A path cannot hold NUL", field="path")
    return path.encode("utf-8", "surrogateescape")


def _write_all(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
