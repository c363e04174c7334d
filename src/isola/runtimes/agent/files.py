"""Files of a guest through its agent: a ``host.roots.Root``, and its open files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from isola.errors import InvalidInput, IsolaError
from isola.host.attempts import reported
from isola.host.roots import Access, Changes, Entry, OpenFile, Root
from isola.model.identity import ID_RANGE_SIZE
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.connection import Connection
from isola.runtimes.agent.methods import Work
from isola.runtimes.agent.wire import broken
from isola.runtimes.agent.worker import Worker

T = TypeVar("T")
_BLOCK = 256 * 1024
_NAMES, _ENTRIES = 4096, 128
_LONGEST = 8192
"""Bytes of a path; the guest's kernel refuses more than 4096."""
_DEFAULT_MODE = 0o644
_OFFSET_LIMIT = 2**63 - 1
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@asynccontextmanager
async def open_files(connection: Connection) -> AsyncIterator[Root]:
    """The guest's root, open until the context ends. Raises WrongState."""
    worker = await Worker.open(connection)
    try:
        yield AgentRoot(worker)
    finally:
        await worker.close()


class AgentRoot:
    """Paths are resolved by the guest's kernel; what it answers may be wrong, but is bounded."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        return _whole(await self._do(path, Work.STAT, _path(path).flag(follow)), read_entry)

    async def names(self, path: str) -> AsyncIterator[tuple[str, ...]]:
        return self._names(await self._directory(path), path)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        handle = await self._open(path, _path(path).number("II", 1, 0))
        await self._require(handle, path, directory=False)
        return self._blocks(handle, path)

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
        handle = _number(await self._do(path, Work.DRAFT, _path(path).flag(append)))
        try:
            async for block in content:
                await self.fill(handle, path, 0, block)
            ids = (-1 if uid < 0 else _id(uid), -1 if gid < 0 else _id(gid), -1 if mode is None else mode & 0o7777)
            await self._do(path, Work.COMMIT, Writer().number("Iqqq", handle, *ids))
        except BaseException:
            await self.forget(handle, path)
            raise

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        body = _path(path).number("IIIB", _id(uid), _id(gid), mode & 0o7777, 0)
        await self._do(path, Work.MAKE_DIRECTORY, body)

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        body = _path(path).text(_checked(target)).number("IIB", _id(uid), _id(gid), 0)
        await self._do(path, Work.MAKE_SYMLINK, body)

    async def remove(self, path: str, *, files: bool = True, directories: bool = True) -> None:
        await self._do(path, Work.REMOVE, _path(path).flag(files).flag(directories))

    async def open(self, path: str, access: Access, *, mode: int | None = None) -> OpenFile:
        permissions = _DEFAULT_MODE if mode is None else mode & 0o7777
        handle = await self._open(path, _path(path).number("II", _bits(access), permissions))
        return AgentFile(self, handle, path)

    async def create_directory(self, path: str, *, mode: int) -> None:
        await self._do(path, Work.MAKE_DIRECTORY, _path(path).number("IIIB", 0, 0, mode & 0o7777, 1))

    async def create_symlink(self, path: str, target: str) -> None:
        await self._do(path, Work.MAKE_SYMLINK, _path(path).text(_checked(target)).number("IIB", 0, 0, 1))

    async def target(self, path: str) -> str:
        return os.fsdecode((await self._do(path, Work.TARGET, _path(path))).rest())

    async def entries(self, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        return self._entries(await self._directory(path), path)

    async def change(self, path: str, changes: Changes, *, follow: bool = True) -> None:
        await self._do(path, Work.CHANGE, write_changes(_path(path), changes).flag(follow))

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        await self._do(new, Work.RENAME, _path(old).text(_checked(new)).flag(replace))

    async def link(self, old: str, new: str) -> None:
        await self._do(new, Work.LINK, _path(old).text(_checked(new)))

    async def space(self, path: str) -> os.statvfs_result:
        return _whole(await self._do(path, Work.SPACE, _path(path)), read_space)

    # --- how ----------------------------------------------------------------------------------------------------

    async def on(self, handle: int, path: str, operation: Work, body: Writer) -> Reader:
        """An operation on an open file."""
        return await self._do(path, operation, Writer().number("I", handle).raw(body.done()))

    async def fill(self, handle: int, path: str, offset: int, data: bytes) -> None:
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            await self.on(handle, path, Work.WRITE, Writer().number("Q", offset + at).raw(block))

    async def _do(self, path: str, operation: Work, body: Writer) -> Reader:
        return await self._worker.work(path, operation, body)

    async def _open(self, path: str, body: Writer) -> int:
        return _number(await self._do(path, Work.OPEN, body))

    async def forget(self, handle: int, path: str) -> None:
        """Close it, if the worker is still there."""
        with suppress(IsolaError):
            await self.on(handle, path, Work.CLOSE, Writer())

    async def _require(self, handle: int, path: str, *, directory: bool) -> None:
        try:
            entry = _whole(await self.on(handle, path, Work.HANDLE_STAT, Writer()), read_entry)
            if (entry.kind == "directory") is not directory:
                reported(path, _fail, errno.ENOTDIR if directory else errno.EISDIR)
        except BaseException:
            await self.forget(handle, path)
            raise

    async def _directory(self, path: str) -> int:
        handle = await self._open(path, _path(path).number("II", 1, 0))
        await self._require(handle, path, directory=True)
        return handle

    async def _listed(
        self, handle: int, path: str, most: int, read: Callable[[Reader], T], entries: bool
    ) -> tuple[T, ...]:
        answer = await self.on(handle, path, Work.LIST, Writer().number("IB", most, entries))
        return _whole(answer, lambda reader: reader.items(read, most))

    async def _names(self, handle: int, path: str) -> AsyncIterator[tuple[str, ...]]:
        try:
            while piece := await self._listed(handle, path, _NAMES, _shown_name, False):
                yield tuple(sorted(piece))
        finally:
            await self.forget(handle, path)

    async def _entries(self, handle: int, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        try:
            while piece := await self._listed(handle, path, _ENTRIES, _named_entry, True):
                yield piece
        finally:
            await self.forget(handle, path)

    async def _blocks(self, handle: int, path: str) -> AsyncIterator[bytes]:
        offset = 0
        try:
            while True:
                body = Writer().number("QI", offset, _BLOCK)
                block = (await self.on(handle, path, Work.READ, body)).rest()
                if len(block) > _BLOCK:
                    raise broken("more data than was wanted")
                if not block:
                    return
                yield block
                offset += len(block)
        finally:
            await self.forget(handle, path)


class AgentFile:
    """An open file of a worker."""

    def __init__(self, root: AgentRoot, handle: int, path: str) -> None:
        self._root = root
        self._handle = handle
        self._path = path
        self._closed = False

    async def read(self, offset: int, size: int) -> bytes:
        """At most 256 KiB."""
        wanted = min(size, _BLOCK)
        data = (await self._on(Work.READ, Writer().number("QI", self._offset(offset, 0), wanted))).rest()
        if len(data) > wanted:
            raise broken("more data than was wanted")
        return data

    async def write(self, offset: int, data: bytes) -> None:
        self._require()
        await self._root.fill(self._handle, self._path, self._offset(offset, len(data)), data)

    async def stat(self) -> Entry:
        """As it is now."""
        return _whole(await self._on(Work.HANDLE_STAT, Writer()), read_entry)

    async def change(self, changes: Changes) -> None:
        await self._on(Work.HANDLE_CHANGE, write_changes(Writer(), changes))

    async def sync(self) -> None:
        """To disk."""
        await self._on(Work.HANDLE_SYNC, Writer())

    async def space(self) -> os.statvfs_result:
        """Of its file system."""
        return _whole(await self._on(Work.HANDLE_SPACE, Writer()), read_space)

    async def close(self) -> None:
        """No effect if it is closed."""
        if not self._closed:
            self._closed = True
            await self._root.forget(self._handle, self._path)

    async def _on(self, operation: Work, body: Writer) -> Reader:
        self._require()
        return await self._root.on(self._handle, self._path, operation, body)

    def _require(self) -> None:
        if self._closed:
            reported(self._path, _fail, errno.EBADF)

    def _offset(self, offset: int, size: int) -> int:
        if offset < 0 or offset + size > _OFFSET_LIMIT:
            reported(self._path, _fail, errno.EINVAL)
        return offset


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def _checked(path: str) -> bytes:
    if "\0" in path:
        raise InvalidInput("A path cannot contain NUL", field="path")
    data = os.fsencode(path)
    if len(data) > _LONGEST:
        raise InvalidInput("A path is too long", field="path")
    return data


def _path(path: str) -> Writer:
    return Writer().text(_checked(path))


def _bits(access: Access) -> int:
    chosen = (access.read, access.write, access.append, access.create, access.exclusive, access.truncate)
    return sum(1 << place for place, wanted in enumerate(chosen) if wanted)


def _whole(reader: Reader, read: Callable[[Reader], T]) -> T:
    found = read(reader)
    reader.end()
    return found


def _number(reader: Reader) -> int:
    return _whole(reader, lambda inner: inner.number("I"))


def _shown_name(reader: Reader) -> str:
    return _name(reader).decode("utf-8", "replace")


def _named_entry(reader: Reader) -> tuple[str, Entry]:
    return os.fsdecode(_name(reader)), read_entry(reader)


def _id(number: int) -> int:
    """As ``IdRange.outside`` does: the volume has no files of other ids."""
    return number if 0 <= number < ID_RANGE_SIZE else 65534 if number > 0 else 0


def _name(reader: Reader) -> bytes:
    name = reader.data(longest=255)
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise broken("an invalid name")
    return name


def read_entry(reader: Reader) -> Entry:
    """Raises HostFailure."""
    mode, uid, gid, size, modified, accessed, links = reader.numbers("IIIQqqI")
    target = reader.text(4096)
    kind = _KINDS.get(stat.S_IFMT(mode), "other")
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(mode),
        uid=uid,
        gid=gid,
        size=size,
        target=target if kind == "symlink" else "",
        modified=modified,
        accessed=accessed,
        links=links,
        format=stat.S_IFMT(mode),
    )


def read_space(reader: Reader) -> os.statvfs_result:
    """Raises HostFailure."""
    return os.statvfs_result(reader.numbers("QQQQQQQQQQ"))


def write_changes(writer: Writer, changes: Changes) -> Writer:
    """Raises InvalidInput for a size below 0."""
    if changes.size is not None and not 0 <= changes.size <= _OFFSET_LIMIT:
        raise InvalidInput("A size cannot be below 0", field="size")
    ids = tuple(None if id is None else _id(id) for id in (changes.uid, changes.gid))
    values = (changes.size, changes.mode, *ids, changes.accessed, changes.modified)
    which = sum(1 << place for place, value in enumerate(values) if value is not None)
    size, mode, uid, gid, accessed, modified = (0 if value is None else value for value in values)
    return writer.number("BQIIIqq", which, size, mode & 0o7777, uid, gid, accessed, modified)
