"""Mounts in the fake file system."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host.mounts import BindMount, DiskMount, MemoryMount, OverlayMount
from isola.host.proc import ProcessRef
from isola.model.identity import IdRange
from isola.testing.files import FakeFiles
from isola.testing.shifted import ShiftedNode
from isola.testing.tree import Node, find


class FakeMounts:
    """Overlays are merged copies; changes are written to the upper directory when the overlay is unmounted."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files
        self.table: list[OverlayMount | BindMount | DiskMount | MemoryMount] = []
        """All mounts, in the order of mounting."""
        self.disks: dict[int, Node] = {}
        """Roots of the file systems on disks, by the identity of the device's or image's node."""
        self.failure: HostFailure | None = None
        """Raised by ``overlay``, as on a kernel without support for it."""
        self.silent: set[Path] = set()
        """Mounts that do not respond."""
        self.shared: list[ProcessRef] = []
        """Processes whose mounts were made shared."""
        self.read_only: list[ProcessRef] = []
        self.writable: dict[ProcessRef, tuple[str, ...]] = {}
        """Processes whose root was made read-only."""

    async def overlay(self, mount: OverlayMount) -> None:
        if self.failure is not None:
            raise self.failure
        if await self.mounted(mount.target):
            return
        if mount.upper is not None and not await self.files.exists(mount.upper):
            raise NotFound(f"{mount.upper} does not exist")
        layers = [self._directory(path) for path in mount.lower]
        self._directory(mount.target)
        if len(layers) < (1 if mount.upper is not None else 2):
            raise HostFailure(f"Cannot mount an {mount.describe()}", evidence="too few layers")
        upper = layers[-1]
        if mount.upper is not None and mount.work is not None:
            upper, _ = self._directory(mount.upper), self._directory(mount.work)
        merged = Node("directory", upper.mode, upper.uid, upper.gid)
        for layer in layers:
            _merge(merged, layer, mount.idmap)
        if mount.upper is not None:
            _merge(merged, upper, None)
        find(self.files.tree, mount.target.parent).children[mount.target.name].mounts.append(merged)
        self.table.append(mount)

    async def bind(self, mount: BindMount) -> None:
        """The node itself, or a view of it."""
        if self.failure is not None:
            raise self.failure
        source = self._directory(mount.source)
        shown = ShiftedNode(source, mount.idmap, mount.inner) if mount.idmap is not None else source
        self._directory(mount.target)
        self._on(mount.target, shown)
        self.table.append(mount)

    async def disk(self, mount: DiskMount) -> None:
        """A disk that was formatted before; its content is preserved between mounts."""
        node = find(self.files.tree, mount.source)
        if node.xattrs.get("disk") != mount.kind.encode():
            raise HostFailure(f"Cannot mount the {mount.kind} file system of {mount.source}", evidence="bad superblock")
        self._directory(mount.target)
        top = self.disks.setdefault(id(node), Node("directory", 0o755, xattrs={mount.kind: b""}))
        self._on(mount.target, top)
        self.table.append(mount)

    async def memory(self, mount: MemoryMount) -> None:
        if self.failure is not None:
            raise self.failure
        self._directory(mount.target)
        self._on(mount.target, Node("directory", mount.mode))
        self.table.append(mount)

    async def unmount_memory(self, target: Path) -> None:
        there = [mount for mount in self.table if mount.target == target]
        while there and isinstance(mount := there.pop(), MemoryMount):
            find(self.files.tree, target.parent).children[target.name].mounts.pop()
            self.table.remove(mount)

    async def grow(self, target: Path) -> None:
        """No effect, since fake disks have no size."""
        if not await self.mounted(target):
            raise HostFailure(f"Cannot grow the disk below {target}", evidence="nothing is mounted there")

    async def unmount(self, target: Path) -> None:
        """Remove all mounts on ``target``."""
        for mount in [mount for mount in reversed(self.table) if mount.target == target]:
            merged = find(self.files.tree, target.parent).children[target.name].mounts.pop()
            if isinstance(mount, OverlayMount) and mount.upper is not None:
                below = Node("directory", 0o755)
                for path in mount.lower:
                    with suppress(NotFound):  # removed while it was mounted
                        _merge(below, find(self.files.tree, path), None)
                _mark_removed(merged, below)
                find(self.files.tree, mount.upper).children = merged.children
            self.table.remove(mount)

    def _on(self, target: Path, node: Node) -> None:
        find(self.files.tree, target.parent).children[target.name].mounts.append(node)

    async def make_root_read_only(self, process: ProcessRef, but: Sequence[str] = ()) -> None:
        """Remember it."""
        self.read_only.append(process)
        self.writable[process] = tuple(but)

    async def share(self, process: ProcessRef) -> None:
        """Remember it."""
        self.shared.append(process)

    async def responds(self, target: Path, seconds: float = 1.0) -> bool:
        """As set by the test, without waiting."""
        return target not in self.silent and await self.mounted(target)

    async def mounted(self, target: Path) -> bool:
        """Whether ``target`` is a mount point."""
        return any(mount.target == target for mount in self.table)

    async def below(self, directory: Path) -> tuple[Path, ...]:
        """All mount points at or below a directory, deepest first."""
        found = [mount.target for mount in self.table if mount.target.is_relative_to(directory)]
        return tuple(reversed(sorted(found, key=lambda point: len(point.parts))))

    def _directory(self, path: Path) -> Node:
        try:
            node = find(self.files.tree, path)
        except (NotFound, InvalidInput) as error:
            raise HostFailure(f"Cannot mount on {path}", evidence=str(error)) from error
        if node.kind != "directory":
            raise HostFailure(f"Cannot mount on {path}", evidence="not a directory")
        return node


def _merge(into: Node, layer: Node, idmap: IdRange | None) -> None:
    for name, node in layer.children.items():
        there = into.children.get(name)
        if node.kind == "directory" and there is not None and there.kind == "directory":
            if node.xattrs.get("trusted.overlay.opaque") == b"y":
                there.children.clear()
            seen = _copy(node, idmap)
            there.mode, there.uid, there.gid = seen.mode, seen.uid, seen.gid
            _merge(there, node, idmap)
        elif node.kind == "whiteout":
            into.children.pop(name, None)
        elif node.kind == "directory":
            copy = into.children[name] = _copy(node, idmap)
            _merge(copy, node, idmap)
        else:
            into.children[name] = _copy(node, idmap)


def _mark_removed(merged: Node, below: Node) -> None:
    """What the layers hold and the overlay does not is hidden by a mark in its upper directory."""
    for name, node in below.children.items():
        if name not in merged.children:
            merged.children[name] = Node("whiteout", 0)
        elif node.kind == merged.children[name].kind == "directory":
            _mark_removed(merged.children[name], node)


def _copy(node: Node, idmap: IdRange | None) -> Node:
    shift = idmap.outside if idmap else int
    return Node(
        node.kind, node.mode, shift(node.uid), shift(node.gid), node.data, node.target, {}, [], dict(node.xattrs)
    )
