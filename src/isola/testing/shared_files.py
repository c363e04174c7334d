"""A file system in memory, with one directory on the real disk."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from isola.host.files import Files, LinuxFiles
from isola.model.storage import Space
from isola.testing.files import FakeFiles


class SharedFiles(FakeFiles):
    """Below ``shared`` it uses real files, for uploads and downloads that doors handle by file descriptor.

    Instance roots are always in memory.
    """

    def __init__(self, shared: Path) -> None:
        super().__init__()
        self._shared = shared
        self._disk = LinuxFiles()
        self._memory = _Memory(self)

    def _at(self, path: Path) -> Files:
        return self._disk if path.is_relative_to(self._shared) else self._memory

    async def read(self, path: Path, size: int = -1) -> bytes:
        """The content, or its first ``size`` bytes."""
        return await self._at(path).read(path, size)

    def blocks(self, path: Path) -> AsyncIterator[bytes]:
        """Of the part that has it."""
        return self._at(path).blocks(path)

    async def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        """Without fsync."""
        await self._at(path).write(path, data, mode=mode, durable=False)

    async def make_directory(self, *paths: Path, mode: int = 0o711, owner: int | None = None) -> None:
        """With their parents."""
        for path in paths:
            await self._at(path).make_directory(path, mode=mode, owner=owner)

    async def exists(self, path: Path) -> bool:
        """Whether a file of any kind exists."""
        return await self._at(path).exists(path)

    async def size(self, path: Path) -> int:
        """Bytes of its content."""
        return await self._at(path).size(path)

    async def names(self, directory: Path) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        return await self._at(directory).names(directory)

    async def read_all(self, directory: Path) -> Mapping[str, bytes]:
        """Content of the regular files in a directory."""
        return await self._at(directory).read_all(directory)

    async def rename(self, source: Path, target: Path) -> None:
        """Both paths must be real, or both in memory."""
        await self._at(source).rename(source, target)

    async def remove_tree(self, path: Path, *, flush: Sequence[Path] = ()) -> None:
        """With all its content."""
        await self._at(path).remove_tree(path)

    async def duplicate(self, source: Path, target: Path) -> None:
        """Also between the real file system and memory."""
        if self._at(source) is self._at(target):
            await self._at(source).duplicate(source, target)
        else:
            await self.copy(io.BytesIO(await self.read(source)), target)

    async def extend(self, path: Path, data: bytes, *, at: int) -> None:
        """Write at an offset, and truncate after it."""
        await self._at(path).extend(path, data, at=at)

    async def digest(self, *paths: Path, algorithm: str = "sha256") -> tuple[str, int]:
        """Of all contents concatenated; the files must all be real, or all in memory."""
        return await self._at(paths[0]).digest(*paths, algorithm=algorithm)

    async def copy(self, source: BinaryIO, target: Path) -> int:
        """Write a stream to a new file."""
        return await self._at(target).copy(source, target)

    async def disk_usage(self, directory: Path) -> int:
        """Whole blocks."""
        return await self._at(directory).disk_usage(directory)

    async def space(self, directory: Path) -> Space:
        """``capacity``, for real directories too."""
        return self.capacity

    async def sync(self, directory: Path) -> None:
        """Nothing is lost while a test runs."""

    async def flush(self, *paths: Path) -> None:
        """Nothing is lost while a test runs."""


class _Memory(FakeFiles):
    """The part in memory, which uses the same tree."""

    def __init__(self, whole: FakeFiles) -> None:
        super().__init__()
        self.tree = whole.tree
        self.process_roots = whole.process_roots
