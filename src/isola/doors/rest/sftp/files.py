"""SFTP requests on an instance's root. No request reaches the host's files."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator

from asyncssh import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    SFTPAttrs,
    SFTPFailure,
    SFTPName,
    SFTPNoSuchFile,
    SFTPOpUnsupported,
    SFTPServer,
    SFTPVFSAttrs,
)

from isola.doors.rest.sftp.stream import SftpStream
from isola.errors import IsolaError, NotFound, Unsupported
from isola.host.files import Access, Changes, Entry, OpenFile, Root

Publish = Callable[[str, str], None]
"""Called with ``retrieved``, ``pushed`` or ``deleted``, and the path."""
_DIRECTORY_MODE = 0o755
_TIME_LIMIT = 2**32 - 1
_ID_LIMIT = 2**32 - 2


class Handle:
    """A file that a client has opened."""

    def __init__(self, file: OpenFile, path: str) -> None:
        self.file = file
        self.path = path
        self.read = False
        self.written = False


class InstanceFiles(SFTPServer):
    """Overrides all methods of the base class that access the host's files."""

    def __init__(self, stream: SftpStream, root: Root, publish: Publish, admit: Callable[[], None]) -> None:
        super().__init__(stream)  # type: ignore[arg-type] # of the channel the logger is used, nothing else
        self._root = root
        self._publish = publish
        self._admit = admit

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> Handle:
        """Open or create a regular file."""
        self._admit()
        access = Access(
            read=bool(pflags & FXF_READ) or not pflags & FXF_WRITE,
            write=bool(pflags & FXF_WRITE),
            append=bool(pflags & FXF_APPEND),
            create=bool(pflags & FXF_CREAT),
            exclusive=bool(pflags & FXF_EXCL),
            truncate=bool(pflags & FXF_TRUNC),
        )
        with _errors_mapped():
            file = await self._root.open(_text(path), access, mode=attrs.permissions)
        handle = Handle(file, _text(path))
        handle.written = access.write and (access.create or access.truncate)
        return handle

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: SFTPAttrs) -> object:
        """Not in version 3."""
        raise SFTPOpUnsupported("Not offered")

    async def close(self, file_obj: object) -> None:
        """Close the file, and report whether it was read or written."""
        handle = _handle(file_obj)
        with _errors_mapped():
            await handle.file.close()
        if handle.written or handle.read:
            self._publish("pushed" if handle.written else "retrieved", handle.path)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Data at an offset; empty at EOF."""
        handle = _handle(file_obj)
        handle.read = True
        with _errors_mapped():
            return await handle.file.read(offset, size)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        handle = _handle(file_obj)
        handle.written = True
        with _errors_mapped():
            await handle.file.write(offset, data)
        return len(data)

    async def lstat(self, path: bytes) -> SFTPAttrs:
        """Attributes of a path; of a symbolic link itself, not its target."""
        with _errors_mapped():
            return _attributes(await self._root.stat(_text(path), follow=False))

    async def stat(self, path: bytes) -> SFTPAttrs:
        """Symbolic links are followed."""
        with _errors_mapped():
            return _attributes(await self._root.stat(_text(path)))

    async def fstat(self, file_obj: object) -> SFTPAttrs:
        """Attributes of an open file."""
        with _errors_mapped():
            return _attributes(await _handle(file_obj).file.stat())

    async def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Symbolic links are followed."""
        with _errors_mapped():
            await self._root.change(_text(path), _changes(attrs))

    async def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Set attributes of a path; of a symbolic link itself, which has no mode."""
        with _errors_mapped():
            await self._root.change(_text(path), _changes(attrs), follow=False)

    async def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Set attributes of an open file."""
        with _errors_mapped():
            await _handle(file_obj).file.change(_changes(attrs))

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """Without ``.`` and ``..``."""
        with _errors_mapped():
            pieces = await self._root.entries(_text(path))
        while (piece := await _next(pieces)) is not None:
            for name, entry in piece:
                yield SFTPName(os.fsencode(name), attrs=_attributes(entry))

    async def remove(self, path: bytes) -> None:
        """Delete anything but a directory."""
        with _errors_mapped():
            await self._root.remove(_text(path), directories=False)
        self._publish("deleted", _text(path))

    async def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Create a directory; fails if the path exists."""
        mode = _DIRECTORY_MODE if attrs.permissions is None else attrs.permissions & 0o7777
        with _errors_mapped():
            await self._root.create_directory(_text(path), mode=mode)
        self._publish("pushed", _text(path))

    async def rmdir(self, path: bytes) -> None:
        """Delete an empty directory."""
        with _errors_mapped():
            await self._root.remove(_text(path), files=False)
        self._publish("deleted", _text(path))

    def realpath(self, path: bytes) -> bytes:
        """The path without ``.``, ``..`` and double slashes; the working directory is always ``/``."""
        return os.fsencode(_text(path))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Fails if the target exists."""
        with _errors_mapped():
            await self._root.rename(_text(oldpath), _text(newpath), replace=False)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, and replace an existing target."""
        with _errors_mapped():
            await self._root.rename(_text(oldpath), _text(newpath), replace=True)

    async def readlink(self, path: bytes) -> bytes:
        """The target, unchanged."""
        with _errors_mapped():
            return os.fsencode(await self._root.target(_text(path)))

    async def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Create a symbolic link with an unchanged target, which is only ever followed inside the instance."""
        with _errors_mapped():
            await self._root.create_symlink(_text(newpath), os.fsdecode(oldpath))
        self._publish("pushed", _text(newpath))

    async def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Create a hard link."""
        with _errors_mapped():
            await self._root.link(_text(oldpath), _text(newpath))
        self._publish("pushed", _text(newpath))

    async def statvfs(self, path: bytes) -> SFTPVFSAttrs:
        """Statistics of a path's file system."""
        with _errors_mapped():
            return SFTPVFSAttrs.from_local(await self._root.space(_text(path)))

    async def fstatvfs(self, file_obj: object) -> SFTPVFSAttrs:
        """Statistics of an open file's file system."""
        with _errors_mapped():
            return SFTPVFSAttrs.from_local(await _handle(file_obj).file.space())

    async def fsync(self, file_obj: object) -> None:
        """Write the file to disk."""
        with _errors_mapped():
            await _handle(file_obj).file.sync()

    def format_user(self, uid: int | None) -> str:
        """The numeric id: the host's user names do not apply to the instance."""
        return str(uid or 0)

    def format_group(self, gid: int | None) -> str:
        """The numeric id, for the same reason."""
        return str(gid or 0)

    def map_path(self, path: bytes) -> bytes:
        """Never called: only methods that access the host use it."""
        raise SFTPOpUnsupported("Not offered")

    reverse_map_path = map_path


@contextlib.contextmanager
def _errors_mapped() -> Iterator[None]:
    """Maps errors to the few codes of version 3; the message has the details."""
    try:
        yield
    except NotFound as error:
        raise SFTPNoSuchFile(str(error)) from error
    except Unsupported as error:
        raise SFTPOpUnsupported(str(error)) from error
    except IsolaError as error:
        raise SFTPFailure(str(error)) from error


async def _next(pieces: AsyncIterator[tuple[tuple[str, Entry], ...]]) -> tuple[tuple[str, Entry], ...] | None:
    with _errors_mapped():
        return await anext(pieces, None)


def _handle(file_obj: object) -> Handle:
    assert isinstance(file_obj, Handle)
    return file_obj


def _text(path: bytes) -> str:
    """An absolute, normalized path. ``..`` is resolved lexically, as in OpenSSH's and LXD's servers."""
    return "/" + posixpath.normpath("/" + os.fsdecode(path)).lstrip("/")


def _attributes(entry: Entry) -> SFTPAttrs:
    return SFTPAttrs(
        size=entry.size,
        uid=entry.uid,
        gid=entry.gid,
        permissions=entry.format | entry.mode,
        atime=min(max(entry.accessed, 0), _TIME_LIMIT),
        mtime=min(max(entry.modified, 0), _TIME_LIMIT),
    )


def _changes(attrs: SFTPAttrs) -> Changes:
    return Changes(
        size=attrs.size,
        mode=None if attrs.permissions is None else attrs.permissions & 0o7777,
        uid=_id(attrs.uid),
        gid=_id(attrs.gid),
        accessed=None if attrs.atime is None else int(attrs.atime),
        modified=None if attrs.mtime is None else int(attrs.mtime),
    )


def _id(number: int | None) -> int | None:
    """The id; None for -1, which means no change."""
    return None if number is None or number > _ID_LIMIT else number
