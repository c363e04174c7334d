"""Differences between trees in the fake file system, whose changes take effect at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from isola.host.mirrors import Difference, Look, Survey, Trust
from isola.testing.files import FakeFiles
from isola.testing.tree import Node, duplicate, find


class FakeMirrors:
    """Content is always compared, so that no survey is needed."""

    def __init__(self, files: FakeFiles) -> None:
        self.files = files

    async def compare(self, source: Path, target: Path, trust: Trust) -> Difference | None:
        """Never too much."""
        found: tuple[list[bytes], list[bytes], list[tuple[bytes, Look, Look]]] = ([], [], [])
        _compare(self._find(source), self._find(target), "", found)
        return Difference(*(tuple(each) for each in found))  # type: ignore[arg-type]

    async def survey(self, tree: Path, recent: datetime) -> Survey:
        """Nothing."""
        self._find(tree)
        return {}

    async def stage(self, source: Path, difference: Difference, place: Path) -> None:
        """Copies of the nodes."""
        await self.files.make_directory(place / "new")
        for path in difference.copied:
            _put(self._find(place / "new"), path, duplicate(_child(self._find(source), path)))

    async def apply(self, target: Path, difference: Difference, place: Path) -> None:
        """Without a plan, so that nothing is ever cut off."""
        tree, new = self._find(target), self._find(place / "new")
        for path in difference.copied:
            _put(tree, path, _child(new, path))
        _finish(tree, difference)
        await self.files.remove_tree(place / "new")

    async def unfinished(self, place: Path) -> Path | None:
        """Never."""
        return None

    async def complete(self, target: Path, place: Path) -> None:
        """There is nothing to complete."""

    async def overwrite(self, source: Path, target: Path, difference: Difference) -> None:
        """Copies of the nodes."""
        tree = self._find(target)
        for path in difference.copied:
            _put(tree, path, duplicate(_child(self._find(source), path)))
        _finish(tree, difference)

    def _find(self, path: Path) -> Node:
        return find(self.files.tree, path)


def _compare(
    theirs: Node, ours: Node, path: str, found: tuple[list[bytes], list[bytes], list[tuple[bytes, Look, Look]]]
) -> None:
    copied, removed, directories = found
    before = len(copied) + len(removed)
    below = []
    for name, node in theirs.children.items():
        there, here = ours.children.get(name), f"{path}/{name}" if path else name
        if there is not None and there.kind == node.kind == "directory":
            below.append((node, there, here))
        elif there is None or _facts(there) != _facts(node):
            copied.append(here.encode())
    removed += [(f"{path}/{name}" if path else name).encode() for name in ours.children if name not in theirs.children]
    if len(copied) + len(removed) > before or _facts(theirs) != _facts(ours):
        directories.append((path.encode(), _look(theirs), _look(ours)))
    for pair in below:
        _compare(*pair, found)


def _facts(node: Node) -> tuple[object, ...]:
    return node.kind, node.mode, node.uid, node.gid, node.data, node.target, node.xattrs, node.allocated


def _look(node: Node) -> Look:
    return Look(node.mode, node.uid, node.gid, (node.accessed, node.modified), tuple(sorted(node.xattrs.items())))


def _child(top: Node, path: bytes) -> Node:
    for name in path.decode().split("/"):
        top = top.children[name]
    return top


def _put(top: Node, path: bytes, node: Node) -> None:
    *above, name = path.decode().split("/")
    for each in above:
        top = top.children.setdefault(each, Node("directory"))
    top.children[name] = node


def _finish(tree: Node, difference: Difference) -> None:
    for path in difference.removed:
        above, _, name = path.rpartition(b"/")
        holder = _child(tree, above) if above else tree
        holder.children.pop(name.decode(), None)
    for path, look, _ in difference.directories:
        node = _child(tree, path) if path else tree
        node.mode, node.uid, node.gid, node.xattrs = look.mode, look.uid, look.gid, dict(look.attributes)
        node.accessed, node.modified = look.times
