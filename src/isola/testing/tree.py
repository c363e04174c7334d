"""Files and directories in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from isola.errors import InvalidInput, NotFound

_LINKS = 40


def now() -> int:
    """Seconds since 1970."""
    return int(datetime.now(UTC).timestamp())


@dataclass(eq=False, slots=True)
class Node:
    """A file, directory, symbolic link or other file; hard links are one node under several names."""

    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    data: bytes = b""
    target: str = ""
    children: dict[str, Node] = field(default_factory=dict)
    mounts: list[Node] = field(default_factory=list)
    """Roots of the mounts on it, the visible one last."""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    modified: int = field(default_factory=now)
    accessed: int = field(default_factory=now)
    allocated: int = 0
    """Size of a sparse file in bytes."""

    @property
    def seen(self) -> Node:
        """The visible node: the root of the topmost mount, or the node itself."""
        return self.mounts[-1] if self.mounts else self


def components(path: str | Path) -> list[str]:
    """The components of a path. Raises InvalidInput for NUL."""
    if "\0" in str(path):
        raise InvalidInput("A path cannot contain NUL", field="path")
    return [part for part in str(path).split("/") if part not in ("", ".")]


def find(root: Node, path: str | Path, *, follow: bool = True) -> Node:
    """The node at ``path`` with ``root`` as ``/``. Raises NotFound, InvalidInput."""
    pending, trail, links = components(path)[::-1], [root], 0
    while pending:
        part = pending.pop()
        here = trail[-1].seen
        if here.kind != "directory":
            raise InvalidInput(f"{str(path)!r} is below something that is not a directory", field="path")
        if part == "..":
            trail = trail[:-1] or [root]
            continue
        node = here.children.get(part)
        if node is None:
            raise NotFound(f"{str(path)!r} does not exist")
        if node.kind == "symlink" and (pending or follow):
            links += 1
            if links > _LINKS:
                raise InvalidInput(f"{str(path)!r} leads through too many links", field="path")
            trail = [root] if node.target.startswith("/") else trail
            pending += components(node.target)[::-1]
            continue
        trail.append(node)
    return trail[-1].seen


def parent_of(root: Node, path: str | Path) -> tuple[Node, str]:
    """The directory that holds the last component, and that component."""
    parts = components(path)
    if not parts or parts[-1] == "..":
        raise InvalidInput(f"{str(path)!r} does not name anything in a directory", field="path")
    holder = find(root, "/".join(parts[:-1]))
    if holder.kind != "directory":
        raise InvalidInput(f"{str(path)!r} is below something that is not a directory", field="path")
    return holder, parts[-1]


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, ignoring mounts."""
    pending = [node]
    while pending:
        here = pending.pop()
        yield here
        pending += here.children.values()


def duplicate(node: Node) -> Node:
    """A copy of the tree, ignoring mounts; hard links are preserved."""
    made: dict[int, Node] = {}

    def copy(one: Node) -> Node:
        known = id(getattr(one, "real", one))  # a view is a new object each time
        if known not in made:
            new = Node(one.kind, one.mode, one.uid, one.gid, one.data, one.target, {}, [], dict(one.xattrs))
            new.modified = one.modified
            made[known] = new
            new.children = {name: copy(child) for name, child in one.children.items()}
        return made[known]

    return copy(node)
