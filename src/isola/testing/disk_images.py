"""Disk images in the fake file system: a real header, then the content of the disk without the zeros at its end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput, NotFound, TooLarge, UnsafeArchive, Unsupported
from isola.host.disk_images import DiskInfo, DiskLimits
from isola.model.disk import DiskFormat
from isola.model.disk_header import HEAD, Header, read_header
from isola.testing.files import FakeFiles
from isola.testing.tree import find

_HEADER = 112
_LIMITS = DiskLimits()


def qcow2(size: int, content: bytes = b"", *, backing: int = 0, encryption: int = 0, features: int = 0) -> bytes:
    """A qcow2 file, as far as fakes read it; the real header of version 3."""
    start = struct.pack(">4sIQIIQI", b"QFI\xfb", 3, backing, 0, 16, size, encryption)
    start = start.ljust(72, b"\0") + struct.pack(">Q", features)
    return start.ljust(_HEADER, b"\0") + content


class FakeDiskImages:
    """The same checks and errors as the real implementation, for small disks."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files
        self.installed = True

    async def header(self, source: Path) -> Header:
        """What the file says it is."""
        data = await self.files.read(source)
        return read_header(data[:HEAD], len(data))

    async def look(self, source: Path, format: DiskFormat, limits: DiskLimits = _LIMITS) -> DiskInfo:
        """Its size, and that of its content."""
        size, content = await self._open(source, format)
        _bound(size, len(content), limits)
        return DiskInfo(size, len(content))

    async def convert(
        self,
        source: Path,
        target: Path,
        *,
        format: DiskFormat,
        to: DiskFormat,
        below: Path | None = None,
        limits: DiskLimits = _LIMITS,
        progress: Callable[[int], None] | None = None,
    ) -> DiskInfo:
        """What is below shows only where the content of the source ends."""
        size, content = await self._open(source, format)
        if below is not None:
            lower = await self.files.read(below)
            content += lower.rstrip(b"\0")[len(content) :]
        _bound(size, len(content), limits)
        await self._new(target, qcow2(size, content) if to is DiskFormat.QCOW2 else content.ljust(size, b"\0"))
        if progress is not None:
            progress(len(content))
        return DiskInfo(size, len(content))

    async def create(self, target: Path, size: int, *, owner: int = 0) -> None:
        """Without content."""
        self._require()
        await self._new(target, qcow2(size))
        find(self.files.tree, target).uid = owner

    async def grow(self, target: Path, size: int) -> None:
        """Keeps the content."""
        old, content = await self._open(target, DiskFormat.QCOW2)
        if size < old:
            raise InvalidInput("A disk cannot shrink", field="size")
        await self.files.write(target, qcow2(size, content))

    async def _open(self, source: Path, format: DiskFormat) -> tuple[int, bytes]:
        self._require()
        if not await self.files.exists(source):
            raise NotFound(f"There is no disk image {source}")
        data = await self.files.read(source)
        header = read_header(data[:HEAD], len(data))
        if format is DiskFormat.RAW:
            return len(data), data.rstrip(b"\0")
        if header.format is not format:
            raise InvalidInput(f"The disk image is not a {format.value} file")
        if data.endswith(b"truncated"):
            raise InvalidInput("The disk image is damaged")
        return header.size, data[_HEADER:]

    async def _new(self, target: Path, data: bytes) -> None:
        if await self.files.exists(target):
            raise AlreadyExists(f"{target} exists already")
        await self.files.write(target, data)

    def _require(self) -> None:
        if not self.installed:
            raise Unsupported("Disks of virtual machines need qemu-img", remedy="install the package qemu-utils")


def _bound(size: int, used: int, limits: DiskLimits) -> None:
    if size > limits.size:
        raise TooLarge("The disk is too large")
    if used > limits.bytes:
        raise UnsafeArchive("The disk contains too much data")
