"""Unpacks real tar streams into the fake file system."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput, NotFound, TooLarge, UnsafeArchive, Unsupported
from isola.host import documents
from isola.host.archive.archives import RepackReport, UnpackLimits, UnpackReport
from isola.host.archive.formats import compression
from isola.host.archive.packed import Hash, Unpacked, hashed, unpacked
from isola.host.archive.repacking import Repacking, Sink
from isola.host.archive.tarpack import compressed
from isola.host.archive.tarstream import Member, TarStream
from isola.host.archive.untar import clean
from isola.model.identity import IdRange
from isola.testing.copy_archives import FakeCopies
from isola.testing.files import FakeFiles
from isola.testing.layer_archives import FakeLayers
from isola.testing.member_archives import FakeMembers
from isola.testing.tree import Node, find, parent_of

_LIMITS = UnpackLimits()
_KINDS = {0x30: "file", 0x32: "symlink", 0x35: "directory", 0x36: "other"}


class FakeArchives(FakeLayers, FakeCopies, FakeMembers):
    """Reads archives in the fake file system, with the same checks and errors as the real implementation."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files
        self.walls_missing: tuple[str, ...] = ()

    async def unpack(
        self,
        source: Path,
        target: Path,
        *,
        subtree: str = "",
        whiteouts: bool = False,
        limits: UnpackLimits = _LIMITS,
        progress: Callable[[int], None] | None = None,
        digest: bool = True,
    ) -> UnpackReport:
        data = await self.files.read(source)
        work = _Unpacking(find(self.files.tree, target), clean(subtree.encode()), whiteouts, limits)
        total = hashlib.sha256()
        report = work.run(_open(data, limits, total))
        if progress is not None:
            progress(len(data))
        return replace(report, diff_id=f"sha256:{total.hexdigest()}" if digest or compression(data[:8]) else "")

    async def unpack_stream(
        self, blocks: AsyncIterator[bytes], target: Path, *, limits: UnpackLimits = _LIMITS
    ) -> UnpackReport:
        data = b"".join([block async for block in blocks])
        if compression(data[:8]) == "squashfs":
            raise InvalidInput("The archive is a squashfs image", remedy="send a tar archive")
        return _Unpacking(find(self.files.tree, target), [], False, limits).run(_open(data, limits))

    async def read_member(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> bytes:
        """Content of one member."""
        wanted = [clean(name.encode()) for name in names]
        stream = TarStream(_open(await self.files.read(source), _LIMITS).read)
        for member in stream.members():
            if member.kind == 0x30 and clean(member.name) in wanted:
                if member.size > limit or member.pieces is not None:
                    raise TooLarge(f"{member.name!r} is larger than {limit} bytes")
                return b"".join(stream.blocks())
        raise NotFound(f"The archive has no {' or '.join(names)}")

    async def read_members(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> Mapping[str, bytes]:
        """Content of several members."""
        wanted = {tuple(clean(name.encode())): name for name in names}
        stream = TarStream(_open(await self.files.read(source), _LIMITS).read)
        found: dict[str, bytes] = {}
        for member in stream.members():
            name = wanted.get(tuple(clean(member.name)))
            if member.kind == 0x30 and name is not None and name not in found:
                limit -= member.size
                if limit < 0 or member.pieces is not None:
                    raise TooLarge(f"{member.name!r} is too large")
                found[name] = b"".join(stream.blocks())
        return found

    async def read_document(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> object:
        """Content of one member in YAML."""
        return documents.parse(await self.read_member(source, names, limit=limit))

    async def lacks(self) -> tuple[str, ...]:
        """As set by the test."""
        return self.walls_missing

    async def pack(
        self, directory: Path, target: Path, *, prefix: str = "", compression: str = "gzip", base: int = 0
    ) -> None:
        holder, name = parent_of(self.files.tree, target)
        if name in holder.children:
            raise AlreadyExists(f"{target} exists already")
        inside = IdRange(base).inside if base else int
        buffer = io.BytesIO()
        with compressed(buffer, compression) as output:
            for path, node in _paths(find(self.files.tree, directory)):
                if node.kind in ("file", "directory", "symlink"):
                    full = "/".join(part for part in (prefix.strip("/"), path) if part) or "."
                    output.write(_header(full, node, inside))
                    output.write(node.data + bytes(-len(node.data) % 512))
            output.write(bytes(1024))
        holder.children[name] = Node("file", 0o600, data=buffer.getvalue())

    async def stream(self, directory: Path) -> AsyncIterator[bytes]:
        target = directory.parent / f".{directory.name}.stream"
        await self.pack(directory, target, compression="none")
        data = await self.files.read(target)
        await self.files.remove_tree(target)
        yield data

    async def repack(
        self,
        source: Path,
        target: Path | None,
        *,
        subtree: str = "",
        wanted: tuple[str, ...] = (),
        heads: tuple[str, ...] = (),
        limits: UnpackLimits = _LIMITS,
        progress: Callable[[int], None] | None = None,
    ) -> RepackReport:
        data = await self.files.read(source)
        buffer = io.BytesIO()
        sink = Sink(
            None if target is None else buffer, limit=limits.bytes, ratio=limits.ratio, packed=lambda: len(data)
        )
        work = Repacking(sink, subtree=subtree, wanted=list(wanted), limits=asdict(limits), heads=list(heads))
        work.run(_open(data, limits))
        diff_id = sink.close()
        if target is not None:
            await self.files.copy(io.BytesIO(buffer.getvalue()), target)
        if progress is not None:
            progress(len(data))
        counts = work.entries, work.bytes
        return RepackReport(diff_id, *counts, work.found, work.heads, tuple(sorted(work.top)), work.newest)


def _open(data: bytes, limits: UnpackLimits, total: Hash | None = None) -> Unpacked:
    kind = compression(data[:8])
    if kind == "squashfs":
        raise Unsupported("The root file system is a squashfs image", remedy="install the package squashfs-tools-ng")
    blocks = hashed(unpacked(io.BytesIO(data), kind), total)
    return Unpacked(blocks, lambda: len(data), limit=2 * limits.bytes + (1 << 30), ratio=limits.ratio)


def _paths(top: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    yield path, top
    for name in sorted(top.children):
        yield from _paths(top.children[name].seen, f"{path}/{name}".strip("/"))


def _header(name: str, node: Node, inside: Callable[[int], int]) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}[node.kind]
    info.mode, info.uid, info.gid = node.mode, inside(node.uid), inside(node.gid)
    info.size, info.linkname = len(node.data), node.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Unpacking:
    def __init__(self, top: Node, subtree: list[bytes], whiteouts: bool, limits: UnpackLimits) -> None:
        self.entries = self.bytes = self._made = 0
        self.skipped: list[str] = []
        self._top = top
        self._subtree = subtree
        self._whiteouts = whiteouts
        self._limits = limits

    def run(self, content: Unpacked) -> UnpackReport:
        stream = TarStream(content.read)
        for member in stream.members():
            self.take(member, stream)
        content.drain()
        return UnpackReport(self.entries, self.bytes, tuple(self.skipped[:100]))

    def take(self, member: Member, stream: TarStream) -> None:
        self.entries += 1
        self._check_count()
        parts = self._inside(clean(member.name))
        if parts is None:
            return
        if not parts:
            self._top.mode, self._top.uid, self._top.gid = member.mode, member.uid, member.gid
            return
        holder = self._holder(parts[:-1])
        if self._whiteouts and parts[-1].startswith(".wh."):
            _white_out(holder, parts[-1])
        elif member.kind == 0x31:
            _put(holder, parts[-1], self._linked(member))
        elif member.kind in _KINDS:
            _put(holder, parts[-1], self._node(member, stream))
        else:
            self.skipped.append(member.name.decode("utf-8", "replace"))

    def _check_count(self) -> None:
        if self.entries + self._made > self._limits.entries:
            raise UnsafeArchive("The archive has too many entries")

    def _inside(self, parts: list[bytes]) -> list[str] | None:
        depth = len(self._subtree)
        return [part.decode("utf-8", "replace") for part in parts[depth:]] if parts[:depth] == self._subtree else None

    def _holder(self, parts: list[str]) -> Node:
        here = self._top
        for position, part in enumerate(parts):
            if part not in here.children:
                here.children[part] = Node("directory")
                self._made += 1
                self._check_count()
            here = here.children[part]
            if here.kind == "symlink":
                return self._through(here, parts[:position], parts[position + 1 :])
            if here.kind != "directory":
                raise InvalidInput("The archive cannot be unpacked", evidence=f"{part} is not a directory")
        return here

    def _through(self, link: Node, before: list[str], after: list[str]) -> Node:
        depth = len(before)
        for part in link.target.split("/"):
            depth += -1 if part == ".." else part not in ("", ".")
            if depth < 0 or link.target.startswith("/"):
                raise UnsafeArchive("The archive tries to write through a link that leads out", evidence=link.target)
        try:
            return find(self._top, "/".join((*before, link.target, *after)))
        except NotFound as error:
            raise UnsafeArchive("The archive tries to write through a link that leads out") from error

    def _linked(self, member: Member) -> Node:
        target = self._inside(clean(member.link))
        if not target:
            raise UnsafeArchive("The archive has a hard link that leads out of its root")
        node = self._holder(target[:-1]).children.get(target[-1])
        if node is None:
            raise InvalidInput("The archive has a hard link to a file that it does not contain")
        if node.kind == "directory":
            raise UnsafeArchive("The archive has a hard link to a directory")
        return node

    def _node(self, member: Member, stream: TarStream) -> Node:
        self.bytes += member.size if member.kind == 0x30 else 0
        if self.bytes > self._limits.bytes:
            raise UnsafeArchive("The archive is too large when unpacked")
        node = Node(_KINDS[member.kind], member.mode, member.uid, member.gid)
        node.target = member.link.decode("utf-8", "replace") if member.kind == 0x32 else ""
        content = bytearray(member.size if member.kind == 0x30 else 0)
        for offset, length in [(0, member.size)] if member.pieces is None else member.pieces:
            content[offset : offset + length] = stream.exactly(length) if length else b""
        node.data = bytes(content)
        return node


def _put(holder: Node, name: str, node: Node) -> None:
    there = holder.children.get(name)
    if there is not None and there.kind == "directory":
        if node.kind == "directory":
            there.mode, there.uid, there.gid = node.mode, node.uid, node.gid
            return
        if there.children:
            raise UnsafeArchive("The archive replaces a directory that is not empty")
    holder.children[name] = node


def _white_out(holder: Node, name: str) -> None:
    hidden = name.removeprefix(".wh.")
    if hidden == ".wh..opq":
        holder.xattrs["trusted.overlay.opaque"] = b"y"
    elif hidden and not hidden.startswith(".wh."):
        holder.children.setdefault(hidden, Node("whiteout"))
