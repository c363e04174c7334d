"""Mounts in the fake file system."""

from __future__ import annotations

from pathlib import Path

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host.mounts import OverlayMount
from isola.host.proc import ProcessRef
from isola.model.identity import IdRange
from isola.testing.files import FakeFiles, Node, find


class FakeMounts:
    """Overlays are merged copies; what is written in one is in its upper directory once it is unmounted."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files
        self.table: list[OverlayMount] = []
        """What is mounted, in the order of mounting."""
        self.failure: HostFailure | None = None
        """Raised by the next ``overlay``s, as by a kernel that cannot."""
        self.silent: set[Path] = set()
        """What does not respond."""
        self.shared: list[ProcessRef] = []
        """Processes whose mounts were made shared."""

    async def overlay(self, mount: OverlayMount) -> None:
        """Mount."""
        if self.failure is not None:
            raise self.failure
        layers = [self._directory(path) for path in mount.lower]
        upper, _, _ = (self._directory(path) for path in (mount.upper, mount.work, mount.target))
        if not layers:
            raise HostFailure(f"Cannot mount an {mount.describe()}", evidence="no layer")
        merged = Node("directory", upper.mode, upper.uid, upper.gid)
        for layer in layers:
            _merge(merged, layer, mount.idmap)
        _merge(merged, upper, None)
        find(self.files.tree, mount.target.parent).children[mount.target.name].mounts.append(merged)
        self.table.append(mount)

    async def unmount(self, target: Path) -> None:
        """Unmount all that is stacked on ``target``."""
        for mount in [mount for mount in reversed(self.table) if mount.target == target]:
            merged = find(self.files.tree, target.parent).children[target.name].mounts.pop()
            find(self.files.tree, mount.upper).children = merged.children
            self.table.remove(mount)

    async def share(self, process: ProcessRef) -> None:
        """Remember it."""
        self.shared.append(process)

    async def responds(self, target: Path, seconds: float = 1.0) -> bool:
        """As set; without waiting."""
        return target not in self.silent

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
            _merge(there, node, idmap)
        elif node.kind == "whiteout":
            into.children.pop(name, None)
        elif node.kind == "directory":
            copy = into.children[name] = _copy(node, idmap)
            _merge(copy, node, idmap)
        else:
            into.children[name] = _copy(node, idmap)


def _copy(node: Node, idmap: IdRange | None) -> Node:
    shift = idmap.outside if idmap else int
    return Node(
        node.kind, node.mode, shift(node.uid), shift(node.gid), node.data, node.target, {}, [], dict(node.xattrs)
    )
