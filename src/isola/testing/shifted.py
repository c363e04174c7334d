"""A view of a directory of the fake file system with shifted ids; writes go to the directory itself."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from isola.model.identity import IdRange
from isola.testing.tree import Node


class ShiftedNode(Node):
    """A view of a node; ``inner`` is the first id in the node, which ``idmap`` maps to the first id of the view."""

    def __init__(self, real: Node, idmap: IdRange, inner: int) -> None:
        self.real: Node
        object.__setattr__(self, "real", real)
        self.idmap, self.inner = idmap, inner
        self.mounts = []

    def outside(self, id: int) -> int:
        """The id in the view for an id of the node."""
        return self.idmap.outside(id - self.inner)

    def inside(self, id: int) -> int:
        """The id in the node for an id of the view."""
        return self.idmap.inside(id) + self.inner

    def __getattribute__(self, name: str) -> object:
        if name in ("uid", "gid"):
            return self.outside(getattr(self.real, name))
        if name == "children":
            return ShiftedChildren(self)
        if name in ("kind", "mode", "data", "target", "xattrs", "modified", "accessed", "allocated"):
            return getattr(self.real, name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("uid", "gid"):
            setattr(self.real, name, self.inside(int(str(value))))
        elif name in ("idmap", "inner", "mounts"):
            object.__setattr__(self, name, value)
        else:
            setattr(self.real, name, value)


class ShiftedChildren(MutableMapping[str, Node]):
    """The entries of such a directory."""

    def __init__(self, holder: ShiftedNode) -> None:
        self._holder = holder
        self._real: dict[str, Node] = holder.real.children

    def __getitem__(self, name: str) -> Node:
        return ShiftedNode(self._real[name], self._holder.idmap, self._holder.inner)

    def __setitem__(self, name: str, node: Node) -> None:
        if isinstance(node, ShiftedNode):
            self._real[name] = node.real
            return
        node.uid, node.gid = self._holder.inside(node.uid), self._holder.inside(node.gid)
        self._real[name] = node

    def __delitem__(self, name: str) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)
