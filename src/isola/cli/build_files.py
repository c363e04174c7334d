"""Files of a result below a directory of the user. The archive is foreign: nothing is written through a link."""

from __future__ import annotations

import os
import tarfile
import tempfile
from contextlib import contextmanager, suppress

from isola.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacking:
    """Files belong to the user; set-user-id bits are dropped, devices left out. Existing files are replaced."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self._top = directory
        self._spool = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115

    def take(self, data: bytes) -> None:
        """The next piece of the archive."""
        self._spool.write(data)

    def finish(self) -> None:
        """Unpack. Raises InvalidInput, OSError."""
        top = os.open(self._top, _DIRECTORY & ~os.O_NOFOLLOW)
        modes: list[tuple[tuple[str, ...], int]] = []
        try:
            self._spool.seek(0)
            with tarfile.open(fileobj=self._spool, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
                for member in archive:
                    if parts := _parts(member.name):
                        _put(archive, member, top, parts)
                        if member.isdir():
                            modes.append((parts, member.mode & 0o777))
            for parts, mode in reversed(modes):  # a directory may be read-only, once all is in it
                with _below(top, parts) as place:
                    os.fchmod(place, mode)
        except tarfile.TarError as error:
            raise InvalidInput("The daemon's archive cannot be read", evidence=str(error)) from error
        finally:
            os.close(top)
            self._spool.close()


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or name.startswith("/") or "\0" in name:
        raise InvalidInput("The archive of the result names a path outside of it", evidence=repr(name[:200]))
    return parts


@contextmanager
def _below(top: int, parts: tuple[str, ...]) -> Iterator[int]:
    """A directory; links on the way are refused. Raises OSError."""
    place = os.dup(top)
    try:
        for part in parts:
            following = os.open(part, _DIRECTORY, dir_fd=place)
            os.close(place)
            place = following
        yield place
    finally:
        os.close(place)


def _put(archive: tarfile.TarFile, member: tarfile.TarInfo, top: int, parts: tuple[str, ...]) -> None:
    *above, name = parts
    with _below(top, tuple(above)) as place:
        if member.isdir():
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=place)
            with _below(place, (name,)) as made:
                os.fchmod(made, 0o700)
            return
        if not (member.isreg() or member.issym() or member.islnk()):
            return
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=place)
        elif member.islnk():
            *others, other = _parts(member.linkname) or ("",)
            with _below(top, tuple(others)) as source:
                os.link(other, name, src_dir_fd=source, dst_dir_fd=place, follow_symlinks=False)
        else:
            _write(archive, member, place, name)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, place: int, name: str) -> None:
    source = archive.extractfile(member)
    assert source is not None
    with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=place), "wb") as target:
        while block := source.read(_BLOCK):
            target.write(block)
        target.flush()
        os.fchmod(target.fileno(), member.mode & 0o777)
        os.utime(target.fileno(), (member.mtime, member.mtime))
