"""Trees of files that are copied out of an instance and into it as tar archives, as ``docker cp`` does.

All access is by ``Root``, which no path, link or race inside leads out of. An archive is written here as it is read;
one that comes in is listed by the confined process, and only the content of its files is read here, by its place.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress

from isola.errors import InvalidInput, IsolaError, NotFound, TooLarge
from isola.host import Host
from isola.host.archive.members import ArchiveIndex, ArchiveMember
from isola.host.files import Changes, Entry, Root
from isola.runtimes.users import choose

_MOST_WAITING = 200_000
"""Directories that were found and not listed yet."""
_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_LONGEST = 1 << 20
_TYPES = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}


async def read_tree(root: Root, path: str, name: str) -> AsyncIterator[bytes]:
    """A file, link or directory as a tar archive, in which it has this name; ``.`` for its content alone.

    Links are not followed; devices, sockets and what cannot be read is left out. Raises NotFound, TooLarge.
    """
    entry = await root.stat(path, follow=False)
    yield _header(name, entry)
    if entry.kind == "file":
        async for block in _content(root, path, entry.size):
            yield block
    waiting = [(path, name)] if entry.kind == "directory" else []
    while waiting:
        directory, above = waiting.pop()
        async for below, found in _listed(root, directory):
            inside = posixpath.join(directory, below)
            shown = posixpath.join(above, below)
            if found.kind == "directory":
                waiting.append((inside, shown))
                if len(waiting) > _MOST_WAITING:
                    raise TooLarge("The directory has too many directories to be copied")
            async for block in _member(root, inside, shown, found):
                yield block
    yield bytes(2 * _BLOCK)


async def _listed(root: Root, directory: str) -> AsyncIterator[tuple[str, Entry]]:
    """One after the other, in the order of names within each piece."""
    try:
        pieces = await root.entries(directory)
    except IsolaError:  # gone meanwhile, or a file system that is not entered
        return
    async for piece in pieces:
        for name, entry in sorted(piece, key=lambda each: each[0]):
            yield name, entry


async def _member(root: Root, path: str, name: str, entry: Entry) -> AsyncIterator[bytes]:
    if entry.kind not in _TYPES:
        return
    if entry.kind != "file":
        if entry.kind == "symlink" and not entry.target:
            with suppress(IsolaError):
                yield _header(name, entry, await root.target(path))
            return
        yield _header(name, entry)
        return
    content = _content(root, path, entry.size)
    try:
        first = await anext(content, b"")
    except IsolaError:  # gone meanwhile, or on a pseudo file system
        return
    yield _header(name, entry) + first
    async for block in content:
        yield block


async def _content(root: Root, path: str, size: int) -> AsyncIterator[bytes]:
    """As many bytes as the header says, whatever happens to the file meanwhile, and the padding."""
    left = size
    if size:
        async for block in await root.read(path):
            yield block[:left]
            left -= len(block[:left])
            if not left:
                break
    while left:
        yield bytes(min(left, 1 << 20))
        left -= min(left, 1 << 20)
    yield bytes(-size % _BLOCK)


def _header(name: str, entry: Entry, target: str = "") -> bytes:
    info = tarfile.TarInfo(name + "/" if entry.kind == "directory" else name)
    info.type = _TYPES.get(entry.kind, tarfile.REGTYPE)
    info.mode, info.uid, info.gid, info.mtime = entry.mode & 0o7777, entry.uid, entry.gid, max(0, entry.modified)
    info.size = entry.size if entry.kind == "file" else 0
    info.linkname = target or entry.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class Writing:
    """An archive that is unpacked to a directory of an instance."""

    def __init__(
        self, host: Host, root: Root, path: str, *, owner: tuple[int, int] | None = None, strict: bool = False
    ) -> None:
        """``owner`` of all files, None: as in the archive; ``strict``: no directory becomes a file, or a file one."""
        self._host = host
        self._root = root
        self._path = path
        self._owner = owner
        self._strict = strict

    async def run(self, index: ArchiveIndex) -> None:
        """All members in order, then the times of directories. Raises NotFound, InvalidInput, HostFailure."""
        for member in index.members:
            await self._put(index, member)
        for member in reversed([each for each in index.members if each.directory]):
            await self._date(member)

    async def _put(self, index: ArchiveIndex, member: ArchiveMember) -> None:
        path = posixpath.join(self._path, member.name)
        if not member.name:
            return
        uid, gid = self._owner or (member.uid, member.gid)
        there = await self._look(path)
        await self._make_room(path, member, there)
        if member.directory:
            if there is None or there.kind != "directory":
                await self._root.create_directory(path, mode=member.mode)
            await self._root.change(path, Changes(mode=member.mode, uid=uid, gid=gid))
        elif member.hard:
            await self._root.link(posixpath.join(self._path, member.link.lstrip("/")), path)
        elif member.link:
            await self._root.make_symlink(path, member.link, uid=uid, gid=gid)
        else:
            content = _pieces(self._host, index, member)
            await self._root.write(path, content, uid=uid, gid=gid, mode=member.mode)
            await self._date(member)

    async def _look(self, path: str) -> Entry | None:
        try:
            return await self._root.stat(path, follow=False)
        except NotFound:
            await self._make_parents(posixpath.dirname(path))
            return None

    async def _make_parents(self, path: str) -> None:
        missing = []
        while path not in ("", "/"):
            with suppress(NotFound):
                await self._root.stat(path)
                break
            missing.append(path)
            path = posixpath.dirname(path)
        uid, gid = self._owner or (0, 0)
        for directory in reversed(missing):
            await self._root.make_directory(directory, uid=uid, gid=gid, mode=0o755)

    async def _make_room(self, path: str, member: ArchiveMember, there: Entry | None) -> None:
        if there is None or (there.kind == "directory" and member.directory):
            return
        if self._strict and (there.kind == "directory") != member.directory:
            kinds = ("directory", "non-directory") if there.kind == "directory" else ("non-directory", "directory")
            raise InvalidInput(f'cannot overwrite {kinds[0]} "{path}" with {kinds[1]} "{member.name}"', field="path")
        if there.kind != "file" or member.link or member.directory:
            await self._root.remove(path)

    async def _date(self, member: ArchiveMember) -> None:
        path = posixpath.join(self._path, member.name)
        with suppress(IsolaError):
            await self._root.change(path, Changes(modified=member.modified, accessed=member.modified), follow=False)


async def _pieces(host: Host, index: ArchiveIndex, member: ArchiveMember) -> AsyncIterator[bytes]:
    for start in range(0, member.size, _PIECE):
        size = min(_PIECE, member.size - start)
        part = ArchiveMember(member.name, member.offset + start, size)
        yield await host.archives.content(index, part, size)


async def owner_of(root: Root, user: str) -> tuple[int, int]:
    """Ids of a user by number or by name in the instance's own files. Raises InvalidInput."""
    found = choose(user or "0", await _text(root, "/etc/passwd"), await _text(root, "/etc/group"), 2**32 - 1)
    return found.uid, found.gid


async def _text(root: Root, path: str) -> str:
    data = b""
    with suppress(IsolaError):
        async for block in await root.read(path):
            data += block
            if len(data) > _LONGEST:
                break
    return data.decode("utf-8", "replace")
