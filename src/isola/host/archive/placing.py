"""Writes chosen files as an image layer, at a path of the root that the layer lies on."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace

from isola.errors import InvalidInput
from isola.host.archive.choosing import Choosing, Chosen, Kept, joined, resolved, small_file, status_of
from isola.host.archive.layerpack import LayerPacking
from isola.host.archive.tarpack import Dress, Members, header
from isola.model.file_mode import FileMode

_DIRECTORY_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of owner and mode."""

    uid: int | None = None
    """None: root, or as they are where owners are kept."""
    gid: int | None = None
    mode: FileMode | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """One member of the layer."""

    chosen: Chosen | None
    """None for a directory that the layer needs."""
    status: os.stat_result | None = None
    """Of a directory that the root has already."""
    mode: int | None = None
    """Of a new directory."""


class Placing:
    """``root``: descriptor of the tree below, None for an empty one."""

    def __init__(self, root: int | None, change: Change, *, like_source: bool = False) -> None:
        self._root = root
        self._change = change
        self._like_source = like_source
        self._resolved: dict[bytes, bytes] = {}
        self._placed: dict[bytes, Placed] = {}

    def choose(self, choosing: Choosing, target: str) -> None:
        """Find the place of each file. Raises InvalidInput."""
        wanted = os.fsencode(target.strip("/"))
        at = wanted if self._root is None else resolved(self._root, wanted)
        below = self._below(at)
        is_directory = target.endswith("/") or (below is not None and stat.S_ISDIR(below.st_mode))
        if not choosing.found or any(not each.whole for each in choosing.found) or choosing.several:
            is_directory = True
        if is_directory:
            mode = self._change.mode
            self._directory(at, None if choosing.found or mode is None else mode.number)
        for each in choosing.found:
            self._place(each, joined(at, each.place) if is_directory or not each.whole else at)

    def _place(self, chosen: Chosen, at: bytes) -> None:
        if not at:
            return  # the root itself
        directory = stat.S_ISDIR(chosen.status.st_mode)
        at = self._without_links(at)
        below = self._below(at)
        if below is not None and stat.S_ISLNK(below.st_mode) and directory and self._root is not None:
            at = resolved(self._root, at)
            below = self._below(at)
        if below is not None and directory != stat.S_ISDIR(below.st_mode):
            kind = "non-directory" if directory else "directory"
            raise InvalidInput(f"cannot copy to {kind}: /{os.fsdecode(at)[:200]}", field="dockerfile")
        self._directory(at.rpartition(b"/")[0])
        if not chosen.place and (below is not None or not self._like_source):
            mode = self._change.mode  # its content is copied: the target keeps its own mode, or is a new directory
            return self._directory(at, None if chosen.kept.mode or mode is None else mode.number)
        self._placed[at] = Placed(chosen)
        return None

    def _without_links(self, at: bytes) -> bytes:
        """Directories on the way may be links of the root, which an archive knows nothing of."""
        above, _, name = at.rpartition(b"/")
        if self._root is None or not above:
            return at
        if above not in self._resolved:
            self._resolved[above] = resolved(self._root, above)
        return joined(self._resolved[above], name)

    def _below(self, at: bytes) -> os.stat_result | None:
        return None if self._root is None else status_of(self._root, at)

    def _directory(self, at: bytes, mode: int | None = None) -> None:
        """A directory that exists in the layer, as it is below, with all above it; ``mode``: if it is new."""
        parts = at.split(b"/") if at else []
        for depth in range(1, len(parts) + 1):
            path = b"/".join(parts[:depth])
            if path in self._placed:
                if path == at and mode is not None and self._placed[path].chosen is None:
                    self._placed[path] = replace(self._placed[path], mode=mode)
                continue
            below = self._below(path)
            if below is not None and not stat.S_ISDIR(below.st_mode):
                raise InvalidInput(f"cannot copy to non-directory: /{os.fsdecode(path)[:200]}", field="dockerfile")
            self._placed[path] = Placed(None, below, mode if path == at else None)

    @property
    def changes(self) -> bool:
        """Whether there is anything that the root has not yet."""
        return any(placed.chosen is not None or placed.status is None for placed in self._placed.values())

    def write(self, packing: LayerPacking, newest: int | None, now: int) -> None:
        """In the order of paths; new directories get the time ``now``."""
        members: dict[tuple[int, Kept], Members] = {}

        def add(output: LayerPacking) -> None:
            for path, placed in sorted(self._placed.items()):
                output.entries += 1
                if placed.chosen is None:
                    output.write(header(self._made(path, placed, now, newest)))
                    continue
                chosen = placed.chosen
                key = (chosen.tree, chosen.kept)
                if key not in members:
                    members[key] = Members(chosen.tree, output, newest=newest, dress=self._dress(chosen.kept))
                members[key].add(chosen.path or b".", name=os.fsdecode(path))

        packing.write_all(add)

    def _dress(self, kept: Kept) -> Dress:
        mode = None if kept.mode else self._change.mode
        if self._change.uid is not None and self._change.gid is not None:
            return Dress(self._change.uid, self._change.gid, mode, kept.modified)
        return Dress(None, None, mode, kept.modified) if kept.owner else Dress(0, 0, mode, kept.modified)

    def _made(self, path: bytes, placed: Placed, now: int, newest: int | None) -> tarfile.TarInfo:
        info = tarfile.TarInfo(os.fsdecode(path))
        info.type = tarfile.DIRTYPE
        if (status := placed.status) is not None:
            info.mode, info.mtime = stat.S_IMODE(status.st_mode), _limited(int(status.st_mtime), newest)
            info.uid, info.gid = status.st_uid, status.st_gid
        else:
            info.mode = _DIRECTORY_MODE if placed.mode is None else placed.mode
            info.mtime = _limited(now, newest)
            info.uid, info.gid = self._change.uid or 0, self._change.gid or 0
        return info


def _limited(moment: int, newest: int | None) -> int:
    return moment if newest is None else min(moment, newest)


def owner_of(text: str, root: int | None) -> tuple[int | None, int | None]:
    """``USER[:GROUP]`` by number, or by name as in the root. Raises InvalidInput."""
    if not text:
        return None, None
    user, _, group = text.partition(":")
    uid, gid = _ids(user, "user", root, b"etc/passwd") if user else (0, 0)
    return uid, _ids(group, "group", root, b"etc/group")[0] if group else gid


def _ids(name: str, kind: str, root: int | None, table: bytes) -> tuple[int, int]:
    """Of a user the group too, which is its primary one, or has the same number."""
    if name.isascii() and name.isdigit():
        return _number(name), _number(name)
    known = _table(root, table)
    if name not in known:
        raise InvalidInput(f"can't find {kind} {name[:80]}: no such {kind} in the image", field="dockerfile")
    return known[name]


def _number(text: str) -> int:
    if len(text) > 10 or int(text) >= 2**32 - 1:
        raise InvalidInput(f"invalid id: {text[:40]}", field="dockerfile")
    return int(text)


def _table(root: int | None, path: bytes) -> Mapping[str, tuple[int, int]]:
    """Name -> the third field, and the fourth if it is a number too."""
    found: dict[str, tuple[int, int]] = {}
    data = b"" if root is None else small_file(root, path)
    for line in data.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[2].isascii() and fields[2].isdigit() and len(fields[2]) <= 10:
            second = fields[3] if len(fields) > 3 else ""
            found.setdefault(
                fields[0], (int(fields[2]), int(second) if second.isascii() and second.isdigit() else int(fields[2]))
            )
    return found
