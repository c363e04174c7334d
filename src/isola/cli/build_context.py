"""A directory as the context of a build: a tar stream, without what its ignore file leaves out."""

from __future__ import annotations

import os
import stat
import tarfile

from isola.model.ignore import Patterns, read_ignore_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OUTSIDE = ".dockerfile-from-outside"
"""Name in the context of a Dockerfile that is elsewhere."""
_BLOCK = 1 << 20
_IGNORE = ".dockerignore"
_END = bytes(2 * tarfile.BLOCKSIZE)


class BuildContext:
    """``dockerfile``: path of the Dockerfile, empty for the one in the directory. Raises OSError, InvalidInput.

    As in Docker, where there is no ``Dockerfile``, ``dockerfile`` is read.

    ``needed``: whether there has to be one.
    """

    def __init__(self, directory: str, dockerfile: str = "", *, needed: bool = True) -> None:
        self._top = os.path.realpath(directory)
        self._outside = self.dockerfile = ""
        if not dockerfile and not needed:
            os.stat(self._top)
            self._ignore = os.path.join(self._top, _IGNORE)
            self._patterns = _patterns(self._ignore)
            return
        path = _found(dockerfile or os.path.join(self._top, "Dockerfile"))
        real = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
        os.stat(real)
        if os.path.commonpath([self._top, real]) == self._top:
            self.dockerfile = os.path.relpath(real, self._top)
        else:
            self.dockerfile, self._outside = OUTSIDE, real
        own = f"{real}{_IGNORE}"
        self._ignore = own if os.path.isfile(own) else os.path.join(self._top, _IGNORE)
        self._patterns = _patterns(self._ignore)

    def stream(self) -> Iterator[bytes]:
        """The members in the order of their paths; the Dockerfile and the ignore file are always among them."""
        yield from self.members()
        yield _END

    def members(self, below: str = "") -> Iterator[bytes]:
        """Without the end of the archive; ``below``: a directory of it, which is made, with a slash at its end."""
        if below:
            yield from _member(self._top, below.rstrip("/"), os.stat(self._top))
        for path, status in self._members():
            yield from _member(os.path.join(self._top, path), below + path, status)
        if self._outside:
            yield from _member(self._outside, below + OUTSIDE, os.stat(self._outside))

    def _members(self) -> Iterator[tuple[str, os.stat_result]]:
        pending = [""]
        while pending:
            directory = pending.pop()
            below = list[str]()
            for name in sorted(os.listdir(os.path.join(self._top, directory))):
                path = os.path.join(directory, name)
                status = os.lstat(os.path.join(self._top, path))
                out = self._is_left_out(path)
                if stat.S_ISDIR(status.st_mode) and not (out and self._patterns and self._patterns.skips(path)):
                    below.append(path)
                if not out:
                    yield path, status
            pending += reversed(below)

    def _is_left_out(self, path: str) -> bool:
        needed = (self.dockerfile, os.path.relpath(self._ignore, self._top))
        return self._patterns is not None and path not in needed and self._patterns.excludes(path)


def together(contexts: Mapping[str, BuildContext]) -> Iterator[bytes]:
    """One archive with a directory for each."""
    for name, each in contexts.items():
        yield from each.members(f"{name}/")
    yield _END


def _found(path: str) -> str:
    directory, name = os.path.split(path)
    other = os.path.join(directory, name.lower())
    return other if name == "Dockerfile" and not os.path.lexists(path) and os.path.lexists(other) else path


def _patterns(path: str) -> Patterns | None:
    try:
        with open(path, "rb") as file:
            return read_ignore_file(file.read())
    except FileNotFoundError:
        return None


def _member(path: str, name: str, status: os.stat_result) -> Iterator[bytes]:
    """Owned by root, as a build's files are."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISREG(status.st_mode):
        yield from _file(path, info)
        return
    else:
        return  # sockets and devices
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(path: str, info: tarfile.TarInfo) -> Iterator[bytes]:
    with open(path, "rb") as file:
        info.size = left = os.fstat(file.fileno()).st_size
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        while left:
            block = file.read(min(_BLOCK, left)) or bytes(min(_BLOCK, left))  # it has become shorter
            left -= len(block)
            yield block
        yield bytes(-info.size % tarfile.BLOCKSIZE)
