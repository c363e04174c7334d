"""What lies inside an instance's root, as seen from outside (never trusted)."""

from __future__ import annotations

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
        """Fine when the directory is there."""
        ...

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """Fine when a link to the same target is there, which then keeps its owner."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a file, a link or an empty directory."""
        ...
