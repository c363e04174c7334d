"""Files inside an instance's root, accessed from outside (untrusted)."""

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
    """As seen inside."""
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
    """With ``create``: not if it is there."""
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """Attributes to set of a file; None leaves one unchanged."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    """As seen inside."""
    gid: int | None = None
    accessed: int | None = None
    """Seconds since 1970."""
    modified: int | None = None


class OpenFile(Protocol):
    """A regular file inside a root, open until it or the root is closed. Errors are those of the root."""

    async def read(self, offset: int, size: int) -> bytes:
        """At most 256 KiB; empty at the end."""
        ...

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of the data; at the end of a file that was opened to append."""
        ...

    async def stat(self) -> Entry: ...

    async def change(self, changes: Changes) -> None: ...

    async def sync(self) -> None:
        """It is on disk when this returns."""
        ...

    async def space(self) -> os.statvfs_result:
        """Of its file system."""
        ...

    async def close(self) -> None: ...


class Root(Protocol):
    """An instance's file system from ``/`` down. No path, link or race inside leads outside (RESOLVE_IN_ROOT).

    Errors: NotFound, InvalidInput (not a directory, is a directory, not empty), Unsupported (device, socket, and file
    systems that answer according to who opens them, or may not answer at all).
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
        """Create or replace the content; an existing file keeps mode and owner unless given (``uid``/``gid`` -1).

        All or nothing: a file whose new content, or whose appended end, does not come whole stays as it was.
        """
        ...

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """No effect if the directory exists."""
        ...

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """No effect if a link to the same target exists, which then keeps its owner."""
        ...

    async def remove(self, path: str, *, files: bool = True, directories: bool = True) -> None:
        """Remove a file or a link, or an empty directory; without one of them the other is refused."""
        ...

    async def open(self, path: str, access: Access, *, mode: int | None = None) -> OpenFile:
        """A new file belongs to root inside and has ``mode``, or 0644. A dangling link is not created through.

        A directory can be opened to be looked at (``stat``); reading and writing it is refused.
        """
        ...

    async def create_directory(self, path: str, *, mode: int) -> None:
        """For root inside. Raises InvalidInput when anything is there."""
        ...

    async def create_symlink(self, path: str, target: str) -> None:
        """For root inside. Raises InvalidInput when anything is there."""
        ...

    async def target(self, path: str) -> str:
        """Of a symbolic link, with surrogate escapes for what is not UTF-8. Raises InvalidInput for other files."""
        ...

    async def entries(self, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        """Names in a directory with what they are, links not followed; with surrogate escapes, in no order."""
        ...

    async def change(self, path: str, changes: Changes, *, follow: bool = True) -> None:
        """Set what is not None."""
        ...

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Within one mount. Raises InvalidInput when ``new`` is there and is not to be replaced."""
        ...

    async def link(self, old: str, new: str) -> None:
        """Another name for a file; of a symbolic link, for the link itself."""
        ...

    async def space(self, path: str) -> os.statvfs_result:
        """Of the file system that ``path`` lies on."""
        ...
