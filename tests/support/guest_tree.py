"""The files of an instance, for tests to set and compare."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from isola.testing.tree import Node, find


class GuestTree(MutableMapping[str, dict[str, Any]]):
    """Path -> ``{"kind", "data", "mode", "uid", "gid"}``, each optional when it is set.

    ``names`` gives a directory entries that are neither file, link nor directory; their names may be hostile.
    """

    def __init__(self, root: Node, base: int) -> None:
        self._root = root
        self._base = base

    def __getitem__(self, path: str) -> dict[str, Any]:
        node = find(self._root, path, follow=False)
        return {
            "kind": node.kind,
            "data": node.target.encode() if node.kind == "symlink" else node.data,
            "mode": f"{node.mode:04o}",
            "uid": str(node.uid - self._base),
            "gid": str(node.gid - self._base),
        }

    def __setitem__(self, path: str, facts: dict[str, Any]) -> None:
        holder, _, name = path.rpartition("/")
        node = Node(facts["kind"], int(facts.get("mode", "0644"), 8), self._base, self._base)
        if node.kind == "symlink":
            node.target = facts["data"].decode()
        else:
            node.data = facts.get("data", b"")
        node.children = {name: Node("other") for name in facts.get("names", ())}
        find(self._root, holder).children[name] = node

    def __delitem__(self, path: str) -> None:
        holder, _, name = path.rpartition("/")
        del find(self._root, holder).children[name]

    def __iter__(self) -> Iterator[str]:
        yield "/"
        pending = [("", self._root)]
        while pending:
            path, node = pending.pop()
            for name, child in node.children.items():
                yield f"{path}/{name}"
                pending.append((f"{path}/{name}", child))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Leave the root directory alone."""
        self._root.children.clear()
