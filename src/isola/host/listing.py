"""Lists a directory of a root, with the properties of each entry."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator

from isola.errors import Unsupported
from isola.host import kernel
from isola.host.roots import Entry
from isola.host.walking import Walker
from isola.model.identity import IdRange

_PIECE = 128
_WITHIN = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def entry_of(descriptor: int, ids: IdRange) -> Entry:
    """What an open file or a mere reference to one is."""
    status = os.fstat(descriptor)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    target = os.readlink(b"", dir_fd=descriptor).decode("utf-8", "replace") if kind == "symlink" else ""
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=ids.inside(status.st_uid),
        gid=ids.inside(status.st_gid),
        size=status.st_size,
        target=target,
        modified=int(status.st_mtime),
        accessed=int(status.st_atime),
        links=status.st_nlink,
        format=stat.S_IFMT(status.st_mode),
    )


def listed(
    walker: Walker, descriptor: int, names: Iterator[os.DirEntry[str]], path: str, ids: IdRange
) -> tuple[tuple[str, Entry], ...]:
    """The next names of a directory that is read through ``descriptor``; empty at the end.

    Names that are not UTF-8 contain surrogate escapes. Entries that disappear meanwhile are left out.
    """
    while piece := [entry.name for entry in itertools.islice(names, _PIECE)]:
        entries = [(name, _look(walker, descriptor, path, name, ids)) for name in piece]
        if found := tuple((name, entry) for name, entry in entries if entry is not None):
            return found
    return ()


def _look(walker: Walker, descriptor: int, path: str, name: str, ids: IdRange) -> Entry | None:
    """One entry, without accessing a file system that may hang."""
    try:
        flags = os.O_PATH | os.O_NOFOLLOW
        found = kernel.open_beneath(descriptor, os.fsencode(name), flags, _WITHIN)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _mounted(walker, f"{path}/{name}", ids)
    try:
        return entry_of(found, ids)
    finally:
        os.close(found)


def _mounted(walker: Walker, path: str, ids: IdRange) -> Entry | None:
    try:
        with walker.found(path, follow=False) as found:
            return entry_of(found.descriptor, ids)
    except FileNotFoundError:
        return None
    except Unsupported:  # a file system that is not accessed from outside
        return Entry("other", 0, 0, 0, 0)
