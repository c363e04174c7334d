"""The process in which archives are read and written: ``python -m isola.host.archiver '{"verb": "unpack", ...}'``.

It opens what it needs, shuts itself in, works, tells ``progress N`` lines on standard error, and gives its answer as
JSON on standard output.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from isola.errors import (
    AlreadyExists,
    HostFailure,
    InvalidInput,
    IsolaError,
    NotFound,
    TooLarge,
    UnsafeArchive,
    Unsupported,
)
from isola.host import confine, packed, untar
from isola.host.packed import Counted, Unpacked
from isola.host.repacking import Repacking, Sink
from isola.host.tarpack import Packing
from isola.host.tarstream import TarStream

_SLACK = 1 << 30
"""What headers and padding may add to an archive's content."""
_UNPACKING = (confine.CAP_CHOWN, confine.CAP_DAC_OVERRIDE, confine.CAP_FOWNER, confine.CAP_FSETID, confine.CAP_SETFCAP)
_WHITEOUTS = (confine.CAP_MKNOD, confine.CAP_SYS_ADMIN)


def main() -> None:
    """Run one verb; errors of ours are an answer too."""
    request = json.loads(sys.argv[1])
    try:
        answer: dict[str, object] = _VERBS[request.pop("verb")](**request)
    except IsolaError as error:
        answer = {"error": error.code, "message": error.message, "evidence": error.evidence, "remedy": error.remedy}
    except MemoryError:
        answer = {"error": UnsafeArchive.code, "message": "The archive demands more memory than it may have"}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # a decompressor that is ahead must not be waited for


def _unpack(source: str, target: str, subtree: str, whiteouts: bool, limits: dict[str, int]) -> dict[str, object]:
    source_file = _Source(source)
    confine.limit(file_size=limits["bytes"])
    os.umask(0)
    confine.enter(Path(target))
    confine.keep_only((*_UNPACKING, *(_WHITEOUTS if whiteouts else ())))
    work = untar.Unpacking(
        subtree=subtree, whiteouts=whiteouts, limit_bytes=limits["bytes"], limit_entries=limits["entries"]
    )
    content = source_file.content(limit=2 * limits["bytes"] + _SLACK, ratio=limits["ratio"])
    work.run(TarStream(content.read))
    content.drain()
    source_file.finished()
    return {"entries": work.entries, "bytes": work.bytes, "skipped": work.skipped}


def _read(source: str, names: list[str], limit: int) -> dict[str, object]:
    source_file = _Source(source)
    confine.limit(file_size=0)
    confine.keep_only(())
    wanted = {tuple(untar.clean(os.fsencode(name))) for name in names}
    content = source_file.content(limit=1 << 40, ratio=1000)
    stream = TarStream(content.read)
    for member in stream.members():
        if member.kind == 0x30 and tuple(untar.clean(member.name)) in wanted:
            if member.size > limit or member.pieces is not None:
                raise TooLarge(f"{untar.shown(member.name)} is larger than {limit} bytes")
            return {"content": b"".join(stream.blocks()).hex()}
    raise NotFound(f"The archive has no {' or '.join(names)}")


def _repack(
    source: str, target: str | None, subtree: str, wanted: list[str], limits: dict[str, int]
) -> dict[str, object]:
    source_file = _Source(source)
    output = None if target is None else _created(target)
    sink = Sink(output, limit=limits["bytes"] + _SLACK, ratio=limits["ratio"], packed=source_file.size)
    confine.limit(file_size=limits["bytes"] + 2 * _SLACK)
    confine.enter(Path(target or source).parent)
    confine.keep_only(())
    content = source_file.content(limit=2 * limits["bytes"] + _SLACK, ratio=limits["ratio"])
    work = Repacking(sink, subtree=subtree, wanted=wanted, limits=limits)
    try:
        work.run(content)
        source_file.finished()
        diff_id = sink.close()
        if output is not None:
            output.flush()
            os.fsync(output.fileno())
    except OSError as error:
        raise HostFailure("Cannot write the layer", evidence=str(error)) from error
    return {"diff_id": diff_id, "entries": work.entries, "bytes": work.bytes, "found": work.found}


def _pack(directory: str, target: str, prefix: str, compression: str, base: int) -> dict[str, object]:
    output = _created(target)
    try:
        confine.limit(file_size=1 << 50)
        packing = Packing(output, compression=compression, prefix=prefix, base=base)
        confine.enter(Path(directory))
        confine.keep_only((confine.CAP_DAC_READ_SEARCH,))
        packing.run()
        output.flush()
        os.fsync(output.fileno())
    except OSError as error:
        raise HostFailure("Cannot pack the tree", evidence=str(error)) from error
    finally:
        output.close()
    return {"entries": packing.entries}


def _created(target: str) -> BinaryIO:
    try:
        return os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except FileExistsError as error:
        raise AlreadyExists(f"{target} exists already") from error
    except OSError as error:
        raise HostFailure(f"Cannot write {target}", evidence=str(error)) from error


_VERBS: dict[str, Callable[..., dict[str, object]]] = {
    "unpack": _unpack,
    "read": _read,
    "pack": _pack,
    "repack": _repack,
}


class _Source:
    """An archive, opened before the process shuts itself in."""

    def __init__(self, path: str) -> None:
        self._file = _opened(path)
        self._size = os.fstat(self._file.fileno()).st_size
        self._progress = _Progress()
        start = self._file.read(8)
        self._file.seek(0)
        self._kind = packed.compression(start)
        self._reader: subprocess.Popen[bytes] | None = None
        if self._kind == "squashfs":
            self._reader = _squashfs(path)
        elif self._kind == "zstd":
            import zstandard  # noqa: F401 - there is no importing once the root has changed

    def size(self) -> int:
        """Packed bytes in all."""
        return self._size

    def content(self, *, limit: int, ratio: int) -> Unpacked:
        """The decompressed stream, telling progress."""
        if self._reader is not None:
            return Unpacked(self._converted(self._reader), lambda: self._size, limit=limit, ratio=ratio)
        counted = Counted(self._file, self._progress.reach)
        return Unpacked(packed.unpacked(counted, self._kind), lambda: counted.total, limit=limit, ratio=ratio)

    def finished(self) -> None:
        """All has been read."""
        self._progress.tell(self._size)

    def _converted(self, reader: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert reader.stdout is not None
        while block := reader.stdout.read(1 << 20):
            yield block
        if reader.wait() != 0:
            raise InvalidInput("The squashfs image is damaged", evidence=f"sqfs2tar ended with {reader.returncode}")


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


def _squashfs(path: str) -> subprocess.Popen[bytes]:
    """squashfs becomes a tar stream in a process that can write nothing."""
    try:
        # No thread runs yet in this process: that is what makes preexec_fn safe here.
        return subprocess.Popen(
            ["sqfs2tar", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=_as_reader,  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        raise Unsupported(
            "The root file system is a squashfs image", remedy="install the package squashfs-tools-ng"
        ) from error


def _as_reader() -> None:
    confine.limit(file_size=0)
    confine.become_reader()


class _Progress:
    """At most ten lines a second."""

    def __init__(self) -> None:
        self._told = 0.0

    def reach(self, total: int) -> None:
        """Say how many packed bytes have been read so far."""
        moment = time.monotonic()
        if moment - self._told >= 0.1:
            self._told = moment
            self.tell(total)

    def tell(self, total: int) -> None:
        """Say it now."""
        sys.stderr.write(f"progress {total}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
