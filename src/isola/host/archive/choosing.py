"""Files that a build copies, chosen by paths and patterns below open trees, which are hostile.

Symbolic links on the way to a source are followed inside its tree; those in a copied directory are copied.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isola.errors import InvalidInput, TooLarge, UnsafeArchive
from isola.host import kernel
from isola.model.ignore import Patterns, name_pattern

MAX_ENTRIES = 1_000_000
_LONGEST = 4000
"""Bytes of a path; the kernel takes 4095."""
_DEEPEST_LINKS = 40
_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_XDEV
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)
_BLOCK = 1 << 20
_WILD = "*?["


@dataclass(frozen=True, slots=True)
class Kept:
    """What files keep of their own."""

    owner: bool = False
    """Otherwise they belong to root."""
    mode: bool = False
    """Also if the target has one for all."""
    modified: int | None = None
    """Their time, in seconds since 1970; None: as they are."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One file, and where it goes relative to the target."""

    tree: int
    """Descriptor of the tree it is in."""
    path: bytes
    place: bytes
    """Relative to the target; empty for the directory that is copied as the target itself."""
    status: os.stat_result
    whole: bool = False
    """A source by itself and no directory: its place is decided by what the target is."""
    kept: Kept = Kept()
    above: bool = False
    """A directory above a source, of ``--parents``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Sources in one tree."""

    tree: int
    patterns: Sequence[str]
    kept: Kept = Kept()
    parents: bool = False
    """Paths are kept below the target."""
    excludes: Patterns | None = None
    name: str = "build context"


class Choosing:
    """Collects what is copied; every source exists, or NotFound's text is in the InvalidInput that is raised."""

    def __init__(self, most: int = MAX_ENTRIES) -> None:
        self.found: list[Chosen] = []
        self._most = most
        self.several = False
        """More than one file is copied: the target has to be a directory."""

    def run(self, wanted: Sequence[Wanted]) -> None:
        """Raises InvalidInput, TooLarge, OSError."""
        tops = 0
        for each in wanted:
            for pattern in each.patterns:
                paths = list(_matches(each, pattern))
                if not paths:
                    raise _missing(each, pattern)
                tops += len(paths)
                for path in paths:
                    self._take(each, path, _kept(pattern, path) if each.parents else b"")
        self.several = tops > 1

    def _take(self, wanted: Wanted, path: bytes, kept: bytes) -> None:
        name = path.rpartition(b"/")[2]  # of the link, whatever it leads to
        path = resolved(wanted.tree, path)
        status = status_of(wanted.tree, path)
        if status is None:
            raise _missing(wanted, os.fsdecode(path))
        if wanted.parents:
            self._parents(wanted, path, kept)
        if stat.S_ISDIR(status.st_mode):
            self._directory(wanted, path, kept if wanted.parents else b"", status)
            return
        if wanted.excludes is None or not wanted.excludes.excludes(os.fsdecode(name)):
            self._add(Chosen(wanted.tree, path, kept or name, status, not wanted.parents, wanted.kept))

    def _parents(self, wanted: Wanted, path: bytes, kept: bytes) -> None:
        parts = kept.split(b"/")[:-1]
        top = path[: len(path) - len(kept)]
        for depth in range(1, len(parts) + 1):
            place = b"/".join(parts[:depth])
            status = status_of(wanted.tree, top + place)
            if status is not None and stat.S_ISDIR(status.st_mode):
                self._add(Chosen(wanted.tree, top + place, place, status, kept=wanted.kept, above=True))

    def _directory(self, wanted: Wanted, top: bytes, place: bytes, status: os.stat_result) -> None:
        """A directory before its entries."""
        self._add(Chosen(wanted.tree, top, place, status, kept=wanted.kept))
        pending = [b""]
        while pending:
            inside = pending.pop()
            for name, status in entries(wanted.tree, joined(top, inside)):  # noqa: PLR1704
                path = joined(inside, name)
                shown = os.fsdecode(path)
                out = wanted.excludes is not None and wanted.excludes.excludes(shown)
                if stat.S_ISDIR(status.st_mode) and not (out and wanted.excludes and wanted.excludes.skips(shown)):
                    pending.append(path)
                if not out:
                    self._add(Chosen(wanted.tree, joined(top, path), joined(place, path), status, kept=wanted.kept))

    def _add(self, chosen: Chosen) -> None:
        if stat.S_IFMT(chosen.status.st_mode) not in _KINDS:
            return  # sockets and devices cannot be in a layer
        if len(chosen.place) > _LONGEST:
            raise InvalidInput("A path is too long", evidence=f"{len(chosen.place)} bytes")
        self.found.append(chosen)
        if len(self.found) > self._most:
            raise TooLarge(f"More than {self._most} files are copied")

    def digest(self) -> str:
        """Of places, kinds, modes, contents, and owners that are kept; times do not count."""
        total = hashlib.sha256()
        for each in sorted(self.found, key=lambda one: one.place):
            owner = (each.status.st_uid, each.status.st_gid) if each.kept.owner else ()
            total.update(repr((each.place, each.status.st_mode, owner, each.whole, _content(each))).encode())
        return f"sha256:{total.hexdigest()}"


def _content(chosen: Chosen) -> bytes:
    if stat.S_ISLNK(chosen.status.st_mode):
        return target_of(chosen.tree, chosen.path)
    if not stat.S_ISREG(chosen.status.st_mode):
        return b""
    total = hashlib.sha256()
    descriptor = kernel.open_beneath(chosen.tree, chosen.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, _RESOLVE)
    try:
        while block := os.read(descriptor, _BLOCK):
            total.update(block)
    finally:
        os.close(descriptor)
    return total.digest()


def _missing(wanted: Wanted, pattern: str) -> InvalidInput:
    if any(char in pattern for char in _WILD):
        return InvalidInput(
            "no source files were specified", evidence=f"{pattern[:200]} matches nothing", field="dockerfile"
        )
    return InvalidInput(
        f"file not found in {wanted.name} or excluded by .dockerignore: stat {pattern[:200]}: file does not exist",
        field="dockerfile",
    )  # fmt: skip


def _parts(pattern: str) -> list[str]:
    """Without ``.`` and ``..``; a leading ``..`` is the root."""
    found: list[str] = []
    for part in pattern.split("/"):
        if part == "..":
            del found[-1:]
        elif part not in ("", "."):
            found.append(part)
    return found


def _kept(pattern: str, path: bytes) -> bytes:
    """The part of the path that ``--parents`` keeps: what follows ``/./`` in the pattern."""
    before, pivot, _ = pattern.rpartition("/./")
    depth = len(_parts(before)) if pivot else 0
    return b"/".join(path.split(b"/")[depth:])


def _matches(wanted: Wanted, pattern: str) -> Iterator[bytes]:
    """Paths below the tree, sorted."""
    found = [b""]
    for part in _parts(pattern):
        if any(char in part for char in _WILD):
            matcher = name_pattern(part)
            found = [
                joined(path, name)
                for path in found
                for name, _ in _listed(wanted.tree, path)
                if matcher.fullmatch(os.fsdecode(name))
            ]
        else:
            found = [joined(path, os.fsencode(part)) for path in found]
        if len(found) > MAX_ENTRIES:
            raise TooLarge(f"A pattern matches more than {MAX_ENTRIES} files")
    several = any(char in pattern for char in _WILD)
    return iter(sorted(path for path in found if not several or _exists(wanted.tree, path)))


def _exists(tree: int, path: bytes) -> bool:
    return status_of(tree, resolved(tree, path)) is not None


def _listed(tree: int, path: bytes) -> list[tuple[bytes, os.stat_result]]:
    status = status_of(tree, resolved(tree, path))
    if status is None or not stat.S_ISDIR(status.st_mode):
        return []
    return entries(tree, resolved(tree, path))


# --- trees ---------------------------------------------------------------------------------------------------------


def joined(one: bytes, other: bytes) -> bytes:
    """Two relative paths, each of which may be empty."""
    return b"/".join(part for part in (one, other) if part)


def status_of(tree: int, path: bytes) -> os.stat_result | None:
    """Of the file itself, not following a link; None if there is none."""
    try:
        descriptor = kernel.open_beneath(tree, path or b".", os.O_PATH | os.O_NOFOLLOW, _RESOLVE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def target_of(tree: int, path: bytes) -> bytes:
    """Of a symbolic link."""
    descriptor = kernel.open_beneath(tree, path, os.O_PATH | os.O_NOFOLLOW, _RESOLVE)
    try:
        return os.readlink(b"", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def entries(tree: int, path: bytes) -> list[tuple[bytes, os.stat_result]]:
    """Names and states in a directory, sorted."""
    descriptor = kernel.open_beneath(tree, path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _RESOLVE)
    try:
        with os.scandir(descriptor) as found:
            return sorted((os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in found)
    finally:
        os.close(descriptor)


def resolved(tree: int, path: bytes, *, last: bool = True) -> bytes:
    """The same place without symbolic links on the way, which are followed inside the tree.

    What does not exist stays as it is. ``last``: whether a link at the end is followed, too. Raises UnsafeArchive.
    """
    pending, found, links = path.split(b"/")[::-1], list[bytes](), 0
    while pending:
        part = pending.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            del found[-1:]
            continue
        found.append(part)
        status = status_of(tree, b"/".join(found))
        if status is None or not stat.S_ISLNK(status.st_mode) or not (pending or last):
            continue
        links += 1
        if links > _DEEPEST_LINKS:
            raise UnsafeArchive("Too many levels of symbolic links", evidence=os.fsdecode(path)[:200])
        target = target_of(tree, b"/".join(found))
        found = [] if target.startswith(b"/") else found[:-1]
        pending += target.split(b"/")[::-1]
    return b"/".join(found)


def small_file(tree: int, path: bytes, limit: int = 1 << 20) -> bytes:
    """The beginning of a regular file, links followed inside the tree; empty if there is none."""
    place = resolved(tree, path)
    status = status_of(tree, place)
    if status is None or not stat.S_ISREG(status.st_mode):
        return b""
    descriptor = kernel.open_beneath(tree, place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, _RESOLVE)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)
