"""Files: what the daemon keeps, and what lies inside an instance's root (never trusted)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from isola.model.identity import IdRange
from isola.model.storage import Space


@dataclass(frozen=True, slots=True)
class Entry:
    """A file inside a root. ``kind`` is ``file``, ``directory``, ``symlink`` or ``other``."""

    kind: str
    mode: int
    uid: int
    """As seen inside."""
    gid: int
    size: int
    names: tuple[str, ...] = ()
    """Names in a directory, sorted."""
    target: str = ""
    """Target of a symbolic link."""


class Root(Protocol):
    """An instance's file system from ``/`` down. No path, link or race inside leads outside (RESOLVE_IN_ROOT).

    Errors: NotFound, InvalidInput (not a directory, is a directory, not empty), Unsupported (device, socket).
    """

    async def stat(self, path: str, *, follow: bool = True) -> Entry: ...

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """The content of a regular file in blocks of at most 256 KiB."""
        ...

    async def write(
        self,
        path: str,
        content: AsyncIterator[bytes],
        *,
        uid: int,
        gid: int,
        mode: int | None,
        append: bool = False,
    ) -> None:
        """Create or replace the content; an existing file keeps mode and owner unless given (``uid``/``gid`` -1)."""
        ...

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Fine when the directory is there."""
        ...

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None: ...

    async def remove(self, path: str) -> None:
        """Remove a file, a link or an empty directory."""
        ...


class Files(Protocol):
    """The daemon's own files. Paths are absolute."""

    async def read(self, path: Path) -> bytes:
        """Raises NotFound."""
        ...

    async def write(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        """Atomically: temporary file, fsync, rename, fsync of the directory."""
        ...

    async def make_directory(self, path: Path, *, mode: int = 0o711, owner: int | None = None) -> None:
        """With its parents; fine when it is there."""
        ...

    async def exists(self, path: Path) -> bool: ...

    async def names(self, directory: Path) -> tuple[str, ...]:
        """Names in a directory, sorted; empty when it is not there."""
        ...

    async def rename(self, source: Path, target: Path) -> None:
        """Within one file system, and durable when it returns."""
        ...

    async def remove_tree(self, path: Path) -> None:
        """Remove a file or a tree whatever lies in it; never crosses a mount point; fine when it is not there."""
        ...

    async def copy(self, source: BinaryIO, target: Path) -> int:
        """Write a stream to a new file and fsync it; returns the bytes written."""
        ...

    async def disk_usage(self, directory: Path) -> int:
        """Bytes allocated below a directory, on its own file system."""
        ...

    async def space(self, directory: Path) -> Space:
        """Size and use of the file system a directory lies on."""
        ...

    def root(
        self, directory: Path | None = None, *, pid: int | None = None, idmap: IdRange | None = None
    ) -> AbstractAsyncContextManager[Root]:
        """Open an instance's root: a directory, or what process ``pid`` sees as ``/``. Ids are shifted by ``idmap``."""
        ...
