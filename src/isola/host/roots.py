"""Access from the host to the files of an instance, which are untrusted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A file inside a root. ``kind`` is ``file``, ``directory``, ``symlink`` or ``other``."""

    kind: str
    mode: int
    uid: int
    """As shown inside."""
    gid: int
    size: int
    target: str = ""
    """Target of a symbolic link."""
    modified: int = 0
    """Seconds since 1970."""
    accessed: int = 0
    links: int = 1
    format: int = 0
    """Type bits of ``st_mode``."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a file is opened."""

    read: bool = False
    write: bool = False
    append: bool = False
    create: bool = False
    exclusive: bool = False
    """With ``create``: fail if it exists."""
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """Attributes to set of a file; None leaves one unchanged."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    """As shown inside."""
    gid: int | None = None
    accessed: int | None = None
    """Seconds since 1970."""
    modified: int | None = None


class OpenFile(Protocol):
    """A regular file inside a root, open until it or the root is closed. Raises the same errors as Root."""

    async def read(self, offset: int, size: int) -> bytes:
        """At most 256 KiB; empty at the end."""
        ...

    async def write(self, offset: int, data: bytes) -> None:
        """Write all data; a file opened with ``append`` ignores the offset."""
        ...

    async def stat(self) -> Entry: ...

    async def change(self, changes: Changes) -> None: ...

    async def sync(self) -> None:
        """Write the content to disk (fsync)."""
        ...

    async def space(self) -> os.statvfs_result:
        """Of the file system of the file."""
        ...

    async def close(self) -> None: ...


class Root(Protocol):
    """An instance's file system. No path, symbolic link or race inside leads out of it (RESOLVE_IN_ROOT).

    Errors: NotFound, InvalidInput (not a directory, is a directory, not empty), Unsupported (devices, sockets, pseudo
    file systems like proc, and file systems that may never respond, like FUSE).
    """

    async def stat(self, path: str, *, follow: bool = True) -> Entry: ...

    async def names(self, path: str) -> AsyncIterator[tuple[str, ...]]:
        """The names in a directory, in pieces of at most 4096, sorted within each; there may be millions."""
        ...

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
        """Create a file or replace its content atomically: if the iterator raises, the file stays as it was.

        An existing file keeps its mode if ``mode`` is None, and its owner if ``uid`` and ``gid`` are -1.
        """
        ...

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """No effect if the directory exists."""
        ...

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """No effect if a link to the same target exists, which then keeps its owner."""
        ...

    async def remove(self, path: str, *, files: bool = True, directories: bool = True) -> None:
        """Remove a file, a symbolic link or an empty directory; only those kinds that are enabled."""
        ...

    async def open(self, path: str, access: Access, *, mode: int | None = None) -> OpenFile:
        """A new file belongs to root inside and has ``mode``, or 0644. Not created through a dangling symbolic link.

        A directory can be opened for ``stat``; reading and writing it is refused.
        """
        ...

    async def create_directory(self, path: str, *, mode: int) -> None:
        """Owned by root inside. Raises InvalidInput if the name exists."""
        ...

    async def create_symlink(self, path: str, target: str) -> None:
        """Owned by root inside. Raises InvalidInput if the name exists."""
        ...

    async def target(self, path: str) -> str:
        """Target of a symbolic link, with surrogate escapes for invalid UTF-8. Raises InvalidInput for other files."""
        ...

    async def entries(self, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        """Names (with surrogate escapes) and attributes of a directory's entries, unsorted; links are not followed."""
        ...

    async def change(self, path: str, changes: Changes, *, follow: bool = True) -> None:
        """Set the attributes that are not None."""
        ...

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Within one mount. Raises InvalidInput if ``new`` exists and ``replace`` is not set."""
        ...

    async def link(self, old: str, new: str) -> None:
        """Create a hard link; symbolic links are not followed."""
        ...

    async def space(self, path: str) -> os.statvfs_result:
        """Of the file system that contains ``path``."""
        ...
