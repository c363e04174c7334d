"""Files of the daemon, and files inside an instance's root, which are untrusted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from isola.errors import AlreadyExists, CommandFailed, HostFailure, NotFound, StorageFull
from isola.host import kernel, trees
from isola.host.building import New, build, make_directory
from isola.host.copying import Inside, command
from isola.host.exhaustion import reports_full_disk
from isola.host.file_systems import space_of, sync_all
from isola.host.layering import merge_layer
from isola.host.proc import ProcessRef
from isola.host.process import LinuxProcesses, Processes
from isola.host.reporting import reported as _reported
from isola.host.rooted import open_process_root, open_root
from isola.host.roots import Access, Changes, Entry, OpenFile, Root
from isola.host.spreading import spread
from isola.host.threads import Work, in_long_thread, in_thread
from isola.model.identity import IdRange
from isola.model.storage import Space

__all__ = ["Access", "Changes", "Entry", "Files", "LinuxFiles", "OpenFile", "Root"]

T = TypeVar("T")
Modes = Mapping[Path, int]
"""Directories with their permissions."""
_COPY_BLOCK = 1 << 20
_PIECE = 64 << 20
_TICK = 50_000_000
"""Nanoseconds, longer than a tick of any kernel's clock."""
_ELSEWHERE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class Files(Protocol):
    """The daemon's own files. Paths are absolute."""

    async def read(self, path: Path, size: int = -1) -> bytes:
        """The content, or the first ``size`` bytes of it. Raises NotFound."""
        ...

    def blocks(self, path: Path) -> AsyncIterator[bytes]:
        """The content in pieces of a MiB. Raises NotFound."""
        ...

    async def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        """Write atomically: temporary file, fsync, rename, fsync of the directory.

        Without ``durable`` the fsyncs are omitted, for files that are generated from the records at every start.
        """
        ...

    async def write_all(
        self,
        files: Mapping[Path, bytes],
        *,
        directories: Modes | None = None,
        without: Sequence[Path] = (),
        owners: Mapping[Path, int] | None = None,
    ) -> None:
        """Write several files in this order, each like ``write`` with its default mode, without ``durable``.

        Before that ``directories`` are created with these modes, and the files ``without`` are removed. Files in
        ``owners`` belong to this id and can be read by all.
        """
        ...

    async def refresh(self, files: Mapping[Path, bytes | None], *, mode: int = 0o600) -> bool:
        """Write the files whose content differs, and remove those with None; whether any existed before that.

        Not durable. An existing file is replaced atomically; a new one has its name before its content, so that a
        program that follows the directory must read it when it is closed, and an interruption may leave it incomplete.
        """
        ...

    def version(self, path: Path) -> Hashable | None:
        """Differs after each write of a small file; None if that is not certain, or if there is none.

        Only for files of the daemon that are in constant use: it does not read them, but looks at their status at once.
        """
        ...

    async def make_directory(self, *paths: Path, mode: int = 0o711, owner: int | None = None) -> None:
        """Create directories with their parents; no effect if they exist."""
        ...

    async def build(self, *news: New, needs: Sequence[Path] = (), flush: Sequence[Path] = ()) -> None:
        """Create directories and files in this order; then sync the files, and ``flush``, which exist then.

        Raises NotFound before any effect if one of ``needs`` does not exist. What a failure leaves is to be removed by
        the caller.
        """
        ...

    async def spread(self, *directories: Path) -> None:
        """Have the trees in these directories laid out apart from each other, if the file system can."""
        ...

    async def exists(self, path: Path) -> bool: ...

    async def size(self, path: Path) -> int:
        """Size of a file in bytes. Raises NotFound."""
        ...

    async def modified(self, path: Path) -> datetime:
        """When it was last written, in UTC. Raises NotFound."""
        ...

    async def names(self, directory: Path) -> tuple[str, ...]:
        """Names in a directory, sorted; empty if it does not exist."""
        ...

    async def read_all(self, directory: Path) -> Mapping[str, bytes]:
        """Content of the regular files in a directory, by name; empty if it does not exist."""
        ...

    async def rename(self, source: Path, target: Path) -> None:
        """Rename within one file system, durably."""
        ...

    async def remove_tree(self, path: Path, *, flush: Sequence[Path] = ()) -> None:
        """Remove a file or a tree; never crosses a mount point; no effect if it does not exist. Then ``flush``."""
        ...

    async def duplicate(self, source: Path, target: Path) -> None:
        """Copy a file to a new one, fsynced; blocks are shared if the file system can. Leaves no file if it fails."""
        ...

    async def extend(self, path: Path, data: bytes, *, at: int) -> None:
        """Write at an offset of a file, which is created if missing, and truncate it after the data. Not durable."""
        ...

    async def copy_tree(self, source: Path, target: Path, *, into: bool = False, inside: Inside | None = None) -> None:
        """Copy a directory and its content to a new one, or ``into`` an existing empty one.

        ``inside``: the path of the source is one inside an instance.

        Owners, modes, times, extended attributes, links and holes are kept.

        Blocks are shared if the file system can. Device nodes are copied as such, and so are overlay's whiteouts; what
        is mounted below is copied as ordinary files. On disk after ``sync``. Raises AlreadyExists, NotFound,
        HostFailure; the caller removes an incomplete copy.
        """
        ...

    async def merge_layer(self, layer: Path, target: Path) -> None:
        """Merge an unpacked layer with overlay's whiteouts into a tree; what they hide there is removed.

        Both are on one file system. Raises HostFailure; then both are incomplete, and the caller has to remove them.
        """
        ...

    async def exchange(self, one: Path, other: Path) -> None:
        """Exchange two names on one file system atomically and durably. Raises NotFound, HostFailure."""
        ...

    async def allocate(self, path: Path, size: int) -> None:
        """Create a sparse file of ``size`` bytes, or enlarge one to that size. Never shrinks it."""
        ...

    async def digest(self, *paths: Path, algorithm: str = "sha256") -> tuple[str, int]:
        """Digest (hexadecimal) and size of the content of files, one after the other. Raises NotFound."""
        ...

    async def copy(self, source: BinaryIO, target: Path) -> int:
        """Write a stream to a new file and fsync it; returns the bytes written."""
        ...

    async def disk_usage(self, directory: Path) -> int:
        """Bytes allocated below a directory, on its own file system."""
        ...

    async def space(self, directory: Path) -> Space:
        """Size and usage of the file system of a directory."""
        ...

    async def sync(self, directory: Path) -> None:
        """Sync the whole file system of ``directory``."""
        ...

    async def flush(self, *paths: Path) -> None:
        """Sync these files and directories (their own content, not what is below), in this order.

        Paths that do not exist are ignored: a removal is durable once its directory is fsynced.
        """
        ...

    def root(
        self, directory: Path | None = None, *, process: ProcessRef | None = None, idmap: IdRange | None = None
    ) -> AbstractAsyncContextManager[Root]:
        """Open an instance's root: a directory, or the root directory of a process. Ids are shifted by ``idmap``.

        Raises NotFound (no such directory) or WrongState (the process has ended).
        """
        ...


class LinuxFiles:
    """Uses system calls in threads, ``openat2`` for instance roots, and ``cp`` to copy trees."""

    def __init__(self, processes: Processes | None = None) -> None:
        self._processes = processes or LinuxProcesses()

    async def read(self, path: Path, size: int = -1) -> bytes:
        """The content, or its beginning."""
        return await in_thread(_reported, path, lambda: _read(path, size))

    async def blocks(self, path: Path) -> AsyncIterator[bytes]:
        """In threads."""
        file = await in_thread(_reported, path, lambda: path.open("rb", buffering=0))
        try:
            while block := await in_long_thread(Work.COPY, _reported, path, lambda: file.read(_COPY_BLOCK)):
                yield block
        finally:
            file.close()

    async def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        """Atomically and, by default, durably."""
        await in_thread(_reported, path, lambda: _replace(path, data, mode, durable))

    async def write_all(
        self,
        files: Mapping[Path, bytes],
        *,
        directories: Modes | None = None,
        without: Sequence[Path] = (),
        owners: Mapping[Path, int] | None = None,
    ) -> None:
        """In one thread."""
        await in_thread(_replace_all, files, directories or {}, without, owners or {})

    async def refresh(self, files: Mapping[Path, bytes | None], *, mode: int = 0o600) -> bool:
        """In one thread."""
        return await in_thread(_refresh, files, mode)

    def version(self, path: Path) -> Hashable | None:
        """Its times, size and number."""
        try:
            status = path.stat()
        except OSError:
            return None
        # A second write within one tick of the kernel's clock would not change the time.
        if time.time_ns() - status.st_mtime_ns < _TICK:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    async def make_directory(self, *paths: Path, mode: int = 0o711, owner: int | None = None) -> None:
        """With their parents."""
        await in_thread(_make_directories, paths, mode, owner)

    async def build(self, *news: New, needs: Sequence[Path] = (), flush: Sequence[Path] = ()) -> None:
        """In one thread."""
        await in_thread(_build, news, needs, flush)

    async def spread(self, *directories: Path) -> None:
        """By a flag of ext4."""
        await in_thread(lambda: [_reported(path, partial(spread, path)) for path in directories])

    async def exists(self, path: Path) -> bool:
        """Whether the name exists, even as a dangling link."""
        return await in_thread(os.path.lexists, path)

    async def size(self, path: Path) -> int:
        """Of the file that a link leads to."""
        return await in_thread(_reported, path, lambda: path.stat().st_size)

    async def modified(self, path: Path) -> datetime:
        """Of the file that a link leads to."""
        return await in_thread(_reported, path, lambda: datetime.fromtimestamp(path.stat().st_mtime, UTC))

    async def names(self, directory: Path) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        return await in_thread(_reported, directory, lambda: _names(directory))

    async def read_all(self, directory: Path) -> Mapping[str, bytes]:
        """In one thread."""
        return await in_thread(_reported, directory, lambda: _read_all(directory))

    async def rename(self, source: Path, target: Path) -> None:
        """Durably."""
        await in_thread(_reported, source, lambda: _rename(source, target))

    async def remove_tree(self, path: Path, *, flush: Sequence[Path] = ()) -> None:
        """Remove a file or a tree. Small files are removed at once, and do not wait for large trees."""
        if not await in_thread(_remove_small, path, flush):
            await in_long_thread(Work.REMOVE, _remove_tree, path, flush)

    async def duplicate(self, source: Path, target: Path) -> None:
        """Copied by the kernel in pieces, so that it can be cancelled."""
        reading = await in_thread(_reported, source, lambda: os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        try:
            writing = await in_thread(_reported, target, lambda: _create(target))
            done = False
            try:
                while await in_long_thread(Work.COPY, _reported, target, lambda: _copy_piece(reading, writing)):
                    pass
                await in_thread(_reported, target, lambda: _settle(target, writing))
                done = True
            finally:
                os.close(writing)
                if not done:
                    await in_thread(target.unlink, missing_ok=True)
        finally:
            os.close(reading)

    async def extend(self, path: Path, data: bytes, *, at: int) -> None:
        """In a thread."""
        await in_thread(_reported, path, lambda: _extend(path, data, at))

    async def copy_tree(self, source: Path, target: Path, *, into: bool = False, inside: Inside | None = None) -> None:
        """By another program."""
        if not into and await self.exists(target):
            raise AlreadyExists(f"{target} exists already")
        if inside is None and not await self.exists(source):
            raise NotFound(f"{source} does not exist")
        tree = await in_thread(_reported, source, lambda: trees.without_links(source, inside.root if inside else None))
        try:
            await self._processes.run(command(tree, target, inside), timeout=None, pass_fds=(tree,))
        except CommandFailed as error:
            kind = StorageFull if reports_full_disk(error.evidence) else HostFailure
            raise kind(f"Cannot copy {source} to {target}", evidence=error.evidence) from error
        finally:
            os.close(tree)

    async def merge_layer(self, layer: Path, target: Path) -> None:
        """In a thread of those for content."""
        await in_long_thread(Work.COPY, _reported, layer, lambda: merge_layer(layer, target))

    async def exchange(self, one: Path, other: Path) -> None:
        """By ``renameat2``."""
        await in_thread(_reported, one, lambda: _exchange(one, other))

    async def allocate(self, path: Path, size: int) -> None:
        """A sparse file."""
        await in_thread(_reported, path, lambda: _allocate(path, size))

    async def digest(self, *paths: Path, algorithm: str = "sha256") -> tuple[str, int]:
        """In a thread: hashing releases the interpreter lock."""
        return await in_long_thread(Work.COPY, _digest, paths, algorithm)

    async def copy(self, source: BinaryIO, target: Path) -> int:
        """Write a stream to a new file, block by block, so that it can be cancelled."""
        descriptor = await in_thread(_reported, target, lambda: _create(target))
        done = False
        try:
            size = 0
            while written := await in_thread(_reported, target, lambda: _copy_block(source, descriptor)):
                size += written
            await in_thread(_reported, target, lambda: _settle(target, descriptor))
            done = True
            return size
        finally:
            os.close(descriptor)
            if not done:
                await in_thread(target.unlink, missing_ok=True)

    async def disk_usage(self, directory: Path) -> int:
        """Bytes allocated below a directory."""
        return await in_long_thread(Work.MEASURE, trees.disk_usage, directory)

    async def space(self, directory: Path) -> Space:
        """Size and use of a file system."""
        return await in_thread(_reported, directory, lambda: space_of(directory))

    async def sync(self, directory: Path) -> None:
        """By ``syncfs``."""
        await in_long_thread(Work.COPY, _reported, directory, lambda: sync_all(directory))

    async def flush(self, *paths: Path) -> None:
        """Calls ``fsync`` for one after the other, in one thread."""
        await in_thread(_flush, paths)

    def root(
        self, directory: Path | None = None, *, process: ProcessRef | None = None, idmap: IdRange | None = None
    ) -> AbstractAsyncContextManager[Root]:
        """Open an instance's root."""
        if process is not None and directory is None:
            return open_process_root(process, idmap)
        if directory is None or process is not None:
            raise ValueError("either a directory or a process is expected")
        return open_root(directory, idmap)


def _read(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _read_all(directory: Path) -> dict[str, bytes]:
    found = {}
    for name in _names(directory):
        with contextlib.suppress(FileNotFoundError):
            if not (directory / name).is_symlink() and (directory / name).is_file():
                found[name] = _read(directory / name, -1)
    return found


def _digest(paths: tuple[Path, ...], algorithm: str) -> tuple[str, int]:
    total, size = hashlib.new(algorithm), 0
    for path in paths:
        with _reported(path, lambda path=path: path.open("rb")) as file:  # type: ignore[misc]
            hashlib.file_digest(file, lambda: total)
            size += file.tell()
    return total.hexdigest(), size


def _copy_piece(reading: int, writing: int) -> int:
    try:
        return os.copy_file_range(reading, writing, _PIECE)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        return os.sendfile(writing, reading, None, _PIECE)  # between different file systems


def _replace(path: Path, data: bytes, mode: int, durable: bool) -> None:
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}")
    descriptor = _create(temporary)
    try:
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)


def _replace_all(
    files: Mapping[Path, bytes], directories: Mapping[Path, int], without: Sequence[Path], owners: Mapping[Path, int]
) -> None:
    for path, mode in directories.items():
        _make_directories((path,), mode, None)
    for path in without:
        _reported(path, partial(path.unlink, missing_ok=True))
    for path, data in files.items():
        _reported(path, partial(_replace, path, data, 0o644 if path in owners else 0o600, False))
        if path in owners:
            _reported(path, partial(os.chown, path, owners[path], owners[path]))


def _refresh(files: Mapping[Path, bytes | None], mode: int) -> bool:
    return any([_reported(path, partial(_bring_to, path, data, mode)) for path, data in files.items()])


def _bring_to(path: Path, data: bytes | None, mode: int) -> bool:
    """Give a file this content, or remove it; whether it existed with another one."""
    try:
        if data is None:
            path.unlink()
            return True
        before = path.read_bytes()
    except FileNotFoundError:
        if data is not None:
            _write_new(path, data, mode)
        return False
    if before != data:
        _replace(path, data, mode, False)
    return before != data


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = _create(path)
    try:
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _build(news: Sequence[New], needs: Sequence[Path], flush: Sequence[Path]) -> None:
    for path in needs:
        if not os.path.lexists(path):
            raise NotFound(f"{path} does not exist")
    if news:
        _reported(news[0].path, lambda: build(news, flush))


def _remove_small(path: Path, flush: Sequence[Path]) -> bool:
    if removed := trees.remove_small(path):
        _flush(flush)
    return removed


def _remove_tree(path: Path, flush: Sequence[Path]) -> None:
    trees.remove_tree(path)
    _flush(flush)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _copy_block(source: BinaryIO, descriptor: int) -> int:
    block = source.read(_COPY_BLOCK)
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(block)


def _extend(path: Path, data: bytes, at: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, at)
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, at)
            view, at = view[written:], at + written
    finally:
        os.close(descriptor)


def _settle(path: Path, descriptor: int) -> None:
    os.fsync(descriptor)
    _sync_directory(path.parent)


def _make_directories(paths: tuple[Path, ...], mode: int, owner: int | None) -> None:
    for path in paths:
        _reported(path, partial(make_directory, path, mode, owner))


def _names(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(directory)))
    except FileNotFoundError:
        return ()


def _rename(source: Path, target: Path) -> None:
    os.rename(source, target)
    _sync_directory(target.parent)
    if source.parent != target.parent:
        _sync_directory(source.parent)


def _exchange(one: Path, other: Path) -> None:
    kernel.exchange(one, other)
    _sync_directory(one.parent)
    if other.parent != one.parent:
        _sync_directory(other.parent)


def _allocate(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    _fsync(directory, os.O_DIRECTORY)


def _flush(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(NotFound):
            _reported(path, partial(_fsync, path, os.O_NOFOLLOW))


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
