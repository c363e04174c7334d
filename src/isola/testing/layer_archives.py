"""Layers with what a tree in the fake file system changed of another one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from isola.errors import AlreadyExists, TooLarge
from isola.host.archive.archives import Comparison, LayerReport
from isola.host.archive.tarpack import compressed
from isola.model.file_change import ChangeKind, FileChange
from isola.testing.files import FakeFiles
from isola.testing.tree import Node, find

_TYPES = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}
_OPAQUE = "trusted.overlay.opaque"
_NOTHING: Mapping[str, Node] = {}
_Found = tuple[str, ChangeKind, Node | None]


class FakeLayers:
    """What of the archives is about layers of changes."""

    files: FakeFiles

    async def pack_layer(
        self,
        trees: Comparison,
        target: Path,
        *,
        compression: str = "zstd",
        newest: int | None = None,
        limit: int = 64 << 30,
        leave_out: Sequence[str] = (),
    ) -> LayerReport:
        """A real tar stream."""
        if await self.files.exists(target):
            raise AlreadyExists(f"{target} exists already")
        entries = _without(self._differences(trees), leave_out)
        data = b"".join(_member(*each, newest) for each in entries) + bytes(1024)
        if len(data) > limit:
            raise TooLarge("The changes are too large for an image layer", evidence=f"more than {limit} bytes")
        buffer = io.BytesIO()
        with compressed(buffer, compression) as output:
            output.write(data)
        await self.files.copy(io.BytesIO(buffer.getvalue()), target)
        return LayerReport(f"sha256:{hashlib.sha256(data).hexdigest()}", len(entries), len(data))

    async def list_changes(self, trees: Comparison, scratch: Path, *, limit: int = 200_000) -> Sequence[FileChange]:
        """Without the file."""
        found = [FileChange(f"/{path}", kind) for path, kind, _ in self._differences(trees)]
        if len(found) > limit:
            raise TooLarge("Too many files differ to list them", evidence=f"more than {limit}")
        return found

    def _differences(self, trees: Comparison) -> list[_Found]:
        old = None if trees.old is None else find(self.files.tree, trees.old).children
        return list(_compared(find(self.files.tree, trees.new).children, old or _NOTHING, "", trees.layered))


def _without(found: Sequence[_Found], leave_out: Sequence[str]) -> list[_Found]:
    """And without new directories above, in which there is nothing else."""
    left = [each for each in found if each[0] not in leave_out]
    for path, kind, _ in reversed(list(left)):
        above = any(each.startswith(f"{path}/") for each in leave_out)
        if above and kind is ChangeKind.ADDED and not any(each[0].startswith(f"{path}/") for each in left):
            left = [each for each in left if each[0] != path]
    return left


def _compared(new: Mapping[str, Node], old: Mapping[str, Node], above: str, layered: bool) -> Iterator[_Found]:
    for name in sorted(new if layered else new.keys() | old.keys()):
        path, here, there = f"{above}{name}", new.get(name), old.get(name)
        if here is None or here.kind == "whiteout":
            if there is not None:
                yield path, ChangeKind.DELETED, None
            continue
        here = here.seen
        below = there.children if there is not None and there.kind == "directory" else _NOTHING
        whole = not layered or here.xattrs.get(_OPAQUE) == b"y"
        inside = list(_compared(here.children, below, f"{path}/", not whole))
        if there is None:
            yield path, ChangeKind.ADDED, here
        elif inside or _look(here) != _look(there):
            yield path, ChangeKind.MODIFIED, here
        yield from inside


def _look(node: Node) -> tuple[object, ...]:
    return node.kind, node.mode, node.uid, node.gid, node.data, node.target


def _member(path: str, kind: ChangeKind, node: Node | None, newest: int | None) -> bytes:
    directory, slash, name = path.rpartition("/")
    info = tarfile.TarInfo(path if node is not None else f"{directory}{slash}.wh.{name}")
    if node is not None:
        info.type, info.mode, info.uid, info.gid = _TYPES[node.kind], node.mode, node.uid, node.gid
        info.size, info.linkname = len(node.data), node.target
        info.mtime = node.modified if newest is None else min(node.modified, newest)
    content = node.data if node is not None else b""
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)
