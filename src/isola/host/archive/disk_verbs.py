"""Verbs of the process that writes archives, about disk images (see ``archiver``)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound, TooLarge, UnsafeArchive
from isola.host.archive.output import created
from isola.host.archive.qemu_img import BELOW, SOURCE, TARGET, run
from isola.host.credentials import owner_of_files
from isola.host.exhaustion import host_refused
from isola.model.disk import DiskFormat
from isola.model.disk_header import HEAD, REMEDY, read_header

_SECONDS, _SECONDS_FOR_A_MIB, _MOST_SECONDS = 300, 4, 6 * 3600
_SLACK = 1 << 30
_FREE = 1 << 30
"""Bytes of data that any file may have."""
_QCOW2_OPTIONS = "compat=1.1,compression_type=zstd,cluster_size=65536"


def look_disk(*, source: str, format: str, limits: dict[str, int]) -> bytes:
    """Its size, and at most how many bytes of data are in it."""
    found = _looked(Path(source), DiskFormat(format))
    _bound(found["size"], found["used"], limits)
    _bound_ratio(found["used"], Path(source), limits)
    return json.dumps(found).encode()


def convert_disk(*, source: str, format: str, below: str | None, target: str, to: str, limits: dict[str, int]) -> bytes:
    """Write a new file with the same content."""
    found = _looked(Path(source), DiskFormat(format))
    size = found["size"]
    used = found["used"] + (os.stat(below).st_blocks * 512 if below is not None else 0)
    _bound(size, used, limits)
    _bound_ratio(found["used"], Path(source), limits)
    with created(target, "none") as file:
        options = ["-c", "-o", _QCOW2_OPTIONS] if to == DiskFormat.QCOW2.value else ["-S", "4k"]
        run(
            ["convert", "-p", "-t", "writeback", "-O", to, *options, _node(DiskFormat(format), below), f"/{TARGET}"],
            shown={SOURCE: Path(source)} | ({BELOW: Path(below)} if below is not None else {}),
            changed={TARGET: Path(target)},
            seconds=_seconds(used),
            file_size=max(size, used) + _SLACK,
            progress=lambda percent: _tell(used * percent // 100),
        )
        os.fsync(file.fileno())
    return json.dumps(found).encode()


def create_disk(*, target: str, size: int, owner: int) -> bytes:
    """An empty qcow2 file without a backing file."""
    with _created_by(owner, Path(target)) as file:
        run(
            ["create", "-q", "-f", "qcow2", "-o", "compat=1.1,cluster_size=65536", f"/{TARGET}", str(size)],
            shown={},
            changed={TARGET: Path(target)},
            seconds=_SECONDS,
            file_size=_SLACK,
        )
        os.fsync(file.fileno())
    return b"{}"


def _created_by(owner: int, target: Path) -> BinaryIO:
    """A new file that a user owns: where ids are mapped, others cannot create any."""
    directory = os.open(target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with owner_of_files(owner):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(target.name, flags, 0o600, dir_fd=directory), "wb")
    except FileExistsError as error:
        raise AlreadyExists(f"{target} exists already") from error
    except OSError as error:
        raise host_refused(f"Cannot write {target}", error) from error
    finally:
        os.close(directory)


def resize_disk(*, target: str, size: int) -> bytes:
    """Grow a qcow2 file."""
    path = Path(target)
    if size < _header(path, DiskFormat.QCOW2):
        raise InvalidInput("A disk cannot shrink", field="size", remedy="the file systems on it would be cut off")
    run(
        ["resize", "-q", "-f", "qcow2", f"/{TARGET}", str(size)],
        shown={},
        changed={TARGET: path},
        seconds=_SECONDS,
        file_size=path.stat().st_size + _SLACK,
    )
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return b"{}"


VERBS: Mapping[str, Callable[..., bytes]] = {
    "look_disk": look_disk,
    "convert_disk": convert_disk,
    "create_disk": create_disk,
    "resize_disk": resize_disk,
}


def _bound(size: int, used: int, limits: Mapping[str, int]) -> None:
    if size > limits["size"]:
        raise TooLarge(
            "The disk is too large",
            evidence=f"{size} bytes, at most {limits['size']} are allowed",
            remedy="raise images.limits.disk",
        )
    if used > limits["bytes"]:
        raise UnsafeArchive(
            "The disk contains too much data",
            evidence=f"{used} bytes, at most {limits['bytes']} are allowed",
            remedy="raise images.limits.bytes",
        )


def _bound_ratio(used: int, source: Path, limits: Mapping[str, int]) -> None:
    stored = source.stat().st_size
    if used > _FREE and used > limits["ratio"] * stored:
        raise UnsafeArchive(
            "The disk contains far more data than its file",
            evidence=f"{used} bytes in {stored}, at most {limits['ratio']} times as many are allowed",
            remedy="raise images.limits.ratio",
        )


def _looked(source: Path, format: DiskFormat) -> dict[str, int]:
    """The header is read here, strictly; all else by qemu-img."""
    size = _header(source, format)
    stored = source.stat().st_size
    if format is DiskFormat.RAW:
        return {"size": size, "used": source.stat().st_blocks * 512}
    shown = {SOURCE: source}
    if format is DiskFormat.QCOW2:
        run(["check", "-q", _node(format, None)], shown=shown, changed={}, seconds=_seconds(stored))
    else:
        _refuse_others(run(["info", "--output=json", _node(format, None)], shown=shown, changed={},
                           seconds=_SECONDS))  # fmt: skip
    measured = run(
        ["measure", "--output=json", "-O", "qcow2", _node(format, None)],
        shown=shown,
        changed={},
        seconds=_seconds(stored),
    )
    return {"size": size, "used": _number(_document(measured).get("required"))}


def _header(source: Path, format: DiskFormat) -> int:
    try:
        with source.open("rb") as file:
            header = read_header(file.read(HEAD), os.fstat(file.fileno()).st_size)
    except FileNotFoundError as error:
        raise NotFound(f"There is no disk image {source}") from error
    except OSError as error:
        raise HostFailure(f"Cannot read {source}", evidence=str(error)) from error
    if format is not DiskFormat.RAW and header.format is not format:
        raise InvalidInput(f"The disk image is not a {format.value} file", remedy="send it again")
    return header.size if header.format is format else source.stat().st_size


def _refuse_others(output: bytes) -> None:
    """Raises UnsafeArchive for a VMDK that names other files."""
    document = _document(output)
    extents = (document.get("format-specific") or {}).get("data", {}).get("extents", [])
    others = [each.get("filename") for each in extents if each.get("filename") != f"/{SOURCE}"]
    if document.get("backing-filename") or others or len(extents) != 1:
        raise UnsafeArchive("The disk image needs other files", evidence=str(others)[:200], remedy=REMEDY)


def _document(output: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(output)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("The disk image is damaged", evidence=output.decode(errors="replace")[:200])
    return found


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise InvalidInput("The disk image is damaged", evidence="its size cannot be measured")
    return value


def _node(format: DiskFormat, below: str | None) -> str:
    """The disk with all formats named, so that nothing in it decides what else is opened."""
    node: dict[str, object] = {"driver": format.value, "file": _file(SOURCE)}
    if below is not None:
        node["backing"] = {"driver": "raw", "file": _file(BELOW)}
    elif format is not DiskFormat.RAW:
        node["backing"] = None
    return f"json:{json.dumps(node)}"


def _file(name: str) -> Mapping[str, object]:
    """Without a lock, because a hypervisor that is paused may have it open."""
    return {"driver": "file", "filename": f"/{name}", "locking": "off"}


def _seconds(size: int) -> int:
    return min(_SECONDS + _SECONDS_FOR_A_MIB * (size >> 20), _MOST_SECONDS)


def _tell(total: int) -> None:
    sys.stderr.write(f"progress {total}\n")
    sys.stderr.flush()
