"""Trees whose size the file system can limit, because each has a project of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

from isola.errors import IsolaError
from isola.host import Host
from isola.storage.foreign import names_in
from isola.storage.tree_layers import Trees

NO_PROJECTS = (
    "the file system of the pool has no project quotas: enable them (ext4: tune2fs -O project,quota while it is not"
    " mounted, then mount -o prjquota; XFS: mount -o pquota), or use a btrfs pool"
)


class LimitedTrees(Trees):
    """Directories; with projects if ``enforced``, from the time of their creation on."""

    def __init__(self, host: Host, partial: Path) -> None:
        super().__init__(host, partial)
        self.enforced = False
        """Whether the file system enforces limits; found out by ``look``."""

    async def look(self) -> None:
        """Find out whether limits are enforced where ``partial`` is."""
        self.enforced = await self.host.tree_quotas.enforced(self.partial)

    async def create(self, path: Path, *, mode: int) -> None:
        """With a new project."""
        await super().create(path, mode=mode)
        if self.enforced:
            await self.host.tree_quotas.begin(path)

    async def clone(self, source: Path, target: Path) -> None:
        """With a new project."""
        await self.copy(source, target)

    async def copy(self, source: Path, target: Path) -> None:
        """With a new project: its limit is not that of the source."""
        if self.enforced:
            await self.create(target, mode=0o700)
        await self.host.files.copy_tree(source, target, into=self.enforced)

    async def gather(self, place: Path, tree: Path) -> None:
        """Files can only be moved between directories of one project."""
        if self.enforced:
            await self.host.tree_quotas.join(place, tree)

    async def part(self, place: Path) -> None:
        """The tree may have reached its limit, which XFS has for root, too."""
        if self.enforced:
            await self.host.tree_quotas.join(place, self.partial)

    async def destroy(self, place: Path) -> None:
        """Also unsets the limits of its trees, which would stay in the file system's list."""
        if self.enforced:
            with contextlib.suppress(IsolaError):  # such a limit does no harm, and the names may be those of guests
                await self._release(place)
        await super().destroy(place)

    async def _release(self, place: Path) -> None:
        for name in await names_in(self.host, place):
            if name in ("data", "upper") and await self.host.tree_quotas.usage(place / name) is not None:
                await self.host.tree_quotas.limit(place / name, None)

    async def limit(self, path: Path, size: int | None) -> None:
        """By its project. Raises Unsupported for a tree that was created without one."""
        if self.enforced and (size is not None or await self.host.tree_quotas.usage(path) is not None):
            await self.host.tree_quotas.limit(path, size)

    async def usage(self, path: Path) -> int:
        """As the file system counts; of a tree without project, as a walk finds."""
        counted = await self.host.tree_quotas.usage(path) if self.enforced else None
        return await super().usage(path) if counted is None else counted
