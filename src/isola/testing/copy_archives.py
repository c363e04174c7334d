"""Layers of copied files in the fake file system: paths and directories, without patterns and links."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput
from isola.host.archive.archives import CopySource, CopyTarget, LayerReport
from isola.host.archive.tarpack import compressed
from isola.model.file_mode import FileMode
from isola.model.ignore import Patterns
from isola.testing.files import FakeFiles
from isola.testing.tree import Node, find, parent_of

_TYPES = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}


class FakeCopies:
    """What of the archives is about copies of builds."""

    files: FakeFiles

    async def survey_copy(self, sources: Sequence[CopySource]) -> str:
        """Of the same properties as the real one."""
        seen = [(path, node.kind, node.mode, node.data, node.target) for path, node, _, _ in self._chosen(sources)]
        return f"sha256:{hashlib.sha256(repr(sorted(seen)).encode()).hexdigest()}"

    async def copy_layer(
        self,
        sources: Sequence[CopySource],
        to: CopyTarget,
        target: Path,
        *,
        now: int,
        newest: int | None = None,
        compression: str = "zstd",
        limit: int = 64 << 30,
    ) -> LayerReport | None:
        """A real tar stream."""
        holder, name = parent_of(self.files.tree, target)
        if name in holder.children:
            raise AlreadyExists(f"{target} exists already")
        placed = self._placed(sources, to)
        if not placed:
            return None
        data = b"".join(_member(path, node, newest) for path, node in sorted(placed.items())) + bytes(1024)
        buffer = io.BytesIO()
        with compressed(buffer, compression) as output:
            output.write(data)
        holder.children[name] = Node("file", 0o600, data=buffer.getvalue())
        return LayerReport(f"sha256:{hashlib.sha256(data).hexdigest()}", len(placed), len(data))

    def _placed(self, sources: Sequence[CopySource], to: CopyTarget) -> dict[str, Node]:
        chosen = list(self._chosen(sources))
        base = to.place.strip("/")
        is_directory = to.place.endswith("/") or len(chosen) != 1 or not chosen[0][2]
        placed = {} if not is_directory or not base or self._there(to, base) else {base: Node("directory", 0o755)}
        for path, node, whole, keep_owner in chosen:
            where = "/".join(part for part in (base, path) if part) if is_directory or not whole else base
            if where:
                owner = (node.uid, node.gid) if keep_owner else (0, 0)
                placed[where] = replace(node, uid=owner[0], gid=owner[1], mode=_mode(to, node))
        return placed

    def _there(self, to: CopyTarget, path: str) -> bool:
        node: Node | None = None if to.root is None else find(self.files.tree, to.root)
        for part in path.split("/"):
            node = None if node is None else node.children.get(part)
        return node is not None

    def _chosen(self, sources: Sequence[CopySource]) -> Iterator[tuple[str, Node, bool, bool]]:
        for source in sources:
            excludes = Patterns(source.excludes)
            for pattern in source.patterns:
                node = find(self.files.tree, source.tree)
                for part in (part for part in pattern.split("/") if part not in ("", ".")):
                    if part not in node.children:
                        raise InvalidInput(
                            f"file not found in {source.name} or excluded by .dockerignore: stat {pattern}: "
                            "file does not exist"
                        )
                    node = node.children[part].seen
                if node.kind != "directory":
                    yield pattern.rpartition("/")[2], node, True, source.keep_owner
                    continue
                for path, each in _inside(node):
                    if not excludes.excludes(path):
                        yield path, each, False, source.keep_owner


def _mode(to: CopyTarget, node: Node) -> int:
    if not to.mode:
        return node.mode
    return FileMode.parse(to.mode).applied(node.mode, directory=node.kind == "directory")


def _inside(node: Node, above: str = "") -> Iterator[tuple[str, Node]]:
    for name, child in sorted(node.children.items()):
        yield f"{above}{name}", child.seen
        if child.seen.kind == "directory":
            yield from _inside(child.seen, f"{above}{name}/")


def _member(path: str, node: Node, newest: int | None) -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.uid, info.gid = _TYPES[node.kind], node.mode, node.uid, node.gid
    info.size, info.linkname = len(node.data), node.target
    info.mtime = node.modified if newest is None else min(node.modified, newest)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + node.data + bytes(-len(node.data) % 512)
