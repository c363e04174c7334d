"""Archives: hostile until unpacked; contained while unpacking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may unpack to before it counts as a bomb."""

    bytes: int = 64 * 2**30
    entries: int = 4_000_000
    ratio: int = 400
    """Unpacked bytes per packed byte, looked at beyond the first GiB."""


@dataclass(frozen=True, slots=True)
class UnpackReport:
    """What was unpacked, and what was left out because it is not allowed in an unprivileged root."""

    entries: int
    bytes: int
    skipped: tuple[str, ...] = ()
    """Paths of device nodes left out (at most 100 are named)."""


class Archives(Protocol):
    """Tar archives, plain or compressed by gzip, bzip2, xz or zstd (recognised by content, not by name)."""

    async def unpack(
        self,
        source: Path,
        target: Path,
        *,
        subtree: str = "",
        whiteouts: bool = False,
        limits: UnpackLimits = UnpackLimits(),
        progress: Callable[[int], None] | None = None,
    ) -> UnpackReport:
        """Unpack with owners, modes, times, hard links, xattrs and sparse files, confined to ``target``.

        ``subtree`` keeps only what lies below that path in the archive and strips it. ``whiteouts`` turns OCI
        ``.wh.`` entries into overlay whiteouts. Absolute names and ``..`` and links that lead out cannot reach
        outside. ``progress`` is told packed bytes read since the last call. The work happens in a process of its own
        confined to ``target``. Raises UnsafeArchive or InvalidInput; the caller removes ``target`` then.
        """
        ...

    async def read_member(self, source: Path, names: tuple[str, ...], *, limit: int = 1 << 20) -> bytes:
        """Content of the first regular member with one of these names. Raises NotFound, TooLarge, InvalidInput."""
        ...

    async def pack(
        self, directory: Path, target: Path, *, prefix: str = "", compression: str = "gzip", base: int = 0
    ) -> None:
        """Pack a tree in a reproducible order with owners shifted down by ``base``; fsynced."""
        ...
