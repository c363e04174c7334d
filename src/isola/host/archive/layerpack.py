"""Writes what a tree changed of another one as an image layer: a tar stream in the order of paths, with whiteouts."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

from isola.errors import TooLarge
from isola.host.archive.changed import Comparing
from isola.host.archive.tarpack import Members, compressed
from isola.model.file_change import ChangeKind

_WHITEOUT = b".wh."
_LETTERS = {ChangeKind.MODIFIED: b"C", ChangeKind.ADDED: b"A", ChangeKind.DELETED: b"D"}


class LayerPacking:
    """One layer that is being written."""

    def __init__(self, file: BinaryIO, *, compression: str, newest: int | None, limit: int) -> None:
        self.entries = 0
        self.bytes = 0
        """Size of the tar stream."""
        self._compressed = compressed(file, compression, threads=2)
        self._newest = newest
        self._limit = limit
        self._total = hashlib.sha256()
        self._output: Any = None

    def run(self, new: int, comparing: Comparing, leave_out: frozenset[bytes]) -> None:
        """Write the differences of the tree at ``new``, except the paths ``leave_out``. Raises TooLarge, OSError.

        A new directory above one of these paths is left out, too, if there is nothing else in it.
        """
        above = frozenset(each[: at.start()] for each in leave_out for at in re.finditer(rb"/", each))
        held: list[bytes] = []
        with self._compressed as self._output:
            members = Members(new, self, newest=self._newest)
            for found in comparing.run():
                if found.path in leave_out:
                    continue
                held = [each for each in held if found.path.startswith(each + b"/")]
                if found.path in above and found.kind is ChangeKind.ADDED:
                    held.append(found.path)
                    continue
                while held:
                    self.entries += members.add(held.pop(0))
                if found.kind is ChangeKind.DELETED:
                    directory, slash, name = found.path.rpartition(b"/")
                    members.add_empty(directory + slash + _WHITEOUT + name)
                    self.entries += 1
                else:
                    self.entries += members.add(found.path)
            self.write(bytes(2 * tarfile.BLOCKSIZE))

    def write_all(self, add: Callable[[LayerPacking], None]) -> None:
        """Write what ``add`` writes to this, and the end of the stream. Raises TooLarge, OSError."""
        with self._compressed as self._output:
            add(self)
            self.write(bytes(2 * tarfile.BLOCKSIZE))

    def write(self, data: bytes) -> None:
        """The next bytes of the tar stream, hashed before they are compressed."""
        self.bytes += len(data)
        if self.bytes > self._limit:
            raise TooLarge("The changes are too large for an image layer", evidence=f"more than {self._limit} bytes")
        self._total.update(data)
        self._output.write(data)

    @property
    def diff_id(self) -> str:
        """Digest of the uncompressed stream."""
        return f"sha256:{self._total.hexdigest()}"


def write_list(output: BinaryIO, comparing: Comparing, *, limit: int) -> int:
    """Write a letter and a path for each difference, each ended by NUL; returns their number. Raises TooLarge."""
    count = 0
    for found in comparing.run():
        output.write(_LETTERS[found.kind] + found.path + b"\0")
        count += 1
        if count > limit:
            raise TooLarge("Too many files differ to list them", evidence=f"more than {limit}")
    return count


def opened(path: str) -> int:
    """The root of a tree."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def asking(ask: Callable[[str, int], None], what: str) -> Callable[[int], bool]:
    """Whether the process outside confirms something about an open directory."""

    def confirmed(descriptor: int) -> bool:
        try:
            ask(what, descriptor)
        except OSError:
            return False
        return True

    return confirmed
