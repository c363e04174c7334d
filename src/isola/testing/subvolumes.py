"""Btrfs in the fake file system: subvolumes are marked directories."""

from __future__ import annotations

from pathlib import Path

from isola.errors import AlreadyExists, HostFailure, NotFound
from isola.testing.files import FakeFiles
from isola.testing.tree import Node, duplicate, find, parent_of, walk

_MARK = "btrfs.subvolume"


class FakeSubvolumes:
    """``formatted`` has the files and devices that contain a file system, which is always btrfs."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files
        self.limits: dict[int, int | None] = {}
        """Limits in bytes, by the id of the subvolume's node."""
        self.failure: HostFailure | None = None
        """Raised by the next ``format``s."""
        self.everywhere = False
        """Whether the whole fake file system is btrfs."""

    async def format(self, device: Path, label: str) -> None:
        """Record an empty file system on the device."""
        if self.failure is not None:
            raise self.failure
        node = find(self.files.tree, device)
        if "disk" in node.xattrs:
            raise HostFailure(f"{device} holds a file system", evidence="use --force")
        node.xattrs["disk"] = b"btrfs"

    async def supports(self, path: Path) -> bool:
        """Whether the path is on a mounted fake disk."""
        here, inside = self.files.tree, self.everywhere
        for part in path.parts[1:]:
            if part not in here.children:
                raise NotFound(f"{path} does not exist")
            here = here.children[part]
            inside = inside or (bool(here.mounts) and "btrfs" in here.seen.xattrs)
            here = here.seen
        return inside

    async def create(self, path: Path) -> None:
        """A marked directory."""
        await self._require(path.parent)
        self._add(path, Node("directory", 0o755, xattrs={_MARK: b""}))

    async def snapshot(self, source: Path, target: Path) -> None:
        """A copy of the nodes."""
        await self._require(target.parent)
        self._subvolume(source)
        self._add(target, duplicate(self._subvolume(source)))

    async def delete(self, path: Path) -> bool:
        """False if it does not exist."""
        if not await self.files.exists(path):
            return True
        node = find(self.files.tree, path, follow=False)
        if _MARK not in node.xattrs:
            return False
        if any(below.mounts for below in walk(node)):
            raise HostFailure(f"btrfs refused {path}", evidence="busy")
        holder, name = parent_of(self.files.tree, path)
        del holder.children[name]
        return True

    async def enable_quota(self, path: Path) -> None:
        """No effect: usage is always counted."""

    async def has_quota(self, path: Path) -> bool:
        """Always true."""
        return True

    async def limit(self, path: Path, size: int | None) -> None:
        """Remembered, not enforced."""
        self.limits[id(self._subvolume(path))] = size

    async def usage(self, path: Path) -> int | None:
        """Counted by walking the nodes."""
        return await self.files.disk_usage(path)

    async def fill_device(self, path: Path) -> None:
        """No effect, since fake disks have no size."""

    async def _require(self, path: Path) -> None:
        if not await self.supports(path):
            raise HostFailure(f"btrfs refused {path}", evidence="Inappropriate ioctl for device")

    def _subvolume(self, path: Path) -> Node:
        node = find(self.files.tree, path)
        if _MARK not in node.xattrs:
            raise HostFailure(f"btrfs refused {path}", evidence="not a subvolume")
        return node

    def _add(self, path: Path, node: Node) -> None:
        holder, name = parent_of(self.files.tree, path)
        if name in holder.children:
            raise AlreadyExists(f"{path} exists already")
        holder.children[name] = node
