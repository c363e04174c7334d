"""What a tree must change to become a copy of another one. By descriptor, never through a link, never across a mount.

Neither tree changes because of it. Programs may write into the source meanwhile: what is copied afterwards is as new
as its copy, and every other file is as it was compared.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from isola.host import kernel
from isola.host.directories import DIRECTORY

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WITHIN = kernel.RESOLVE_NO_XDEV | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_BENEATH
_DEPTH = 128
"""Each level costs two descriptors."""
_MOST = 20_000
"""Differences; with more of them a complete copy is cheaper."""
_LONGEST = 3500
"""Bytes of a path, which a program takes in one piece."""
_EACH = 200
"""Bytes of an entry of a list or dictionary, besides its content."""
_DIGEST = 40
"""Those of an entry of a survey."""
_BLOCK = 1 << 20
_KEEP_CTIME = {0xEF53, 0x58465342, 0x9123683E}
"""ext4, XFS and btrfs change it with every change of a file."""


class TooDifferent(Exception):
    """The trees cannot be compared in this way, or hardly anything is the same."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A tree of millions of directories, or with large attributes, must not take the memory of the host."""

    widest: int = 50_000
    """Entries of a directory: all are in memory while it is looked at, and sorting them holds the interpreter."""
    comparison: int = 64 << 20
    """Bytes of what is remembered about two trees."""
    survey: int = 8 << 20
    """The same for a survey."""


_BOUNDS = Bounds()


@dataclass(slots=True)
class _Room:
    widest: int
    left: int

    def take(self, size: int) -> None:
        """Raises TooDifferent."""
        self.left -= size
        if self.left < 0:
            raise TooDifferent


@dataclass(frozen=True, slots=True)
class Look:
    """Owner, mode, attributes and times of a directory."""

    mode: int
    uid: int
    gid: int
    times: tuple[int, int]
    attributes: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Paths relative to both trees; none lies below another one of them."""

    copied: tuple[bytes, ...] = ()
    """What the source has, and the target has not or has otherwise."""
    removed: tuple[bytes, ...] = ()
    """What the target has alone."""
    directories: tuple[tuple[bytes, Look, Look], ...] = ()
    """Those that both have, whose content or own attributes differ: how they look in the source, and in the target."""

    def __bool__(self) -> bool:
        return bool(self.copied or self.removed or self.directories)


Survey = Mapping[bytes, bytes]
"""A digest of the inodes in each directory of a tree, and of the times when they were last changed.

Programs can set all times of a file but this one, and writing the same one twice takes a clock that was turned back.
"""


@dataclass(frozen=True, slots=True)
class Trust:
    """When files of the same size and time of modification count as the same."""

    content: bool = True
    """False: only after their content has been compared, unless ``survey`` says that they are."""
    survey: Survey = field(default_factory=dict)
    """Of the target at the time when the source was copied from it."""


@dataclass(slots=True)
class _Walk:
    trust: Trust
    stop: threading.Event
    device: int
    room: _Room
    copied: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)
    directories: list[tuple[bytes, Look, Look]] = field(default_factory=list)
    twins: dict[int, int] = field(default_factory=dict)
    """Inodes with several names, of the source and of the target."""
    back: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Pair:
    source: int
    target: int
    path: bytes
    depth: int


def compare(source: int, target: Path, trust: Trust, stop: threading.Event, bounds: Bounds = _BOUNDS) -> Difference:
    """``source`` is a descriptor. Raises TooDifferent, OSError; InterruptedError once ``stop`` is set."""
    with _opened(b".", source) as one, _opened(target) as other:
        walk = _Walk(trust, stop, os.fstat(other).st_dev, _Room(bounds.widest, bounds.comparison))
        _directory(walk, _Pair(one, other, b"", 0))
    return Difference(tuple(walk.copied), tuple(walk.removed), tuple(walk.directories))


def survey(tree: Path, recent: int, bounds: Bounds = _BOUNDS) -> Survey:
    """Of all directories in which nothing was changed after ``recent`` (ns since 1970). Raises OSError.

    What a program has mapped into its memory may change once more without a new time, until it is written out.
    Empty on a file system that may not keep the time of every change, and for a tree with too many directories.
    """
    found: dict[bytes, bytes] = {}
    with _opened(tree) as top:
        if kernel.file_system_type(top) in _KEEP_CTIME:
            try:
                _survey(top, b"", 0, recent, (found, _Room(bounds.widest, bounds.survey)))
            except TooDifferent:
                return {}
    return found


def _survey(directory: int, path: bytes, depth: int, recent: int, found: tuple[dict[bytes, bytes], _Room]) -> None:
    digests, room = found
    entries = _entries(directory, room.widest)
    if all(each.st_ctime_ns < recent for each in entries.values() if not stat.S_ISDIR(each.st_mode)):
        digests[path] = _digest(entries)
    below = _directories(entries) if depth < _DEPTH else []
    del entries  # or those of all levels would be in memory
    for name in below:
        room.take(len(path) + len(name) + _DIGEST)
    for name in below:
        with _opened(name, directory) as opened:
            _survey(opened, path + b"/" + name if path else name, depth + 1, recent, found)


def _directories(entries: Mapping[bytes, os.stat_result]) -> list[bytes]:
    return [name for name, status in entries.items() if stat.S_ISDIR(status.st_mode)]


def _entries(directory: int, most: int) -> dict[bytes, os.stat_result]:
    """Raises TooDifferent if there are too many."""
    found: dict[bytes, os.stat_result] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if len(found) >= most:
                raise TooDifferent
            with suppress(FileNotFoundError):  # gone meanwhile
                found[os.fsencode(entry.name)] = entry.stat(follow_symlinks=False)
    return found


def _digest(entries: Mapping[bytes, os.stat_result]) -> bytes:
    total = hashlib.blake2b(digest_size=12)
    for name in sorted(entries):
        status = entries[name]
        changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_ctime_ns
        total.update(b"%s/%d %d;" % (name, status.st_ino, changed))
    return total.digest()


def _directory(walk: _Walk, pair: _Pair) -> None:
    if walk.stop.is_set():
        raise InterruptedError(errno.EINTR, "the comparison was cancelled")
    if pair.depth >= _DEPTH or len(walk.copied) + len(walk.removed) > _MOST:
        raise TooDifferent
    theirs, ours = (_entries(each, walk.room.widest) for each in (pair.source, pair.target))
    known = walk.trust.survey.get(pair.path) if walk.trust.survey else None
    unchanged = known is not None and known == _digest(ours)
    changed = False
    below: list[bytes] = []
    for name, status in theirs.items():
        there = ours.pop(name, None)
        if there is not None and there.st_dev != walk.device:
            raise TooDifferent
        if there is not None and stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(there.st_mode):
            below.append(name)
        elif there is None or not _same(walk, pair, name, (status, there), unchanged=unchanged):
            _require_all_names(walk, pair, name, status)
            _note(walk, walk.copied, pair, name)
            changed = True
    for name in ours:
        _note(walk, walk.removed, pair, name)
        changed = True
    theirs, ours = {}, {}  # or those of all levels would be in memory
    _own(walk, pair, changed=changed)
    for name in below:
        walk.room.take(_EACH + len(name))
    for name in below:
        with _opened(name, pair.source) as one, _opened(name, pair.target) as other:
            _directory(walk, _Pair(one, other, _path(pair, name), pair.depth + 1))


def _require_all_names(walk: _Walk, pair: _Pair, name: bytes, status: os.stat_result) -> None:
    """Raise TooDifferent for a file, or for one below a directory, that also has names elsewhere.

    A copy of it alone would be another file than they are.
    """
    if not stat.S_ISDIR(status.st_mode):
        if status.st_nlink > 1:
            raise TooDifferent
        return
    missing: dict[int, int] = {}
    with _opened(name, pair.source) as directory:
        _count_names(walk, directory, pair.depth + 1, missing)
    if any(missing.values()):
        raise TooDifferent


def _count_names(walk: _Walk, directory: int, depth: int, missing: dict[int, int]) -> None:
    if depth >= _DEPTH:
        raise TooDifferent
    entries = _entries(directory, walk.room.widest)
    below = _directories(entries)
    for status in entries.values():
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            if status.st_ino not in missing:
                walk.room.take(_EACH)
            missing[status.st_ino] = missing.get(status.st_ino, status.st_nlink) - 1
    del entries
    for name in below:
        walk.room.take(_EACH + len(name))
    for name in below:
        with _opened(name, directory) as opened:
            _count_names(walk, opened, depth + 1, missing)


def _own(walk: _Walk, pair: _Pair, *, changed: bool) -> None:
    """Compare the directories themselves."""
    wanted, found = _look(pair.source), _look(pair.target)
    same = (wanted.mode, wanted.uid, wanted.gid, wanted.times[1], wanted.attributes) == (
        found.mode, found.uid, found.gid, found.times[1], found.attributes
    )  # fmt: skip
    if changed or not same:
        walk.room.take(_EACH + len(pair.path) + _size(wanted) + _size(found))
        walk.directories.append((pair.path, wanted, found))


def _size(look: Look) -> int:
    return _EACH + sum(_EACH + len(value) for _, value in look.attributes)


def _same(
    walk: _Walk, pair: _Pair, name: bytes, seen: tuple[os.stat_result, os.stat_result], *, unchanged: bool
) -> bool:
    """Whether two files of this name are the same, which ``unchanged`` says of those whose attributes are."""
    theirs, ours = seen
    if _meta(theirs) != _meta(ours):
        return False
    if not stat.S_ISREG(theirs.st_mode):
        return _same_special(pair, name, theirs, ours)
    if (theirs.st_nlink > 1 or ours.st_nlink > 1) and not _are_twins(walk, theirs, ours):
        return False
    if unchanged:
        return True
    with _opened(name, pair.source, _FILE) as one, _opened(name, pair.target, _FILE) as other:
        return _attributes(one) == _attributes(other) and (
            walk.trust.content or _same_content(one, other, ours.st_size, walk.stop)
        )


def _same_special(pair: _Pair, name: bytes, theirs: os.stat_result, ours: os.stat_result) -> bool:
    if stat.S_ISLNK(theirs.st_mode):
        return os.readlink(name, dir_fd=pair.source) == os.readlink(name, dir_fd=pair.target)
    return theirs.st_rdev == ours.st_rdev


def _are_twins(walk: _Walk, theirs: os.stat_result, ours: os.stat_result) -> bool:
    """Whether every name of the one is a name of the other."""
    if theirs.st_nlink != ours.st_nlink:
        return False
    one, other = theirs.st_ino, ours.st_ino
    if one not in walk.twins:
        walk.room.take(2 * _EACH)
    return walk.twins.setdefault(one, other) == other and walk.back.setdefault(other, one) == one


def _meta(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_size)


def _same_content(one: int, other: int, size: int, stop: threading.Event) -> bool:
    """Also holes have to be at the same places."""
    at = 0
    while at < size:
        begin, end = _data(one, at, size)
        if (begin, end) != _data(other, at, size):
            return False
        at = begin
        while at < end:
            if stop.is_set():
                raise InterruptedError(errno.EINTR, "the comparison was cancelled")
            block = os.pread(one, min(_BLOCK, end - at), at)
            if not block or block != os.pread(other, len(block), at):
                return False
            at += len(block)
    return True


def _data(file: int, at: int, size: int) -> tuple[int, int]:
    """The next data from an offset on."""
    try:
        begin = os.lseek(file, at, os.SEEK_DATA)
        return begin, min(size, os.lseek(file, begin, os.SEEK_HOLE))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size, size


def _look(directory: int) -> Look:
    status = os.fstat(directory)
    return Look(
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        (status.st_atime_ns, status.st_mtime_ns),
        _attributes(directory),
    )


def _attributes(descriptor: int) -> tuple[tuple[str, bytes], ...]:
    try:
        return tuple(sorted((name, os.getxattr(descriptor, name)) for name in os.listxattr(descriptor)))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
            return ()
        raise


def _note(walk: _Walk, found: list[bytes], pair: _Pair, name: bytes) -> None:
    path = _path(pair, name)
    if len(path) > _LONGEST:
        raise TooDifferent
    walk.room.take(_EACH + len(path))
    found.append(path)


def _path(pair: _Pair, name: bytes) -> bytes:
    return pair.path + b"/" + name if pair.path else name


@contextmanager
def _opened(name: Path | bytes, directory: int | None = None, flags: int = DIRECTORY) -> Iterator[int]:
    if isinstance(name, Path):
        descriptor = os.open(name, DIRECTORY)
    else:
        assert directory is not None
        descriptor = kernel.open_beneath(directory, name, flags, _WITHIN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
