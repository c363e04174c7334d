"""The process in which archives are read and written: ``python -m isola.host.archive.archiver '{"verb": ...}'``.

It opens the files, runs the work in a cell (``cell``), writes ``progress N`` lines to standard error, and prints the
result as JSON on standard output. It never reads more than the first eight bytes of the archive.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound, TooLarge
from isola.host import cell, confine, documents
from isola.host.archive import arriving, copy_verbs, disk_verbs, formats, layer_verbs, packed, squashfs, untar
from isola.host.archive.asking import Asking
from isola.host.archive.member_list import Listing
from isola.host.archive.output import created, flush
from isola.host.archive.packed import Counted, Unpacked
from isola.host.archive.repacking import Repacking, Sink
from isola.host.archive.tarpack import Packing
from isola.host.archive.tarstream import TarStream
from isola.host.cell import Cell, Inside
from isola.host.exhaustion import host_refused

_SLACK = 1 << 30
"""Bytes that headers and padding may add to an archive's content."""
_UNPACKING = (confine.CAP_CHOWN, confine.CAP_DAC_OVERRIDE, confine.CAP_FOWNER, confine.CAP_FSETID, confine.CAP_SETFCAP)
_OPAQUE = "trusted.overlay.opaque"
_SECONDS, _SECONDS_FOR_A_MIB, _MOST_SECONDS = 300, 4, 3600
"""CPU time for an archive; fifty times what ordinary ones were measured to need."""
_DROPPED_AT_ONCE = 4 << 20
_PACKING_SECONDS = 24 * 3600


def main() -> None:
    """Carry out the request that is the argument."""
    perform(json.loads(sys.argv[1]))


def perform(request: dict[str, Any]) -> NoReturn:
    """Run one verb and print its result; an IsolaError is a result too."""
    confine.die_with_parent()
    try:
        answer: bytes = _VERBS[request.pop("verb")](**request)
    except IsolaError as error:
        answer = reported(error)
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()
    os._exit(0)


def reported(error: IsolaError) -> bytes:
    """An error as a result."""
    return json.dumps(
        {"error": error.code, "message": error.message, "evidence": error.evidence, "remedy": error.remedy}
    ).encode()


def _unpack(
    *, source: str, target: str, subtree: str, whiteouts: bool, limits: dict[str, int], digest: bool = True
) -> bytes:
    archive = _Source(source, again=False)
    place = unpacking(Path(target), limits["bytes"], archive.seconds, archive.descriptors)
    total = hashlib.sha256() if digest or archive.is_compressed else None

    def work(inside: Inside) -> Mapping[str, object]:
        work = untar.Unpacking(
            subtree=subtree,
            make_opaque=(lambda descriptor: inside.ask("opaque", descriptor)) if whiteouts else None,
            limit_bytes=limits["bytes"],
            limit_entries=limits["entries"],
        )
        content = archive.content(limit=2 * limits["bytes"] + _SLACK, ratio=limits["ratio"], total=total)
        work.run(TarStream(content.read))
        content.drain()
        archive.finished()
        counts = {"entries": work.entries, "bytes": work.bytes, "compressed": int(archive.is_compressed)}
        diff_id = "" if total is None else f"sha256:{total.hexdigest()}"
        return {**counts, "skipped": work.skipped, "diff_id": diff_id}

    return archive.checked(cell.run(place, work, mark if whiteouts else None))


def start_unpacking(request: Mapping[str, Any], output: int, errors: int, archive: int) -> int:
    """Start to unpack an archive that arrives, in a child of this process, which has no part in it. Returns its id.

    Its result is written to ``output``. Raises HostFailure.
    """
    limits = request["limits"]
    place = unpacking(Path(request["target"]), limits["bytes"], _MOST_SECONDS, (archive,))
    return arriving.start(place, archive, limits, 2 * limits["bytes"] + _SLACK, (output, errors))


def unpacking(target: Path, file_size: int, seconds: int, keep: Sequence[int] = ()) -> Cell:
    """The cell in which archives are unpacked: ``target`` is its root, with capabilities for the files in it."""
    return Cell(
        root=target,
        writable=True,
        owner=0,
        capabilities=_UNPACKING,
        keep=keep,
        file_size=file_size,
        seconds=seconds,
    )


def mark(what: str, descriptor: int) -> None:
    """Sets ``trusted.overlay.opaque``, which only the host's root can. The child has directories of its root only."""
    if what != "opaque" or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise PermissionError(errno.EPERM, "The unpacker made a request that is not permitted")
    os.setxattr(descriptor, _OPAQUE, b"y")


def _read(source: str, names: list[str], limit: int) -> bytes:
    archive = _Source(source)
    return archive.checked(
        cell.run(archive.reading(), lambda inside: {"content": _member(archive, names, limit).hex()})
    )


def _document(source: str, names: list[str], limit: int) -> bytes:
    archive = _Source(source)
    documents.prepare()
    return archive.checked(
        cell.run(archive.reading(), lambda inside: {"document": documents.parse(_member(archive, names, limit))})
    )


def _members(source: str, names: list[str], limit: int) -> bytes:
    archive = _Source(source)
    return archive.checked(
        cell.run(archive.reading(), lambda inside: {"members": _several(archive, names, limit)}),
    )


def _several(archive: _Source, names: list[str], limit: int) -> Mapping[str, str]:
    wanted = {tuple(untar.clean(os.fsencode(name))): name for name in names}
    stream, found = TarStream(archive.content(limit=1 << 40, ratio=1000).read), dict[str, str]()
    for member in stream.members():
        name = wanted.get(tuple(untar.clean(member.name)))
        if member.kind == 0x30 and name is not None and name not in found:
            limit -= member.size
            if limit < 0 or member.pieces is not None:
                raise TooLarge(f"{untar.shown(member.name)} is too large")
            found[name] = b"".join(stream.blocks()).hex()
    return found


def _member(archive: _Source, names: list[str], limit: int) -> bytes:
    wanted = {tuple(untar.clean(os.fsencode(name))) for name in names}
    stream = TarStream(archive.content(limit=1 << 40, ratio=1000).read)
    for member in stream.members():
        if member.kind == 0x30 and tuple(untar.clean(member.name)) in wanted:
            if member.size > limit or member.pieces is not None:
                raise TooLarge(f"{untar.shown(member.name)} is larger than {limit} bytes")
            return b"".join(stream.blocks())
    raise NotFound(f"The archive has no {' or '.join(names)}")


def _repack(
    *, source: str, target: str | None, subtree: str, wanted: list[str], heads: list[str], limits: dict[str, int]
) -> bytes:
    archive = _Source(source)
    output = None if target is None else created(target, "zstd")
    place = Cell(
        keep=(*archive.descriptors, *([] if output is None else [output.fileno()])),
        file_size=limits["bytes"] + 2 * _SLACK,
        seconds=archive.seconds,
    )

    def work(inside: Inside) -> Mapping[str, object]:
        sink = Sink(output, limit=limits["bytes"] + _SLACK, ratio=limits["ratio"], packed=lambda: archive.size)
        content = archive.content(limit=2 * limits["bytes"] + _SLACK, ratio=limits["ratio"])
        work = Repacking(sink, subtree=subtree, wanted=wanted, heads=heads, limits=limits)
        try:
            work.run(content)
            archive.finished()
            diff_id = sink.close()
            flush(output)
        except OSError as error:
            raise host_refused("Cannot write the layer", error) from error
        report = {"heads": {path: head.hex() for path, head in work.heads.items()}, "top": sorted(work.top)}
        counts = {"entries": work.entries, "bytes": work.bytes, "newest": work.newest}
        return {"diff_id": diff_id, "found": work.found, **counts, **report}

    return archive.checked(cell.run(place, work))


def _pack(directory: str, target: str, prefix: str, compression: str, base: int) -> bytes:
    return _packed(created(target, compression), directory, prefix=prefix, compression=compression, base=base)


def _stream(directory: str, descriptor: int) -> bytes:
    return _packed(os.fdopen(descriptor, "wb"), directory, durable=False)


def _packed(
    output: BinaryIO,
    directory: str,
    *,
    prefix: str = "",
    compression: str = "none",
    base: int = 0,
    durable: bool = True,
) -> bytes:
    place = Cell(
        root=Path(directory),
        foreign=True,  # an overlay cannot be id-mapped again
        capabilities=(confine.CAP_DAC_READ_SEARCH,),
        keep=(output.fileno(),),
        file_size=1 << 50,
        seconds=_PACKING_SECONDS,
    )

    def work(inside: Inside) -> Mapping[str, object]:
        packing = Packing(output, compression=compression, prefix=prefix, base=base)
        try:
            packing.run()
            if durable:
                flush(output)
            else:
                output.flush()
        except OSError as error:
            raise host_refused("Cannot pack the tree", error) from error
        return {"entries": packing.entries}

    return cell.run(place, work)


def _list_members(source: str, target: str | None, most: int, only: int, limits: dict[str, int]) -> bytes:
    archive = _Source(source)
    output = created(target, "none") if target is not None and archive.is_compressed else None
    place = Cell(
        keep=(*archive.descriptors, *([] if output is None else [output.fileno()])),
        file_size=2 * limits["bytes"] + _SLACK,
        seconds=archive.seconds,
    )

    def work(inside: Inside) -> Mapping[str, object]:
        listing = Listing(output, most=most)
        try:
            if archive.is_compressed or only:
                content = archive.content(limit=2 * limits["bytes"] + _SLACK, ratio=limits["ratio"])
                listing.run(content, only=only)
            else:
                with archive.buffered() as file:
                    listing.run_file(file, archive.size)
            if output is not None:
                output.flush()
        except OSError as error:
            raise host_refused("Cannot uncompress the archive", error) from error
        archive.finished()
        return {"members": listing.members, "copied": int(output is not None)}

    answer = cell.run(place, work)
    return answer if only else archive.checked(answer)


def _list_stream(descriptor: int, most: int) -> bytes:
    """However long it takes to arrive."""
    asking = Asking(socket.socket(fileno=descriptor))
    listing = Listing(None, most=most)

    def work(inside: Inside) -> Mapping[str, object]:
        listing.run_stream(asking)
        return {"members": listing.members}

    return cell.start(Cell(keep=(descriptor,), seconds=_MOST_SECONDS), work).result()


def _probe() -> bytes:
    """The restrictions that this host does not support."""
    return cell.run(Cell(root=Path(sys.prefix), seconds=60), lambda inside: {"lacks": inside.lacks})


_VERBS: dict[str, Callable[..., bytes]] = {
    "unpack": _unpack,
    "read": _read,
    "members": _members,
    "document": _document,
    "pack": _pack,
    "stream": _stream,
    "repack": _repack,
    "probe": _probe,
    **copy_verbs.VERBS,
    "list_members": _list_members,
    "list_stream": _list_stream,
    **layer_verbs.VERBS,
    **disk_verbs.VERBS,
}


class _Source:
    """An archive that is opened here and read in a cell."""

    def __init__(self, path: str, *, again: bool = True) -> None:
        """``again``: whether it may be read again soon. Otherwise it leaves the page cache to what is unpacked."""
        self._file = _opened(path)
        self._again = again
        self._dropped = 0
        self.size = os.fstat(self._file.fileno()).st_size
        """Total compressed bytes."""
        self._progress = _Progress()
        start = self._file.read(8)
        self._file.seek(0)
        self._kind = formats.compression(start)
        self.seconds = min(_SECONDS + _SECONDS_FOR_A_MIB * (self.size >> 20), _MOST_SECONDS)
        """CPU time that it may take, in seconds."""
        self._converter: squashfs.Converter | None = None
        if self._kind == "squashfs":
            self._converter = squashfs.Converter(Path(path), seconds=self.seconds)
        elif self._kind == "zstd":
            import zstandard  # noqa: F401 - there is no importing in a cell

    @property
    def is_compressed(self) -> bool:
        """Whether its content differs from that of the file."""
        return self._kind != ""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that are needed to read it."""
        return (self._file.fileno(),) if self._converter is None else (self._converter.output.fileno(),)

    def buffered(self) -> BinaryIO:
        """The file, for many small reads."""
        return os.fdopen(os.dup(self._file.fileno()), "rb")

    def reading(self) -> Cell:
        """Limits and descriptors of a cell that reads it."""
        return Cell(keep=self.descriptors, seconds=self.seconds)

    def content(self, *, limit: int, ratio: int, total: packed.Hash | None = None) -> Unpacked:
        """The decompressed stream, with progress reported; all of it is hashed into ``total``."""
        if self._converter is not None:
            blocks = packed.unpacked(self._converter.output, "")
            return Unpacked(packed.hashed(blocks, total), lambda: self.size, limit=limit, ratio=ratio)
        counted = Counted(self._file, self._reached)
        blocks = packed.hashed(packed.unpacked(counted, self._kind), total)
        return Unpacked(blocks, lambda: counted.total, limit=limit, ratio=ratio)

    def _reached(self, total: int) -> None:
        self._progress.reach(total)
        if not self._again and total - self._dropped >= _DROPPED_AT_ONCE:
            os.posix_fadvise(self._file.fileno(), self._dropped, total - self._dropped, os.POSIX_FADV_DONTNEED)
            self._dropped = total

    def finished(self) -> None:
        """Called when everything has been read."""
        self._progress.tell(self.size)

    def checked(self, answer: bytes) -> bytes:
        """The result of the cell, if the archive was complete. Raises InvalidInput."""
        if self._converter is not None:
            self._converter.end()
        return answer


def _opened(path: str) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"There is no archive {path}") from error
    except OSError as error:
        raise HostFailure(f"Cannot read {path}", evidence=str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InvalidInput(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


class _Progress:
    """At most ten lines a second."""

    def __init__(self) -> None:
        self._reported_at = 0.0

    def reach(self, total: int) -> None:
        """Report how many compressed bytes have been read so far."""
        moment = time.monotonic()
        if moment - self._reported_at >= 0.1:
            self._reported_at = moment
            self.tell(total)

    def tell(self, total: int) -> None:
        """Report it now."""
        sys.stderr.write(f"progress {total}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
