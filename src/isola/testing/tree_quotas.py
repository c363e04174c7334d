"""Projects of directory trees in the fake file system."""

from __future__ import annotations

from pathlib import Path

from isola.errors import Unsupported
from isola.testing.files import FakeFiles
from isola.testing.tree import Node, find


class FakeTreeQuotas:
    """Limits are remembered, not enforced."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files
        self.everywhere = False
        """Whether the whole fake file system enforces limits."""
        self.limits: dict[int, int | None] = {}
        """Limits in bytes, by project."""
        self._projects: dict[Node, int] = {}
        self._last = 0

    async def enforced(self, path: Path) -> bool:
        """The same everywhere."""
        self._find(path)
        return self.everywhere

    async def begin(self, *paths: Path) -> None:
        """Numbers in turn."""
        self._last += 1
        for path in paths:
            self._projects[self._find(path)] = self._last

    async def join(self, path: Path, other: Path) -> None:
        """What is created in it does not inherit it."""
        self._projects[self._find(path)] = self.project(other)

    async def limit(self, path: Path, size: int | None) -> None:
        """Remembered."""
        if not (project := self.project(path)):
            raise Unsupported("This volume cannot be limited")
        self.limits[project] = size

    async def usage(self, path: Path) -> int | None:
        """Counted by walking the nodes."""
        return await self.files.disk_usage(path) if self.project(path) else None

    def project(self, path: Path) -> int:
        """0: none."""
        return self._projects.get(self._find(path), 0)

    def _find(self, path: Path) -> Node:
        return find(self.files.tree, path)
