"""A file system in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound, Unsupported, WrongState
from isola.host.building import New, NewFile
from isola.host.copying import Inside
from isola.host.files import Access, Changes, Entry, Modes, OpenFile, Root
from isola.host.process import ProcessRef
from isola.model.identity import IdRange
from isola.model.storage import Space
from isola.testing.pieces import BLOCK, blocks, piece, pieces
from isola.testing.tree import Node, components, duplicate, find, now, parent_of, walk

_FORMATS = {"file": 0o100000, "directory": 0o040000, "symlink": 0o120000, "other": 0o020000, "whiteout": 0o020000}
_SPACE = os.statvfs_result((4096, 4096, 1 << 20, 1 << 19, 1 << 19, 1 << 16, 1 << 15, 1 << 15, 0, 255))


class FakeFiles:
    """A tree of nodes. ``process_roots`` has the root directory of each process."""

    def __init__(self) -> None:
        self.tree = Node("directory")
        self.process_roots: dict[ProcessRef, Path] = {}
        self.synced = 0
        self.flushed: list[Path] = []
        self.capacity = Space(total=100 << 30, used=10 << 30, inodes_total=1_000_000, inodes_used=1000)

    async def read(self, path: Path, size: int = -1) -> bytes:
        """The content, or its first ``size`` bytes."""
        node = self._find(path)
        if node.kind != "file":
            raise HostFailure(f"The file system refused {path}", evidence="not a file")
        return node.data if size < 0 else node.data[:size]

    async def blocks(self, path: Path) -> AsyncIterator[bytes]:
        data = await self.read(path)
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    async def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        """Replaces the node, as a rename does."""
        holder, name = self._parent(path)
        if name in holder.children and holder.children[name].kind == "directory":
            raise HostFailure(f"The file system refused {path}", evidence="is a directory")
        holder.children[name] = Node("file", mode, data=bytes(data))

    async def write_all(
        self,
        files: Mapping[Path, bytes],
        *,
        directories: Modes | None = None,
        without: Sequence[Path] = (),
        owners: Mapping[Path, int] | None = None,
    ) -> None:
        for path, mode in (directories or {}).items():
            self._make_directory(path, mode, None)
        for path in (*without, *files):
            await (self.write(path, files[path]) if path in files else self.remove_tree(path))
        for path, owner in (owners or {}).items():
            node = self._find(path)
            node.uid, node.gid, node.mode = owner, owner, 0o644

    async def refresh(self, files: Mapping[Path, bytes | None], *, mode: int = 0o600) -> bool:
        changed = False
        for path, data in files.items():
            before = await self.read(path) if await self.exists(path) else None
            if data is None:
                await self.remove_tree(path)
            elif data != before:
                await self.write(path, data, mode=mode)
            changed |= before is not None and data != before
        return changed

    def version(self, path: Path) -> Hashable | None:
        """The content itself."""
        try:
            return self._find(path).data
        except (NotFound, InvalidInput):
            return None

    async def make_directory(self, *paths: Path, mode: int = 0o711, owner: int | None = None) -> None:
        """With their parents."""
        for path in paths:
            self._make_directory(path, mode, owner)

    async def build(self, *news: New, needs: Sequence[Path] = (), flush: Sequence[Path] = ()) -> None:
        for path in (*needs, *(new.path.parent for new in news[:1])):
            self._find(path)
        for new in news:
            if isinstance(new, NewFile):
                await self.write(new.path, new.data)
            else:
                mode = new.mode if isinstance(new.mode, int) else self._find(new.mode).mode
                self._make_directory(new.path, mode, new.owner)
        await self.flush(*flush)

    def _make_directory(self, path: Path, mode: int, owner: int | None) -> None:
        here = self.tree
        for part in components(path):
            here = here.seen.children.setdefault(part, Node("directory", mode)).seen
            if here.kind == "symlink":
                here = self._find(path)
            if here.kind != "directory":
                raise HostFailure(f"The file system refused {path}", evidence="not a directory")
        if owner is not None:
            here.uid = here.gid = owner
            here.mode = mode

    async def spread(self, *directories: Path) -> None:
        """No effect: there is no disk."""
        for path in directories:
            self._find(path)

    async def exists(self, path: Path) -> bool:
        """Whether a file of any kind exists."""
        try:
            find(self.tree, path, follow=False)
        except (NotFound, InvalidInput):
            return False
        return True

    async def size(self, path: Path) -> int:
        """Bytes of its content."""
        return max(len(await self.read(path)), self._find(path).allocated)

    async def modified(self, path: Path) -> datetime:
        """To the second."""
        return datetime.fromtimestamp(self._find(path).modified, UTC)

    async def names(self, directory: Path) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        try:
            return tuple(sorted(self._find(directory).children))
        except NotFound:
            return ()

    async def read_all(self, directory: Path) -> Mapping[str, bytes]:
        """Content of the regular files in a directory."""
        try:
            children = self._find(directory).children
        except NotFound:
            return {}
        return {name: node.data for name, node in sorted(children.items()) if node.kind == "file"}

    async def rename(self, source: Path, target: Path) -> None:
        """As the system call does it."""
        holder, name = self._parent(source)
        if name not in holder.children:
            raise NotFound(f"{source} does not exist")
        place, new = self._parent(target)
        there = place.children.get(new)
        if there is not None and there.kind == "directory" and there.children:
            raise HostFailure(f"The file system refused {source}", evidence="Directory not empty")
        place.children[new] = holder.children.pop(name)

    async def remove_tree(self, path: Path, *, flush: Sequence[Path] = ()) -> None:
        """Raises HostFailure without removing anything if there is a mount in it."""
        self._remove(path)
        await self.flush(*flush)

    def _remove(self, path: Path) -> None:
        try:
            holder, name = self._parent(path)
        except (NotFound, InvalidInput, HostFailure):
            return
        node = holder.children.get(name)
        if node is None:
            return
        if any(below.mounts for below in walk(node)):
            raise HostFailure(f"Cannot remove {path}", remedy="something is mounted in it")
        del holder.children[name]

    async def duplicate(self, source: Path, target: Path) -> None:
        """A new node with the same content."""
        data = await self.read(source)
        holder, name = self._parent(target)
        if name in holder.children:
            raise AlreadyExists(f"{target} exists already")
        holder.children[name] = Node("file", 0o600, data=data)

    async def extend(self, path: Path, data: bytes, *, at: int) -> None:
        """Grows the node's content; holes are zeros."""
        holder, name = self._parent(path)
        node = holder.children.setdefault(name, Node("file", 0o600))
        node.data = node.data[:at].ljust(at, b"\0") + data

    async def copy_tree(self, source: Path, target: Path, *, into: bool = False, inside: Inside | None = None) -> None:
        """Copies all nodes."""
        tree = self._find(source) if inside is None else find(self._find(inside.root), source)
        holder, name = self._parent(target)
        if into:
            there, copy = self._find(target), duplicate(tree)
            there.mode, there.uid, there.gid, there.children = copy.mode, copy.uid, copy.gid, copy.children
            return
        if name in holder.children:
            raise AlreadyExists(f"{target} exists already")
        holder.children[name] = duplicate(tree)

    async def merge_layer(self, layer: Path, target: Path) -> None:
        """Applies whiteouts and opaque directories."""
        source, below = self._find(layer), self._find(target)
        _merge(source, below)
        source.children.clear()

    async def exchange(self, one: Path, other: Path) -> None:
        """Exchanges two names atomically."""
        (first, a), (second, b) = self._parent(one), self._parent(other)
        if a not in first.children or b not in second.children:
            raise NotFound(f"{one} or {other} does not exist")
        first.children[a], second.children[b] = second.children[b], first.children[a]

    async def allocate(self, path: Path, size: int) -> None:
        """Stores the size, without allocating zeros."""
        holder, name = self._parent(path)
        node = holder.children.setdefault(name, Node("file", 0o600))
        node.allocated = max(node.allocated, size)

    async def digest(self, *paths: Path, algorithm: str = "sha256") -> tuple[str, int]:
        """Of all contents concatenated."""
        data = b"".join([await self.read(path) for path in paths])
        return hashlib.new(algorithm, data).hexdigest(), len(data)

    async def copy(self, source: BinaryIO, target: Path) -> int:
        """Write a stream to a new file."""
        holder, name = self._parent(target)
        if name in holder.children:
            raise AlreadyExists(f"{target} exists already")
        data = source.read()
        holder.children[name] = Node("file", 0o600, data=data)
        return len(data)

    async def disk_usage(self, directory: Path) -> int:
        """In whole blocks; mounts below are not counted."""
        try:
            top = self._find(directory)
        except NotFound:
            return 0
        return sum(-(-len(node.data) // 4096) * 4096 + 4096 * (node.kind == "directory") for node in set(walk(top)))

    async def space(self, directory: Path) -> Space:
        """``capacity``, for every existing directory."""
        self._find(directory)
        return self.capacity

    async def sync(self, directory: Path) -> None:
        """Counts its calls."""
        self._find(directory)
        self.synced += 1

    async def flush(self, *paths: Path) -> None:
        """Records the paths."""
        self.flushed += [path for path in paths if await self.exists(path)]

    @asynccontextmanager
    async def root(
        self, directory: Path | None = None, *, process: ProcessRef | None = None, idmap: IdRange | None = None
    ) -> AsyncIterator[Root]:
        """Open an instance's root."""
        if process is not None and directory is None:
            if process not in self.process_roots:
                raise WrongState(f"Process {process.pid} has ended")
            directory = self.process_roots[process]
        elif directory is None or process is not None:
            raise ValueError("either a directory or a process is expected")
        yield FakeRoot(self._find(directory), idmap)

    def _find(self, path: Path) -> Node:
        return find(self.tree, path)

    def _parent(self, path: Path) -> tuple[Node, str]:
        return parent_of(self.tree, path)


def _merge(layer: Node, below: Node) -> None:
    if layer.xattrs.get("trusted.overlay.opaque") == b"y":
        below.children.clear()
    below.mode, below.uid, below.gid = layer.mode, layer.uid, layer.gid
    for name, node in layer.children.items():
        if node.kind == "whiteout":
            below.children.pop(name, None)
        elif node.kind == "directory":
            there = below.children.get(name)
            if there is None or there.kind != "directory":
                there = below.children[name] = Node("directory")
            _merge(node, there)
        else:
            below.children[name] = node


class FakeRoot:
    """A root within the tree."""

    def __init__(self, node: Node, idmap: IdRange | None) -> None:
        self.node = node
        self.idmap = idmap

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        node = find(self.node, path, follow=follow)
        inside = self.idmap.inside if self.idmap else int
        size = len(node.target) if node.kind == "symlink" else len(node.data)
        return Entry(
            node.kind,
            node.mode,
            inside(node.uid),
            inside(node.gid),
            size,
            node.target,
            node.modified,
            node.accessed,
            format=_FORMATS[node.kind],
        )

    async def names(self, path: str) -> AsyncIterator[tuple[str, ...]]:
        """The names in a directory, in pieces."""
        node = find(self.node, path)
        if node.kind != "directory":
            raise InvalidInput(f"{path!r} is not a directory", field="path")
        return pieces(sorted(node.children))

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """The content of a regular file."""
        return blocks(self._file(path).data)

    async def write(
        self,
        path: str,
        content: AsyncIterator[bytes],
        *,
        uid: int,
        gid: int,
        mode: int | None,
        append: bool = False,
    ) -> None:
        """Create or replace the content, atomically when it is complete."""
        try:
            node, holder, name = self._file(path), None, ""
        except NotFound:
            holder, name = parent_of(self.node, path)
            if name in holder.children:
                raise InvalidInput(f"{path!r} exists already", field="path") from None
            node = Node("file", 0o600)
            uid, gid, mode = max(uid, 0), max(gid, 0), 0o644 if mode is None else mode
        data = b"".join([block async for block in content])
        node.data = node.data + data if append else data
        node.modified = now()
        self._dress(node, uid, gid, mode)
        if holder is not None:
            holder.children[name] = node

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """No effect if the directory exists."""
        try:
            if find(self.node, path).kind != "directory":
                raise InvalidInput(f"{path!r} is not a directory", field="path")
        except NotFound:
            holder, name = parent_of(self.node, path)
            if name in holder.children:
                raise InvalidInput(f"{path!r} exists already", field="path") from None
            node = Node("directory")
            self._dress(node, max(uid, 0), max(gid, 0), mode)
            holder.children[name] = node

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        """A symbolic link."""
        components(target)
        holder, name = parent_of(self.node, path)
        if name in holder.children:
            if holder.children[name].target == target:
                return
            raise InvalidInput(f"{path!r} exists already", field="path")
        node = Node("symlink", 0o777, target=target)
        self._dress(node, max(uid, 0), max(gid, 0), None)
        holder.children[name] = node

    async def remove(self, path: str, *, files: bool = True, directories: bool = True) -> None:
        """Remove a file, a link or an empty directory."""
        holder, name = parent_of(self.node, path)
        node = holder.children.get(name)
        if node is None:
            raise NotFound(f"{path!r} does not exist")
        if node.children or node.mounts:
            raise InvalidInput(f"{path!r} is not empty", field="path")
        if not (directories if node.kind == "directory" else files):
            raise InvalidInput(f"{path!r} is {node.kind}", field="path")
        del holder.children[name]

    async def open(self, path: str, access: Access, *, mode: int | None = None) -> OpenFile:
        """Open a regular file, or create it."""
        try:
            looks = not (access.write or access.create) and find(self.node, path).kind == "directory"
            node = find(self.node, path) if looks else self._file(path)
        except NotFound:
            if not access.create:
                raise
            node = self._new(path, Node("file", 0o644 if mode is None else mode))
        else:
            if access.create and access.exclusive:
                raise InvalidInput(f"{path!r} exists already", field="path")
        if access.write and access.truncate:
            node.data = b""
        return FakeOpenFile(self, node, access)

    async def create_directory(self, path: str, *, mode: int) -> None:
        """Raises InvalidInput if the path exists."""
        self._new(path, Node("directory", mode))

    async def create_symlink(self, path: str, target: str) -> None:
        """Where nothing is."""
        components(target)
        self._new(path, Node("symlink", 0o777, target=target))

    async def target(self, path: str) -> str:
        """Of a symbolic link."""
        node = find(self.node, path, follow=False)
        if node.kind != "symlink":
            raise InvalidInput(f"{path!r} is not a link", field="path")
        return node.target

    async def entries(self, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        """Names in a directory with what they are."""
        node = find(self.node, path)
        if node.kind != "directory":
            raise InvalidInput(f"{path!r} is not a directory", field="path")
        found = [(name, await self.stat(f"{path}/{name}", follow=False)) for name in node.children]
        return piece(tuple(found))

    async def change(self, path: str, changes: Changes, *, follow: bool = True) -> None:
        """Set what is not None."""
        node = self._file(path) if changes.size is not None else find(self.node, path, follow=follow)
        self.apply(node, changes)

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Another place."""
        (source, name), (target, other) = parent_of(self.node, old), parent_of(self.node, new)
        if name not in source.children:
            raise NotFound(f"{old!r} does not exist")
        there = target.children.get(other)
        if there is not None and (not replace or there.children or there.mounts or source.children[name].mounts):
            raise InvalidInput(f"{new!r} exists already", field="path")
        target.children[other] = source.children.pop(name)

    async def link(self, old: str, new: str) -> None:
        """Another name."""
        holder, name = parent_of(self.node, old)
        node = holder.children.get(name)
        if node is None:
            raise NotFound(f"{old!r} does not exist")
        if node.kind == "directory":
            raise HostFailure(f"The file system refused {new!r}", evidence="Operation not permitted")
        self._new(new, node, dress=False)

    async def space(self, path: str) -> os.statvfs_result:
        """The same everywhere."""
        find(self.node, path)
        return _SPACE

    def apply(self, node: Node, changes: Changes) -> None:
        """Set what is not None."""
        if changes.size is not None:
            node.data = node.data[: changes.size].ljust(changes.size, b"\0")
        keep = -1
        uid, gid = (keep if each is None else each for each in (changes.uid, changes.gid))
        self._dress(node, uid, gid, changes.mode)
        node.accessed = node.accessed if changes.accessed is None else changes.accessed
        node.modified = node.modified if changes.modified is None else changes.modified

    def _new(self, path: str, node: Node, *, dress: bool = True) -> Node:
        holder, name = parent_of(self.node, path)
        if name in holder.children:
            raise InvalidInput(f"{path!r} exists already", field="path")
        if dress:
            self._dress(node, 0, 0, None)
        holder.children[name] = node  # dressed before: a view of the directory shifts the ids back
        return node

    def _file(self, path: str) -> Node:
        node = find(self.node, path)
        if node.kind == "directory":
            raise InvalidInput(f"{path!r} is a directory", field="path")
        if node.kind != "file":
            raise Unsupported(f"{path!r} is not a regular file")
        return node

    def _dress(self, node: Node, uid: int, gid: int, mode: int | None) -> None:
        outside = self.idmap.outside if self.idmap else int
        node.uid = outside(uid) if uid >= 0 else node.uid
        node.gid = outside(gid) if gid >= 0 else node.gid
        node.mode = node.mode if mode is None else mode & 0o7777


class FakeOpenFile:
    """An open file of the tree."""

    def __init__(self, root: FakeRoot, node: Node, access: Access) -> None:
        self._root, self._node, self._access = root, node, access

    async def read(self, offset: int, size: int) -> bytes:
        """A part of the content."""
        if self._node.kind == "directory":
            raise InvalidInput("It is a directory", field="path")
        if self._access.write and not self._access.read:
            raise HostFailure("The file system refused it", evidence="Bad file descriptor")
        return self._node.data[offset : offset + min(size, BLOCK)]

    async def write(self, offset: int, data: bytes) -> None:
        """Put it there."""
        if not self._access.write:
            raise HostFailure("The file system refused it", evidence="Bad file descriptor")
        if offset + len(data) >= 2**63:
            raise InvalidInput("No file is that large", field="path")
        before = self._node.data
        offset = len(before) if self._access.append else offset
        self._node.data = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]

    async def stat(self) -> Entry:
        """As it is now."""
        return await FakeRoot(self._node, self._root.idmap).stat("/")

    async def change(self, changes: Changes) -> None:
        """Set what is not None."""
        self._root.apply(self._node, changes)

    async def sync(self) -> None:
        """Nothing is to be done."""

    async def space(self) -> os.statvfs_result:
        """The same everywhere."""
        return _SPACE

    async def close(self) -> None:
        """Nothing is to be done."""
