"""Files of a client, by the protocol of its session: it lists all, and sends the content of some."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from posixpath import normpath
from urllib.parse import quote_plus

from isola.doors.docker.buildkit.calls import Call, Code, Failure, calling, require_ok
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import TooLarge

_METHOD = "/moby.filesync.v1.FileSync/DiffCopy"
_UPLOAD = "/moby.upload.v1.Upload/Pull"
_STAT, _REQUEST, _DATA, _FINISHED, _ERROR = range(5)
_DIRECTORY, _SYMLINK, _DEVICE, _PIPE, _SOCKET, _CHARACTERS = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24, 1 << 21
_BITS = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_MOST_FILES = 1_000_000
_SMALL, _TOGETHER, _MOST_TOGETHER = 64 << 10, 512, 4 << 20
"""Small files are requested many at once, because each round trip takes time, and wait in memory for their turn."""
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the list; the mode is in the bits of Go."""

    number: int
    path: str
    mode: int
    uid: int
    gid: int
    size: int
    modified: int
    """Nanoseconds since 1970."""
    link: str
    """Target of a symbolic link, or the path of an earlier entry that is the same file."""
    device: tuple[int, int]

    def moved(self, below: str) -> Entry:
        """In a directory of the archive, with a slash at its end. Other names of a file are in the same one."""
        if not below:
            return self
        is_other_name = bool(self.link) and not self.mode & _SYMLINK
        return replace(self, path=below + self.path, link=below + self.link if is_other_name else self.link)

    @property
    def has_content(self) -> bool:
        """A regular file that is no further name of another one."""
        special = _DIRECTORY | _SYMLINK | _DEVICE | _PIPE | _SOCKET | _CHARACTERS
        return not self.mode & special and not self.link


@dataclass(frozen=True, slots=True)
class Wanted:
    """A directory of the client by its name there, and which of its files."""

    directory: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def metadata(self) -> dict[str, list[str]]:
        """As headers; all patterns of a list are encoded, or none."""
        found = {"dir-name": [self.directory]}
        for name, patterns in (("include-patterns", self.include), ("exclude-patterns", self.exclude)):
            if patterns and not all(each.isascii() for each in patterns):
                found[name] = [quote_plus(each) for each in patterns]
                found[f"{name}-encoded"] = ["1"]
            elif patterns:
                found[name] = list(patterns)
        return found


async def small_files(session: Session, wanted: Wanted, most: int) -> dict[str, bytes]:
    """Content by path. Raises TooLarge, Failure, Broken."""
    found = {}
    async with calling(session.connection, _METHOD, wanted.metadata()) as call:
        for entry in await _entries(call):
            if entry.has_content:
                if entry.size > most:
                    raise TooLarge(f"{entry.path[:200]} has more than {most} bytes", field="dockerfile")
                found[entry.path] = (await _contents(call, [entry]))[entry.number]
        await _finish(call)
    return found


async def archive(session: Session, wanted: Wanted, below: str = "") -> AsyncIterator[bytes]:
    """All files as blocks of a tar archive, without its end. Raises Failure, Broken.

    ``below``: a directory of the archive, which is made, with a slash at its end.
    """
    if below:
        yield _head(_directory(below))
    async with calling(session.connection, _METHOD, wanted.metadata()) as call:
        group, size = list[Entry](), 0
        for entry in await _entries(call):
            group.append(entry.moved(below))
            size += entry.size if entry.has_content else 0
            if len(group) >= _TOGETHER or size > _MOST_TOGETHER or (entry.has_content and entry.size > _SMALL):
                async for block in _group(call, group):
                    yield block
                group, size = [], 0
        async for block in _group(call, group):
            yield block
        await _finish(call)


async def uploaded(session: Session, path: str) -> AsyncIterator[bytes]:
    """An archive that the client has as such. Raises Failure, Broken."""
    where = {"urlpath": [path], "urlhost": ["buildkit-session"]}
    async with calling(session.connection, _UPLOAD, where) as call:
        while (data := await call.read()) is not None:
            yield Message(data).blob(1)
        require_ok(call)


def tar_file(path: str, content: bytes) -> bytes:
    """One file of an archive."""
    info = tarfile.TarInfo(path)
    info.mode, info.size = 0o644, len(content)
    return _head(info) + content + bytes(-len(content) % _BLOCK)


async def _group(call: Call, entries: Sequence[Entry]) -> AsyncIterator[bytes]:
    small = [entry for entry in entries if entry.has_content and entry.size <= _SMALL]
    contents = await _contents(call, small)
    for entry in entries:
        info = _info(entry)
        if info is None:
            continue
        yield _head(info)
        if entry.number in contents:
            yield contents[entry.number] + bytes(-entry.size % _BLOCK)
        elif entry.has_content:
            async for block in _content(call, entry):
                yield block
            yield bytes(-entry.size % _BLOCK)


async def _entries(call: Call) -> list[Entry]:
    found: list[Entry] = []
    while True:
        packet = await _packet(call)
        if packet.number(1) != _STAT:
            raise Failure(Code.INVALID, "the client sends content before it has listed its files")
        if not packet.has(2):
            return found
        if len(found) >= _MOST_FILES:
            raise TooLarge(f"The build context has more than {_MOST_FILES} files", field="context")
        found.append(_entry(len(found), packet.inside(2)))


def _entry(number: int, fields: Message) -> Entry:
    path = fields.text(1).replace("\\", "/")
    if not path or path.startswith("/") or normpath(path) != path or path.split("/")[0] == ".." or "\0" in path:
        raise Failure(Code.INVALID, f"the client names a file {path[:80]!r}")
    return Entry(
        number,
        path,
        fields.number(2) & 0xFFFFFFFF,
        max(fields.number(3), 0) & 0xFFFFFFFF,
        max(fields.number(4), 0) & 0xFFFFFFFF,
        max(fields.number(5), 0),
        max(fields.number(6), 0),
        fields.text(7),
        (max(fields.number(8), 0), max(fields.number(9), 0)),
    )


async def _contents(call: Call, entries: Sequence[Entry]) -> dict[int, bytes]:
    """All of them together: the client sends them in whatever order it likes."""
    found = {entry.number: bytearray() for entry in entries}
    sizes = {entry.number: entry.size for entry in entries}
    await call.send(*(message({1: _REQUEST, 3: entry.number}) for entry in entries))
    missing = set(found)
    while missing:
        number, data = await _data(call, missing)
        found[number] += data
        if not data:
            missing.discard(number)
        if len(found[number]) > sizes[number] or (not data and len(found[number]) != sizes[number]):
            raise _changed(entries, number)
    return {number: bytes(data) for number, data in found.items()}


async def _content(call: Call, entry: Entry) -> AsyncIterator[bytes]:
    await call.send(message({1: _REQUEST, 3: entry.number}))
    size = 0
    while True:
        _, data = await _data(call, {entry.number})
        size += len(data)
        if size > entry.size or (not data and size != entry.size):
            raise _changed([entry], entry.number)
        if not data:
            return
        yield data


def _changed(entries: Sequence[Entry], number: int) -> Failure:
    path = next(entry.path for entry in entries if entry.number == number)
    return Failure(Code.UNKNOWN, f"{path[:200]} has changed while it was sent: build again")


async def _data(call: Call, expected: set[int]) -> tuple[int, bytes]:
    packet = await _packet(call)
    if packet.number(1) != _DATA or packet.number(3) not in expected:
        raise Failure(Code.INVALID, "the client sends what was not asked for")
    return packet.number(3), packet.blob(4)


async def _packet(call: Call) -> Message:
    data = await call.read()
    if data is None:
        require_ok(call)
        raise Failure(Code.UNKNOWN, "the client has ended the transfer of its files")
    packet = Message(data)
    if packet.number(1) == _ERROR:
        raise Failure(Code.UNKNOWN, packet.blob(4).decode("utf-8", "replace")[:1000])
    return packet


async def _finish(call: Call) -> None:
    await call.send(message({1: _FINISHED}))
    while (data := await call.read()) is not None:
        if Message(data).number(1) == _FINISHED:
            await call.stream.finish()
    require_ok(call)


def _info(entry: Entry) -> tarfile.TarInfo | None:
    """None for what no archive can hold."""
    info = tarfile.TarInfo(entry.path)
    info.mode = entry.mode & 0o777
    for bit, meaning in _BITS:
        info.mode |= meaning if entry.mode & bit else 0
    info.uid, info.gid, info.mtime = entry.uid, entry.gid, entry.modified // 10**9
    if entry.mode & _DIRECTORY:
        info.type = tarfile.DIRTYPE
    elif entry.mode & _SYMLINK:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
    elif entry.mode & _PIPE:
        info.type = tarfile.FIFOTYPE
    elif entry.mode & (_DEVICE | _CHARACTERS | _SOCKET):
        return None
    elif entry.link:
        info.type, info.linkname = tarfile.LNKTYPE, entry.link
    else:
        info.size = entry.size
    return info


def _directory(path: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.rstrip("/"))
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _head(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
