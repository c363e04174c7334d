"""Checks an untrusted tar stream, hashes it, and converts it to an image layer if requested."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from isola.errors import UnsafeArchive
from isola.host.archive.packed import Unpacked
from isola.host.archive.tarstream import Member, TarStream
from isola.host.archive.untar import clean, shown

_BLOCK = 1 << 20
_ZEROS = bytes(_BLOCK)
_FREE = 1 << 30
"""Below this size, in bytes, any compression ratio is accepted."""
_KINDS = {
    0x30: tarfile.REGTYPE,
    0x31: tarfile.LNKTYPE,
    0x32: tarfile.SYMTYPE,
    0x35: tarfile.DIRTYPE,
    0x36: tarfile.FIFOTYPE,
}
_HEAD = 4096
_TOP = 256
_NAMES = {0x30: "file", 0x31: "file", 0x35: "directory"}
_NONE: list[str] = []


class Sink:
    """Hashes a tar stream, and compresses it into ``file`` unless that is None."""

    def __init__(self, file: BinaryIO | None, *, limit: int, ratio: int, packed: Callable[[], int]) -> None:
        self._hash = hashlib.sha256()
        self._limit = limit
        self._ratio = ratio
        self._packed = packed
        self._writer: Any = None
        self.total = 0
        if file is not None:
            import zstandard

            # In multi-threaded mode the output does not depend on the number of threads, but it differs from that of a
            # single thread: so all hosts use this mode.
            compressor = zstandard.ZstdCompressor(level=3, threads=2, write_checksum=True)
            self._writer = compressor.stream_writer(file, closefd=False)

    def write(self, data: bytes) -> None:
        """Write the next bytes. Raises UnsafeArchive beyond the limit (sparse files expand here)."""
        self.total += len(data)
        if self.total > self._limit or (self.total > _FREE and self.total > self._ratio * max(self._packed(), 1)):
            raise UnsafeArchive("The archive is too large when unpacked", evidence=f"more than {self.total} bytes")
        self._hash.update(data)
        if self._writer is not None:
            self._writer.write(data)

    def close(self) -> str:
        """Finish, and return the digest of the uncompressed data."""
        if self._writer is not None:
            self._writer.close()
        return f"sha256:{self._hash.hexdigest()}"


class Repacking:
    """One pass over the members. Without ``subtree`` the stream is copied unchanged, with it the members are rewritten.

    When it is rewritten, device nodes are skipped and sparse files are filled with zeros.
    """

    def __init__(
        self, sink: Sink, *, subtree: str, wanted: list[str], limits: Mapping[str, int], heads: list[str] = _NONE
    ) -> None:
        self.entries = 0
        self.bytes = 0
        self.found: dict[str, str] = {}
        self.heads: dict[str, bytes] = {}
        """The beginning of each requested regular file; only if the stream is not rewritten."""
        self.top: set[str] = set()
        """Names at the top, up to a limit."""
        self.newest = 0
        """Newest modification time of a member, in seconds."""
        self._heads = {os.fsencode(path) for path in heads}
        self._sink = sink
        self._subtree = clean(os.fsencode(subtree))
        self._wanted = {os.fsencode(path) for path in wanted}
        self._limits = limits

    def run(self, content: Unpacked) -> None:
        """Read everything. Raises UnsafeArchive, InvalidInput."""
        rewrite = bool(self._subtree)
        stream = TarStream(content.read if rewrite else self._copying(content.read))
        for member in stream.members():
            parts = self._inside(clean(member.name))
            if parts is None:
                continue
            link = b"/".join(self._link(member)) if member.kind == 0x31 else member.link
            self._note(member, b"/".join(parts), link)
            self._look(member, b"/".join(parts), stream, rewrite=rewrite)
            if rewrite and member.kind in _KINDS:
                self._write(member, b"/".join(parts) or b".", link, stream)
        if rewrite:
            self._sink.write(bytes(2 * tarfile.BLOCKSIZE))
            content.drain()
        else:
            while data := content.read(_BLOCK):  # bytes after the end-of-archive marker are part of the digest
                self._sink.write(data)

    def _copying(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def copied(size: int) -> bytes:
            data = read(size)
            self._sink.write(data)
            return data

        return copied

    def _inside(self, parts: list[bytes]) -> list[bytes] | None:
        depth = len(self._subtree)
        return parts[depth:] if parts[:depth] == self._subtree else None

    def _link(self, member: Member) -> list[bytes]:
        """The target of a hard link, relative to the subtree."""
        target = self._inside(clean(member.link))
        if not target:
            raise UnsafeArchive(
                "The archive has a hard link that leads out of its root", evidence=f"entry {shown(member.name)}"
            )
        return target

    def _note(self, member: Member, path: bytes, link: bytes) -> None:
        self.entries += 1
        self.bytes += member.size if member.kind == 0x30 else 0
        if self.entries > self._limits["entries"]:
            raise UnsafeArchive("The archive has too many entries", evidence=f"more than {self._limits['entries']}")
        if self.bytes > self._limits["bytes"]:
            raise UnsafeArchive("The archive is too large when unpacked", evidence=f"{self._limits['bytes']} bytes")
        if path in self._wanted:
            kind = (
                f"link:{link.decode('utf-8', 'replace')}" if member.kind == 0x32 else _NAMES.get(member.kind, "other")
            )
            self.found[os.fsdecode(path)] = kind

    def _look(self, member: Member, path: bytes, stream: TarStream, *, rewrite: bool) -> None:
        self.newest = max(self.newest, member.mtime // 10**9)
        if len(self.top) < _TOP and (name := path.split(b"/", 1)[0][:256]):
            self.top.add(name.decode("utf-8", "replace"))
        if path in self._heads and member.kind == 0x30 and member.pieces is None and not rewrite:
            self.heads[os.fsdecode(path)] = stream.exactly(min(member.size, _HEAD))

    def _write(self, member: Member, path: bytes, link: bytes, stream: TarStream) -> None:
        info = tarfile.TarInfo(os.fsdecode(path))
        info.type = _KINDS[member.kind]
        info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
        info.linkname = os.fsdecode(link)
        info.size = member.size if info.type == tarfile.REGTYPE else 0
        seconds, fraction = divmod(member.mtime, 10**9)
        info.mtime = seconds
        headers = {os.fsdecode(b"SCHILY.xattr." + key): os.fsdecode(value) for key, value in member.xattrs.items()}
        if fraction:
            headers["mtime"] = f"{seconds}.{fraction:09d}"
        info.pax_headers = headers
        self._sink.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        if info.type == tarfile.REGTYPE:
            self._content(member, stream)

    def _content(self, member: Member, stream: TarStream) -> None:
        position = 0
        for offset, length in [(0, member.size)] if member.pieces is None else member.pieces:
            self._zeros(offset - position)
            position = offset + length
            for start in range(0, length, _BLOCK):
                self._sink.write(stream.exactly(min(_BLOCK, length - start)))
        self._zeros(member.size - position)
        self._zeros(-member.size % tarfile.BLOCKSIZE)

    def _zeros(self, count: int) -> None:
        while count > 0:
            self._sink.write(_ZEROS[: min(count, _BLOCK)])
            count -= _BLOCK
