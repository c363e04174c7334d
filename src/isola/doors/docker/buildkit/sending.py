"""The result of a build to the client that wanted it: one archive, or files by the protocol of its session."""

from __future__ import annotations

import asyncio
import stat
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from isola.builds.exporting import Export
from isola.doors.docker.buildkit.calls import Call, Code, Failure, calling, require_ok
from isola.doors.docker.buildkit.http2 import Broken
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import HostFailure, TooLarge, Unsupported
from isola.host.roots import Entry, Root
from isola.host.several import several

METHOD = "/moby.filesync.v1.FileSend/DiffCopy"
_EXPORTER = "buildkit-attachable-exporter-id"
_STAT, _REQUEST, _DATA, _FINISHED, _ERROR = range(5)
_DIRECTORY, _SYMLINK = 1 << 31, 1 << 27
_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_MOST_FILES = 1_000_000
_BLOCK = 32 << 10
_LISTED_TOGETHER = 128
_SMALL, _TOGETHER, _AT_ONCE = _BLOCK, 64, 16
"""Small files are read side by side, and sent together: each has several waits for a thread."""


async def send_archive(session: Session, blocks: AsyncIterator[bytes], number: int = 0) -> None:
    """Raises HostFailure if the client does not take it."""
    async with _sending(session, number) as call:
        async for block in blocks:
            for start in range(0, len(block), _BLOCK):
                await call.send(message({1: block[start : start + _BLOCK]}))
        await call.stream.finish()
        while await call.read() is not None:
            pass
        require_ok(call)


async def send_files(session: Session, export: Export, number: int = 0) -> None:
    """Into the directory that the client has named for itself. Raises HostFailure, TooLarge, Unsupported."""
    async with export.tree() as root, _sending(session, number) as call:
        transfer = _Transfer(call, root)
        # The client asks for content while the list is still being sent.
        reading = asyncio.ensure_future(transfer.read())
        writing = asyncio.ensure_future(transfer.write())
        try:
            await asyncio.wait([reading, writing], return_when=asyncio.FIRST_EXCEPTION)
            # What the client says is the reason why writing fails, if it says something.
            for task in (reading, writing):
                if task.done():
                    await task
            await asyncio.gather(reading, writing)
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)


@asynccontextmanager
async def _sending(session: Session, number: int) -> AsyncIterator[Call]:
    """``number``: of the exporter in the client's request."""
    try:
        async with calling(session.connection, METHOD, {_EXPORTER: [str(number)]}) as call:
            yield call
    except Failure as error:
        raise HostFailure("The client cannot take the result", evidence=error.message[:1000]) from error
    except (Broken, ConnectionError) as error:
        raise HostFailure("The client has gone while it got the result", evidence=str(error)) from error


class _Transfer:
    """Listed files by number, and what the client has asked for."""

    def __init__(self, call: Call, root: Root | None) -> None:
        self._call = call
        self._root = root
        self._paths: dict[int, str] = {}
        """Of regular files that were not requested yet."""
        self._large = set[int]()
        self._count = 0
        self._asked = deque[int]()
        self._news = asyncio.Event()
        self._finished = False

    async def read(self) -> None:
        """Requests, to the client's end. Raises Failure, Broken."""
        while (data := await self._call.read()) is not None:
            packet = Message(data)
            kind = packet.number(1)
            if kind == _ERROR:
                raise Failure(Code.UNKNOWN, packet.blob(4).decode("utf-8", "replace")[:1000])
            if kind == _FINISHED:
                self._finished = True
            elif kind == _REQUEST and packet.number(3) in self._paths and len(self._asked) <= len(self._paths):
                self._asked.append(packet.number(3))
            else:
                raise Failure(Code.INVALID, "the client asks for a file that is not listed, or twice")
            self._news.set()
        require_ok(self._call)
        if not self._finished:
            raise Failure(Code.UNKNOWN, "the client has ended the transfer")

    async def write(self) -> None:
        """The list, then content. Raises Broken, and errors of the files."""
        if self._root is not None:
            await self._list(self._root, "")
        await self._call.send(message({1: _STAT}))
        while not self._finished or self._asked:
            while self._asked:
                await self._contents()
            self._news.clear()
            if not self._finished:
                await self._news.wait()
        await self._call.send(message({1: _FINISHED}))
        await self._call.stream.finish()

    async def _list(self, root: Root, directory: str) -> None:
        """In the order in which the client expects it: each directory before what is in it, by name."""
        pending, listed = [await _sorted(root, directory)], list[bytes]()
        while pending:
            if not pending[-1]:
                pending.pop()
                continue
            path, entry = pending[-1].pop()
            listed.append(self._numbered(path, entry))
            if len(listed) >= _LISTED_TOGETHER:
                await self._call.send(*listed)
                listed.clear()
            if entry.kind == "directory":
                pending.append(await _sorted(root, path))
        await self._call.send(*listed)

    def _numbered(self, path: str, entry: Entry) -> bytes:
        if self._count >= _MOST_FILES:
            raise TooLarge(f"The result has more than {_MOST_FILES} files", remedy="take it as an archive: type=tar")
        if entry.kind == "file":
            self._paths[self._count] = path
            if entry.size >= _SMALL:
                self._large.add(self._count)
        self._count += 1
        return message({1: _STAT, 2: _stat(path, entry)})

    async def _contents(self) -> None:
        """Of the next requests: one large file, or several small ones."""
        small = list[int]()
        while self._asked and len(small) < _TOGETHER and self._asked[0] not in self._large:
            small.append(self._asked.popleft())
        if not small:
            await self._large_content(self._asked.popleft())
            return
        found = await several([partial(self._whole, number) for number in small], _AT_ONCE)
        await self._call.send(*(each for messages in found for each in messages))

    async def _whole(self, number: int) -> list[bytes]:
        parts = [message({1: _DATA, 3: number, 4: part}) async for part in self._parts(number)]
        return [*parts, message({1: _DATA, 3: number})]

    async def _large_content(self, number: int) -> None:
        async for part in self._parts(number):
            await self._call.send(message({1: _DATA, 3: number, 4: part}))
        await self._call.send(message({1: _DATA, 3: number}))

    async def _parts(self, number: int) -> AsyncIterator[bytes]:
        path = self._paths.pop(number, None)
        if path is None or self._root is None:
            raise Failure(Code.INVALID, "the client asks for a file twice")
        async for block in await self._root.read(f"/{path}"):
            for start in range(0, len(block), _BLOCK):
                yield block[start : start + _BLOCK]


async def _sorted(root: Root, directory: str) -> list[tuple[str, Entry]]:
    """The last first; devices and sockets are left out."""
    found: list[tuple[str, Entry]] = []
    async for part in await root.entries(f"/{directory}"):
        found += [(name, entry) for name, entry in part if entry.kind != "other"]
        if len(found) > _MOST_FILES:
            raise TooLarge(f"The result has more than {_MOST_FILES} files", remedy="take it as an archive: type=tar")
    found.sort(reverse=True)
    prefix = f"{directory}/" if directory else ""
    return [(prefix + name, entry) for name, entry in found]


def _stat(path: str, entry: Entry) -> bytes:
    """Modes have the bits of Go."""
    try:
        path.encode()
        entry.target.encode()
    except UnicodeEncodeError:
        raise Unsupported(
            "The result has a file whose name is not UTF-8", evidence=repr(path[:200]),
            remedy="take it as an archive: type=tar",
        ) from None  # fmt: skip
    mode = entry.mode & 0o777
    for bit, meaning in _BITS:
        mode |= meaning if entry.mode & bit else 0
    mode |= {"directory": _DIRECTORY, "symlink": _SYMLINK}.get(entry.kind, 0)
    size = entry.size if entry.kind == "file" else 0
    return message({1: path, 2: mode, 3: entry.uid, 4: entry.gid, 5: size, 6: entry.modified * 10**9, 7: entry.target})
