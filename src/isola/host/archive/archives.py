"""Unpacks, reads and packs archives, which are untrusted, in confined processes."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure, TooLarge
from isola.host.archive import passing_on
from isola.host.archive.answers import Answer, read_answer
from isola.host.archive.forked import Counter, Ended, Forked, died
from isola.host.archive.formats import compression as compression_of
from isola.host.archive.member_list import KEYS, member_of
from isola.host.archive.members import ArchiveIndex, ArchiveMember, Extraction, adopt, content
from isola.host.archive.receiving import Incoming, Receiving, refused, write
from isola.host.archive.requesting import ask, ask_for_file
from isola.host.archive.surveying import survey
from isola.host.process import Processes
from isola.host.threads import Work, in_long_thread, in_thread
from isola.model.file_change import ChangeKind, FileChange

_LARGEST_LAYER = 64 << 30
_LARGEST_ARCHIVE = 1 << 62
_BLOCK = 1 << 20
_LONGEST_LIST = 64 << 20
"""Bytes of a list of changes."""
_FEW = 5000
"""Files whose properties may be in the daemon's memory at once."""
_LONGEST_REQUEST = 100 << 10
"""Characters; the kernel takes 128 KiB."""
_LETTERS = {b"C": ChangeKind.MODIFIED, b"A": ChangeKind.ADDED, b"D": ChangeKind.DELETED}


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Limits beyond which an archive is refused as a decompression bomb."""

    bytes: int = _LARGEST_LAYER
    entries: int = 4_000_000
    ratio: int = 400
    """Unpacked bytes per compressed byte, checked beyond the first GiB."""


@dataclass(frozen=True, slots=True)
class UnpackReport:
    """What was unpacked, and what was skipped because it is not allowed in an unprivileged root."""

    entries: int
    bytes: int
    skipped: tuple[str, ...] = ()
    """Paths of skipped device nodes (the first 100)."""
    diff_id: str = ""
    """``sha256:...`` of the whole tar stream, uncompressed; empty if it was not computed."""


@dataclass(frozen=True, slots=True)
class RepackReport:
    """What an archive contains that may become a layer."""

    diff_id: str
    """``sha256:...`` of the tar stream, uncompressed: what an OCI configuration calls the layer."""
    entries: int
    bytes: int
    """Size of all regular files."""
    found: Mapping[str, str] = field(default_factory=dict)
    """The requested paths that exist: ``file``, ``directory``, ``link:<target>`` or ``other``."""
    heads: Mapping[str, builtins.bytes] = field(default_factory=dict)
    """The first 4 KiB of the requested regular files."""
    top: tuple[str, ...] = ()
    """Names at the top, 256 at most."""
    newest: int = 0
    """The newest modification time of a member, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A tree on the host, and the one of which its changes are wanted."""

    new: Path
    old: Path | None = None
    """None is an empty tree."""
    layered: bool = False
    """``new`` has changes only, with whiteouts, as the upper directory of an overlay."""


@dataclass(frozen=True, slots=True)
class LayerReport:
    """A layer that was written."""

    diff_id: str
    """``sha256:...`` of the tar stream, uncompressed."""
    entries: int
    bytes: int
    """Size of the tar stream."""
    skipped: int = 0
    """Number of files that a layer cannot contain: devices, sockets, and names beginning with ``.wh.``."""


@dataclass(frozen=True, slots=True)
class CopySource:
    """Files of a tree that a build copies."""

    tree: Path
    patterns: tuple[str, ...]
    keep_owner: bool = False
    """Otherwise they belong to root."""
    parents: bool = False
    """Their paths are kept below the target."""
    excludes: tuple[str, ...] = ()
    """As in an ignore file, relative to a copied directory."""
    name: str = "build context"
    """For messages."""
    keep_mode: bool = False
    """The target's mode is not theirs: files of archives."""
    modified: int | None = None
    """Their time, in seconds since 1970; None: as they are."""


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """Where in a root copied files go."""

    root: Path | None
    """None is an empty root."""
    place: str
    """Absolute; with a slash at the end it is a directory."""
    owner: str = ""
    """``USER[:GROUP]`` by number, or by name as in the root."""
    mode: str = ""
    """As for chmod: ``0755``, ``u+x,go=rX``; empty: as they are."""
    like_source: bool = False
    """A new directory in place of a copied one has its owner and mode; otherwise 0755, as Docker's."""


class Archives(Protocol):
    """Tar archives, plain or compressed by gzip, bzip2, xz or zstd (recognised by content, not by name)."""

    async def unpack(
        self,
        source: Path,
        target: Path,
        *,
        subtree: str = "",
        whiteouts: bool = False,
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
        digest: bool = True,
    ) -> UnpackReport:
        """Unpack with owners, modes, times, hard links, xattrs and sparse files, confined to ``target``.

        ``subtree`` keeps only what is below that path in the archive and strips it. ``whiteouts`` turns OCI
        ``.wh.`` entries into overlay whiteouts. Absolute names, ``..`` and links that lead out cannot reach
        outside. ``progress`` is called with the compressed bytes read since the last call. A separate process does it,
        confined to ``target``. Without ``digest`` only that of a compressed archive is computed.

        Raises UnsafeArchive or InvalidInput; the caller then removes ``target``.
        """
        ...

    async def unpack_stream(
        self, blocks: AsyncIterator[builtins.bytes], target: Path, *, limits: UnpackLimits = UnpackLimits()
    ) -> UnpackReport:
        """``unpack`` for an archive while it arrives, which is not stored; its digest is not computed.

        All blocks are read, also those of a refused archive. Raises what ``unpack`` raises, and what ``blocks`` raises.
        """
        ...

    async def read_member(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> bytes:
        """Content of the first regular member with one of these names. Raises NotFound, TooLarge, InvalidInput."""
        ...

    async def read_members(
        self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20
    ) -> Mapping[str, builtins.bytes]:
        """Content of the regular members with these names that exist, at most ``limit`` bytes in total.

        Raises TooLarge, InvalidInput.
        """
        ...

    async def read_document(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> object:
        """A member parsed as YAML: strings, lists and mappings of bounded depth and number, or None."""
        ...

    async def lacks(self) -> tuple[str, ...]:
        """Restrictions of the process that reads archives which this host does not support."""
        ...

    async def pack(
        self, directory: Path, target: Path, *, prefix: str = "", compression: str = "gzip", base: int = 0
    ) -> None:
        """Pack a tree in a reproducible order with owners shifted down by ``base``; fsynced."""
        ...

    async def first_names(self, source: Path, count: int = 1) -> Sequence[str]:
        """Names of the first members. Raises InvalidInput if it is not a tar archive."""
        ...

    async def list_members(
        self,
        source: Path,
        plain: Path,
        *,
        most: int = 20_000,
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> ArchiveIndex:
        """The files, directories and links of an archive; a compressed one is uncompressed to the new file ``plain``.

        Raises UnsafeArchive with more than ``most`` members, InvalidInput; leaves no file then.
        """
        ...

    async def receive(
        self, blocks: AsyncIterator[builtins.bytes], directory: Path, *, most: int = 20_000,
        limits: UnpackLimits = UnpackLimits(),
    ) -> ArchiveIndex:  # fmt: skip
        """The same of an archive that arrives; its content is stored in the directory, not synced.

        All of ``blocks`` is read, after an error too.
        """
        ...

    async def content(self, index: ArchiveIndex, member: ArchiveMember, limit: int) -> builtins.bytes:
        """The first bytes of a regular file, at most ``limit``."""
        ...

    async def extract(self, index: ArchiveIndex, member: ArchiveMember, target: Path) -> str:
        """Copy a regular file to a new one, fsynced, and return its digest. Leaves no file if it fails."""
        ...

    async def pack_layer(
        self,
        trees: Comparison,
        target: Path,
        *,
        compression: str = "zstd",
        newest: int | None = None,
        limit: int = _LARGEST_LAYER,
        leave_out: Sequence[str] = (),
    ) -> LayerReport:
        """Write what a tree changed as an image layer, in the order of paths, with whiteouts, fsynced.

        Times of modification after ``newest`` (seconds since 1970) become that. ``leave_out``: relative paths.
        Raises TooLarge, AlreadyExists, HostFailure; leaves no file then.
        """
        ...

    async def survey_copy(self, sources: Sequence[CopySource]) -> str:
        """A digest of the files: of names, kinds, modes and contents, without times. Raises InvalidInput, TooLarge."""
        ...

    async def copy_layer(
        self,
        sources: Sequence[CopySource],
        to: CopyTarget,
        target: Path,
        *,
        now: int,
        newest: int | None = None,
        compression: str = "zstd",
        limit: int = _LARGEST_LAYER,
    ) -> LayerReport | None:
        """Write files as an image layer on a root, fsynced; None, and no file, if the root has all of it already.

        Links in the root are followed inside it. ``now``: time of new directories, in seconds since 1970; times after
        ``newest`` become that. Raises InvalidInput, TooLarge, AlreadyExists, HostFailure; leaves no file then.
        """
        ...

    async def list_changes(self, trees: Comparison, scratch: Path, *, limit: int = 200_000) -> Sequence[FileChange]:
        """What differs, in the order of paths; ``scratch`` is the path of a temporary file. Raises TooLarge."""
        ...

    def stream(self, directory: Path) -> AsyncIterator[builtins.bytes]:
        """Pack a tree, uncompressed, piece by piece while it is read. Raises HostFailure, also in the middle."""
        ...

    async def repack(
        self,
        source: Path,
        target: Path | None,
        *,
        subtree: str = "",
        wanted: tuple[str, ...] = (),
        heads: tuple[str, ...] = (),
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> RepackReport:
        """Read an archive to its end and write it as a tar+zstd layer, fsynced; with ``target`` None only check it.

        ``subtree`` keeps only what lies below that path and strips it; without it the tar stream is kept to the byte,
        and the report contains the ``heads`` of files. Raises UnsafeArchive or InvalidInput, and leaves no file then.
        """
        ...


class LinuxArchives:
    """Runs each call in a separate process without privileges (see ``archiver`` and ``cell``)."""

    def __init__(self, processes: Processes, forked: Forked | None = None) -> None:
        self._processes = processes
        self._forked = forked or Forked(processes)

    async def unpack(
        self,
        source: Path,
        target: Path,
        *,
        subtree: str = "",
        whiteouts: bool = False,
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
        digest: bool = True,
    ) -> UnpackReport:
        counter = Counter(progress)
        answer = await ask(
            self._forked,
            "unpack",
            {"source": str(source), "target": str(target), "subtree": subtree, "whiteouts": whiteouts}
            | {"limits": asdict(limits), "digest": digest},
            counter.take_line,
        )
        diff_id = answer.digest("diff_id") if digest or answer.number("compressed") else ""
        return UnpackReport(answer.number("entries"), answer.number("bytes"), answer.texts("skipped"), diff_id)

    async def unpack_stream(
        self, blocks: AsyncIterator[builtins.bytes], target: Path, *, limits: UnpackLimits = UnpackLimits()
    ) -> UnpackReport:
        answer = await passing_on.received(self._forked, blocks, target, asdict(limits))
        return UnpackReport(answer.number("entries"), answer.number("bytes"), answer.texts("skipped"))

    async def read_member(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> bytes:
        """Content of one member."""
        answer = await ask(self._forked, "read", {"source": str(source), "names": names, "limit": limit})
        return answer.content("content", limit)

    async def read_members(
        self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20
    ) -> Mapping[str, builtins.bytes]:
        """Content of several members."""
        answer = await ask(self._forked, "members", {"source": str(source), "names": names, "limit": limit})
        return answer.members("members", names, limit=limit)

    async def read_document(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> object:
        """Content of one member in YAML."""
        answer = await ask(self._forked, "document", {"source": str(source), "names": names, "limit": limit})
        return answer.document("document")

    async def lacks(self) -> tuple[str, ...]:
        """Tries it."""
        return (await ask(self._forked, "probe", {})).texts("lacks")

    async def pack(
        self, directory: Path, target: Path, *, prefix: str = "", compression: str = "gzip", base: int = 0
    ) -> None:
        """Pack; leaves no file if it fails."""
        request = {"directory": str(directory), "target": str(target), "prefix": prefix, "compression": compression}
        await ask_for_file(self._forked, "pack", target, request | {"base": base})

    async def first_names(self, source: Path, count: int = 1) -> Sequence[str]:
        """Reads no further than that."""
        request = {"source": str(source), "target": None, "most": count, "only": count}
        answer = await ask(self._forked, "list_members", request | {"limits": asdict(UnpackLimits())})
        return [each.name for each in _members(answer)]

    async def list_members(
        self,
        source: Path,
        plain: Path,
        *,
        most: int = 20_000,
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> ArchiveIndex:
        """The process sees neither files nor directories, only what is opened for it."""
        request = {"source": str(source), "target": str(plain), "most": most, "only": 0, "limits": asdict(limits)}
        answer = await ask_for_file(self._forked, "list_members", plain, request, Counter(progress).take_line)
        return ArchiveIndex(plain if answer.number("copied") else source, _members(answer))

    async def receive(
        self, blocks: AsyncIterator[builtins.bytes], directory: Path, *, most: int = 20_000,
        limits: UnpackLimits = UnpackLimits(),
    ) -> ArchiveIndex:  # fmt: skip
        """A compressed one is stored whole first."""
        incoming = Incoming(blocks)
        try:
            if compression_of(await incoming.start(8)):
                await write(incoming, _LARGEST_ARCHIVE, directory / "whole")
                return await self.list_members(directory / "whole", directory / "plain", most=most, limits=limits)
            index = await self._received(Receiving(incoming, directory), most)
            await incoming.drain()
        except BaseException as error:
            await refused(incoming, error)
            raise
        return index

    async def _received(self, receiving: Receiving, most: int) -> ArchiveIndex:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            asking = asyncio.ensure_future(ask(self._forked, "list_stream", {"most": most}, descriptor=theirs.detach()))
            try:
                await receiving.serve(ours)
                answer = await asking
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        return ArchiveIndex(receiving.documents, _members(answer), receiving.apart)

    async def content(self, index: ArchiveIndex, member: ArchiveMember, limit: int) -> builtins.bytes:
        return await in_thread(content, index, member, limit)

    async def extract(self, index: ArchiveIndex, member: ArchiveMember, target: Path) -> str:
        """In a thread, piece by piece, unless it is a file already."""
        apart = index.apart.get(member.offset)
        if apart is not None and apart.size == member.size:
            return await in_long_thread(Work.COPY, adopt, apart, target)
        extraction = await in_thread(Extraction, index, member, target)
        done = False
        try:
            while await in_long_thread(Work.COPY, extraction.proceed):
                pass
            done = True
            return extraction.digest
        finally:
            extraction.close()
            if not done:
                await in_thread(target.unlink, missing_ok=True)

    async def pack_layer(
        self,
        trees: Comparison,
        target: Path,
        *,
        compression: str = "zstd",
        newest: int | None = None,
        limit: int = _LARGEST_LAYER,
        leave_out: Sequence[str] = (),
    ) -> LayerReport:
        """In a process that sees these trees only."""
        request = {"target": str(target), "compression": compression, "newest": newest, "limit": limit}
        answer = await ask_for_file(
            self._forked, "pack_layer", target, request | {"leave_out": list(leave_out)} | _paths(trees)
        )
        return LayerReport(
            answer.digest("diff_id"), answer.number("entries"), answer.number("bytes"), answer.number("skipped")
        )

    async def survey_copy(self, sources: Sequence[CopySource]) -> str:
        """Few files are read in a thread, which parses nothing in them; a process takes longer to start than that."""
        checked = _checked(sources)
        try:
            return await in_long_thread(Work.COPY, survey, checked, _FEW)
        except TooLarge:
            return (await ask(self._forked, "survey_copy", {"sources": checked})).digest("digest")

    async def copy_layer(
        self,
        sources: Sequence[CopySource],
        to: CopyTarget,
        target: Path,
        *,
        now: int,
        newest: int | None = None,
        compression: str = "zstd",
        limit: int = _LARGEST_LAYER,
    ) -> LayerReport | None:
        """In a process that sees these trees and the root only."""
        request: dict[str, object] = {"target": str(target), "compression": compression, "newest": newest}
        place: dict[str, object] = {
            "root": None if to.root is None else str(to.root),
            "place": to.place,
            "owner": to.owner,
        }
        place |= {"mode": to.mode, "like_source": to.like_source}
        answer = await ask_for_file(
            self._forked,
            "copy_layer",
            target,
            {"sources": _checked(sources), "limit": limit, "now": now} | request | place,
        )
        if not answer.number("entries"):
            await in_thread(target.unlink, missing_ok=True)
            return None
        return LayerReport(answer.digest("diff_id"), answer.number("entries"), answer.number("bytes"))

    async def list_changes(self, trees: Comparison, scratch: Path, *, limit: int = 200_000) -> Sequence[FileChange]:
        """The process writes the list to a file, whose size is bounded by the number and length of paths."""
        await ask_for_file(
            self._forked, "list_changes", scratch, {"target": str(scratch), "limit": limit} | _paths(trees)
        )
        try:
            return await in_thread(_read_list, scratch)
        finally:
            await in_thread(scratch.unlink, missing_ok=True)

    async def stream(self, directory: Path) -> AsyncIterator[builtins.bytes]:
        """Through a pipe that is the process's output; it is killed if the caller stops reading."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        request = {"verb": "stream", "directory": str(directory), "descriptor": writing}
        argv = [sys.executable, "-I", "-m", "isola.host.archive.archiver", json.dumps(request)]
        packing = asyncio.ensure_future(self._stream(argv, writing))
        try:
            while block := await in_long_thread(Work.COPY, os.read, reading, _BLOCK):
                yield block
            await packing
        finally:
            packing.cancel()
            await asyncio.wait([packing])
            os.close(reading)

    async def _stream(self, argv: Sequence[str], writing: int) -> None:
        try:
            done = await self._processes.run(argv, timeout=None, check=False, pass_fds=(writing,))
        finally:
            os.close(writing)  # the reader comes to the end
        if done.status != 0:
            raise died(Ended(done.status, done.stdout, done.stderr))
        read_answer(done.stdout)

    async def repack(
        self,
        source: Path,
        target: Path | None,
        *,
        subtree: str = "",
        wanted: tuple[str, ...] = (),
        heads: tuple[str, ...] = (),
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> RepackReport:
        """Repack; leaves no file if it fails."""
        place = None if target is None else str(target)
        request = {"source": str(source), "target": place, "subtree": subtree, "wanted": wanted, "heads": heads}
        answer = await ask_for_file(
            self._forked, "repack", target, request | {"limits": asdict(limits)}, Counter(progress).take_line
        )
        return RepackReport(
            answer.digest("diff_id"),
            answer.number("entries"),
            answer.number("bytes"),
            answer.pairs("found", wanted),
            answer.contents("heads", heads),
            answer.texts("top"),
            answer.number("newest"),
        )


def _checked(sources: Sequence[CopySource]) -> list[dict[str, object]]:
    """For the arguments of a program, of which each has a bound."""
    found = [asdict(source) | {"tree": str(source.tree)} for source in sources]
    if len(json.dumps(found)) > _LONGEST_REQUEST:
        raise TooLarge("There are too many sources, or their names are too long", field="dockerfile")
    return found


def _members(answer: Answer) -> Sequence[ArchiveMember]:
    """The process that listed them may have been compromised: places beyond the file's end are found when read."""
    try:
        return [member_of(each) for each in answer.pieces("members", KEYS, limit=_LONGEST_LIST)]
    except ValueError as error:
        raise HostFailure("The process that reads archives returned an invalid result", evidence="members") from error


def _paths(trees: Comparison) -> dict[str, object]:
    old = None if trees.old is None else str(trees.old)
    return {"new": str(trees.new), "old": old, "layered": trees.layered}


def _read_list(path: Path) -> Sequence[FileChange]:
    """The file may have been written by a compromised process."""
    with path.open("rb") as file:
        data = file.read(_LONGEST_LIST + 1)
    if len(data) > _LONGEST_LIST:
        raise TooLarge("Too many files differ to list them", evidence=f"more than {_LONGEST_LIST} bytes")
    found = [item for item in data.split(b"\0") if item]
    if not all(item[:1] in _LETTERS for item in found):
        raise HostFailure("The process that compares trees returned an invalid result")
    return [FileChange("/" + os.fsdecode(item[1:]), _LETTERS[item[:1]]) for item in found]
