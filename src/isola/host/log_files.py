"""Log files: another process appends to them, and replaces them when they are full."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from isola.host.reporting import reported
from isola.host.threads import in_thread
from isola.host.watching import Watching

_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)


class LogFile(Protocol):
    """An open log file; it stays the same when another file gets its name. ``close`` may be called twice."""

    @property
    def identity(self) -> object:
        """Equal for the same file."""
        ...

    async def size(self) -> int: ...

    async def read(self, at: int, size: int) -> bytes:
        """At most ``size`` bytes from this offset; empty at its present end."""
        ...

    def close(self) -> None: ...


class LogFiles(Protocol):
    """A log is a file, and older generations of it as ``NAME.0``, ``NAME.1`` (older) and so on."""

    async def open(self, path: Path) -> Sequence[LogFile]:
        """All generations, the oldest first; none if there is no log."""
        ...

    def watch(self, path: Path, on_change: Callable[[], None], *, writes: bool) -> Callable[[], None]:
        """Call ``on_change`` when the log is replaced, with ``writes`` also when it is written; returns what ends that.

        Raises NotFound if its directory does not exist, HostFailure.
        """
        ...

    async def keep(self, path: Path, files: int) -> None:
        """Keep this many files in all, also when the writer replaces the present one; no effect if it is kept.

        Repeat it after every replacement. Raises HostFailure.
        """
        ...

    async def rotate(self, path: Path, files: int, *, most: int) -> None:
        """Replace the log as its writer does if it has reached ``most`` bytes; only while there is no writer."""
        ...

    async def remove(self, path: Path) -> None:
        """Remove all generations."""
        ...


class _Open:
    """By a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._identity = (found.st_dev, found.st_ino)

    @property
    def identity(self) -> object:
        return self._identity

    async def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    async def read(self, at: int, size: int) -> bytes:
        return await in_thread(os.pread, self._descriptor, size, at)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LinuxLogFiles:
    """A generation is a hard link made while its file is the present one, so the writer may replace it at any time."""

    def __init__(self) -> None:
        self._watching = Watching()

    async def open(self, path: Path) -> Sequence[LogFile]:
        """Each once, although the present one has two names."""
        return await in_thread(reported, path, lambda: _open_all(path))

    def watch(self, path: Path, on_change: Callable[[], None], *, writes: bool) -> Callable[[], None]:
        """Also called for other files of the directory."""
        return self._watching.add(path.parent, on_change, writes=writes)

    async def keep(self, path: Path, files: int) -> None:
        """The present file is ``NAME.0`` too; when it is not any more, that one has become a generation."""
        await in_thread(reported, path, lambda: _keep(path, files))

    async def rotate(self, path: Path, files: int, *, most: int) -> None:
        """Counted from the size of the file."""
        await in_thread(reported, path, lambda: _rotate(path, files, most))

    async def remove(self, path: Path) -> None:
        """The oldest first."""
        await in_thread(reported, path, lambda: _remove_all(path))


def _generations(path: Path) -> list[tuple[int, Path]]:
    """Number and path of all, the newest first; the present one has -1."""
    found = [(-1, path)]
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path.parent):
            number = name.removeprefix(f"{path.name}.")
            if number != name and _NUMBER.fullmatch(number):
                found.append((int(number), path.parent / name))
    return sorted(found)


def _open_all(path: Path) -> list[LogFile]:
    """The present one first: when it is replaced meanwhile, it is found again under another name."""
    found: dict[object, _Open] = {}
    try:
        for _, name in _generations(path):
            with contextlib.suppress(FileNotFoundError):
                file = _Open(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))
                if file.identity in found:
                    file.close()
                else:
                    found[file.identity] = file
    except BaseException:
        for file in found.values():
            file.close()
        raise
    return list(reversed(found.values()))


def _keep(path: Path, files: int) -> None:
    newest = path.with_name(f"{path.name}.0")
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), os.lstat(newest)):
            return
    if newest.exists():
        for number, name in reversed(_generations(path)):
            if number >= 0:
                if number + 1 >= files:
                    _remove(name)
                else:
                    os.rename(name, path.with_name(f"{path.name}.{number + 1}"))
    if files > 1:
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            os.link(path, newest, follow_symlinks=False)


def _rotate(path: Path, files: int, most: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(path).st_size < most:
            return
        _keep(path, files)
        _remove(path)


def _remove_all(path: Path) -> None:
    for _, name in reversed(_generations(path)):
        _remove(name)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
