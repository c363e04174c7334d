"""Mounts: overlay roots over id-mapped layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isola.model.identity import IdRange


@dataclass(frozen=True, slots=True)
class OverlayMount:
    """An overlay whose lower layers are shown with ids shifted into ``idmap``; nothing is copied or chowned."""

    lower: tuple[Path, ...]
    """Bottom layer first."""
    upper: Path
    work: Path
    target: Path
    idmap: IdRange | None = None

    def describe(self) -> str:
        """One line for plans and messages."""
        return f"overlay of {len(self.lower)} layer(s) on {self.target}"


class Mounts(Protocol):
    """Mount, unmount, and say what is mounted."""

    async def overlay(self, mount: OverlayMount) -> None:
        """Mount; the target exists. Nothing stays mounted when it fails. Raises HostFailure."""
        ...

    async def unmount(self, target: Path) -> None:
        """Unmount (lazily, so that it cannot fail as busy); fine when nothing is mounted there."""
        ...

    async def mounted(self, target: Path) -> bool:
        """Whether ``target`` is a mount point."""
        ...

    async def below(self, directory: Path) -> tuple[Path, ...]:
        """All mount points at or below a directory, deepest first."""
        ...
