"""New directories and files of the daemon, several at once."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.host.directories import DIRECTORY

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class NewDirectory:
    """A directory in an existing one. If it exists, it gets this mode and this owner."""

    path: Path
    mode: int | Path
    """Permissions, or a directory that has the same ones."""
    owner: int = 0


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file in an existing directory, readable by root alone. After an interruption it may be incomplete."""

    path: Path
    data: bytes


New = NewDirectory | NewFile


def build(news: Sequence[New], flush: Sequence[Path]) -> None:
    """Create them in this order, then sync the files and ``flush``. Raises OSError.

    The syncs come last: on a journaling file system the first one does most of the work of all.
    """
    with contextlib.ExitStack() as stack:
        files = []
        for new in news:
            if isinstance(new, NewFile):
                files.append(_write(new))
                stack.callback(os.close, files[-1])
            else:
                _make(new)
        for file in files:
            os.fsync(file)
        for path in flush:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            os.fsync(descriptor)


def make_directory(path: Path, mode: int, owner: int | None) -> None:
    """With its parents; no effect if it exists, except for the owner. Raises OSError."""
    missing = list(itertools.takewhile(lambda place: not place.is_dir(), (path, *path.parents)))
    for place in reversed(missing):
        with contextlib.suppress(FileExistsError):
            place.mkdir()
            place.chmod(mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if owner is not None:
            os.fchown(descriptor, owner, owner)
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _make(new: NewDirectory) -> None:
    mode = new.mode if isinstance(new.mode, int) else os.stat(new.mode).st_mode & 0o7777
    with contextlib.suppress(FileExistsError):
        os.mkdir(new.path, 0o700)
    descriptor = os.open(new.path, DIRECTORY)
    try:
        os.fchown(descriptor, new.owner, new.owner)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _write(new: NewFile) -> int:
    descriptor = os.open(new.path, _NEW, 0o600)
    try:
        view = memoryview(new.data)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
