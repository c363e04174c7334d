"""Disk images, which are untrusted: read, converted and made by qemu-img in confined processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from isola.host.archive.answers import Answer
from isola.host.archive.forked import Counter, Forked
from isola.host.archive.requesting import ask, ask_for_file
from isola.host.threads import in_thread
from isola.model.disk import DiskFormat
from isola.model.disk_header import HEAD, Header, read_header


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """Beyond these a disk image is refused."""

    size: int = 8 << 40
    """Bytes of the disk as a guest sees it."""
    bytes: int = 64 << 30
    """Bytes of data in it."""
    ratio: int = 400
    """Bytes of data for each of the file, beyond the first GiB: clusters may be compressed, or be the same one."""


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """What is in a disk image."""

    size: int
    """Bytes of the disk."""
    used: int
    """At most so many bytes of it are data."""


class DiskImages(Protocol):
    """All methods raise HostFailure, and Unsupported without the program that reads disk images."""

    async def header(self, source: Path) -> Header:
        """What the file says it is. Raises NotFound, InvalidInput, UnsafeArchive (it needs other files)."""
        ...

    async def look(self, source: Path, format: DiskFormat, limits: DiskLimits = DiskLimits()) -> DiskInfo:
        """Check it: raises InvalidInput also if it is truncated, TooLarge, UnsafeArchive."""
        ...

    async def convert(
        self,
        source: Path,
        target: Path,
        *,
        format: DiskFormat,
        to: DiskFormat,
        below: Path | None = None,
        limits: DiskLimits = DiskLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> DiskInfo:
        """Check it, and write its content to a new file, fsynced: raw with holes, or qcow2 compressed with zstd.

        ``below``: the raw disk that shows where the source, a qcow2 file, has nothing. Raises TooLarge, UnsafeArchive,
        InvalidInput, AlreadyExists; leaves no file then.
        """
        ...

    async def create(self, target: Path, size: int, *, owner: int = 0) -> None:
        """A new empty disk in a qcow2 file, fsynced. Raises AlreadyExists."""
        ...

    async def grow(self, target: Path, size: int) -> None:
        """The disk in a qcow2 file that nothing else uses. Raises InvalidInput if it is larger already."""
        ...


class LinuxDiskImages:
    """By ``qemu-img`` (see ``archive.disk_verbs``)."""

    def __init__(self, forked: Forked) -> None:
        self._forked = forked

    async def header(self, source: Path) -> Header:
        """Read here: there are only numbers in it."""
        head, size = await in_thread(_head, source)
        return read_header(head, size)

    async def look(self, source: Path, format: DiskFormat, limits: DiskLimits = DiskLimits()) -> DiskInfo:
        """By two calls of the program."""
        request = {"source": str(source), "format": format.value, "limits": asdict(limits)}
        return _info(await ask(self._forked, "look_disk", request))

    async def convert(
        self,
        source: Path,
        target: Path,
        *,
        format: DiskFormat,
        to: DiskFormat,
        below: Path | None = None,
        limits: DiskLimits = DiskLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> DiskInfo:
        """Leaves no file if it fails."""
        request = {"source": str(source), "format": format.value, "target": str(target), "to": to.value}
        more = {"below": None if below is None else str(below), "limits": asdict(limits)}
        return _info(
            await ask_for_file(self._forked, "convert_disk", target, {**request, **more}, Counter(progress).take_line)
        )

    async def create(self, target: Path, size: int, *, owner: int = 0) -> None:
        """Leaves no file if it fails."""
        await ask_for_file(self._forked, "create_disk", target, {"target": str(target), "size": size, "owner": owner})

    async def grow(self, target: Path, size: int) -> None:
        """In place."""
        await ask(self._forked, "resize_disk", {"target": str(target), "size": size})


def _info(answer: Answer) -> DiskInfo:
    return DiskInfo(answer.number("size"), answer.number("used"))


def _head(source: Path) -> tuple[bytes, int]:
    with source.open("rb") as file:
        return file.read(HEAD), source.stat().st_size
