"""Writes a tree as a tar archive, in a fixed order, with owners as seen inside. The tree is the process's ``/``."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from isola.errors import InvalidInput
from isola.host import kernel
from isola.host.archive.gzip_writer import GzipWriter
from isola.model.file_mode import FileMode
from isola.model.identity import IdRange

_BLOCK = 1 << 20
_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_XDEV
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")


def compressed(file: BinaryIO, kind: str, *, threads: int = 0) -> Any:
    """A writer whose output depends only on its input, and with zstd on whether there are threads."""
    if kind == "gzip":
        return GzipWriter(file)
    if kind == "bzip2":
        return bz2.BZ2File(file, "wb")
    if kind == "xz":
        return lzma.LZMAFile(file, "wb")
    if kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3, threads=threads, write_checksum=True).stream_writer(
            file, closefd=False
        )
    if kind in ("", "none"):
        return contextlib.nullcontext(file)
    raise InvalidInput(f"Unknown compression {kind!r}", remedy="use none, gzip, bzip2, xz or zstd", field="compression")


@dataclass(frozen=True, slots=True)
class Dress:
    """What all members get instead of their own."""

    uid: int | None = None
    gid: int | None = None
    mode: FileMode | None = None
    """Links have none."""
    modified: int | None = None

    def put_on(self, info: tarfile.TarInfo) -> None:
        """Change a member."""
        info.uid = info.uid if self.uid is None else self.uid
        info.gid = info.gid if self.gid is None else self.gid
        if self.mode is not None and info.type != tarfile.SYMTYPE:
            info.mode = self.mode.applied(info.mode, directory=info.type == tarfile.DIRTYPE)


_AS_THEY_ARE = Dress()


class Packing:
    """One tree that is being packed."""

    def __init__(self, file: BinaryIO, *, compression: str, prefix: str, base: int) -> None:
        self.entries = 0
        self._output = compressed(file, compression)
        self._prefix = prefix
        self._base = base

    def run(self) -> None:
        """Pack everything below ``/`` of this process."""
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._output as output:
                members = Members(root, output, prefix=self._prefix, base=self._base)
                for path in _walk(root):
                    self.entries += members.add(path)
                output.write(bytes(2 * tarfile.BLOCKSIZE))
        finally:
            os.close(root)


class Members:
    """Writes files below an open directory as members of an archive."""

    def __init__(
        self,
        root: int,
        output: Any,
        *,
        prefix: str = "",
        base: int = 0,
        newest: int | None = None,
        dress: Dress = _AS_THEY_ARE,
    ) -> None:
        self._dress = dress
        self._root = root
        self._output = output
        self._prefix = prefix.strip("/")
        self._ids = IdRange(base) if base else None
        self._newest = newest
        """Later times of modification are replaced by this one, in seconds since 1970."""
        self._linked: dict[int, str] = {}

    def add(self, path: bytes, *, name: str = "") -> bool:
        """Write a file, by another name if one is given; False if it is of a kind that is left out. Raises OSError."""
        root, output = self._root, self._output
        flags = os.O_PATH | os.O_NOFOLLOW
        descriptor = kernel.open_beneath(root, path, flags, _RESOLVE)
        try:
            status = os.fstat(descriptor)
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            if kind is None:
                return False  # sockets and device nodes are meaningless on another host
            info = self._info(name or os.fsdecode(path), kind, status)
            if kind == tarfile.SYMTYPE:
                info.linkname = os.fsdecode(os.readlink(b"", dir_fd=descriptor))
        finally:
            os.close(descriptor)
        if info.type in (tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE):
            output.write(header(info))
            return True
        reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = kernel.open_beneath(root, path, reading, _RESOLVE)
        try:
            info.pax_headers = self._xattrs(descriptor)
            output.write(header(info))
            if info.type == tarfile.REGTYPE:
                _copy(descriptor, info.size, output)
        finally:
            os.close(descriptor)
        return True

    def add_empty(self, path: bytes) -> None:
        """Write an empty file that does not exist in the tree: a whiteout."""
        self._output.write(header(tarfile.TarInfo(os.fsdecode(path))))

    def _info(self, name: str, kind: bytes, status: os.stat_result) -> tarfile.TarInfo:
        full = "/".join(part for part in (self._prefix, "" if name == "." else name) if part) or "."
        info = tarfile.TarInfo(full)
        info.type = kind
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = self._inside(status.st_uid), self._inside(status.st_gid)
        self._dress.put_on(info)
        modified = int(status.st_mtime) if self._dress.modified is None else self._dress.modified
        info.mtime = modified if self._newest is None else min(modified, self._newest)
        if status.st_nlink > 1 and kind != tarfile.DIRTYPE:
            first = self._linked.setdefault(status.st_ino, full)
            if first != full:
                info.type, info.linkname = tarfile.LNKTYPE, first
        if info.type == tarfile.REGTYPE:
            info.size = status.st_size
        return info

    def _inside(self, outer: int) -> int:
        return self._ids.inside(outer) if self._ids else outer

    def _xattrs(self, descriptor: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in sorted(os.listxattr(descriptor)):
            if name == "security.capability" or name in _ACLS or name.startswith("user."):
                with contextlib.suppress(OSError):  # gone meanwhile
                    value = os.getxattr(descriptor, name)
                    found[f"SCHILY.xattr.{name}"] = self._shifted(name, value).decode("utf-8", "surrogateescape")
        return found

    def _shifted(self, name: str, value: bytes) -> bytes:
        """Ids in extended attributes are shifted as well."""
        if self._ids is None:
            return value
        if name in _ACLS and len(value) % 8 == 4:
            entries = struct.iter_unpack("<HHI", value[4:])
            named = (2, 8)  # ACL_USER, ACL_GROUP
            return value[:4] + b"".join(
                struct.pack("<HHI", tag, bits, self._inside(id) if tag in named else id) for tag, bits, id in entries
            )
        if name == "security.capability" and len(value) == 24 and value[3] == 3:  # with the id of its namespace's root
            return value[:3] + b"\2" + value[4:20]
        return value


def _walk(root: int) -> Iterator[bytes]:
    """All paths in the order of their bytes, each directory before its entries."""
    pending = [(b".", True)]
    while pending:
        path, directory = pending.pop()
        yield path
        if not directory:
            continue
        descriptor = kernel.open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _RESOLVE)
        try:
            with os.scandir(descriptor) as entries:
                found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        finally:
            os.close(descriptor)
        prefix = b"" if path == b"." else path + b"/"
        pending += [(prefix + name, is_directory) for name, is_directory in sorted(found, reverse=True)]


def header(info: tarfile.TarInfo) -> bytes:
    """In the pax format; names that are not UTF-8 are kept."""
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _copy(descriptor: int, size: int, output: Any) -> None:
    """As many bytes as the header states, even if the file changes meanwhile."""
    left = size
    while left and (block := os.read(descriptor, min(_BLOCK, left))):
        output.write(block)
        left -= len(block)
    while left:
        block = bytes(min(_BLOCK, left))
        output.write(block)
        left -= len(block)
    output.write(bytes(-size % tarfile.BLOCKSIZE))
