"""Moves of files into a tree and out of it, which can be repeated or taken back after each of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from isola.host import kernel
from isola.host.comparing import Look
from isola.host.directories import DIRECTORY, opened

_WITHIN = kernel.RESOLVE_NO_XDEV | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_BENEATH


@dataclass(frozen=True, slots=True)
class Change:
    """Paths in the target. New files are in ``new`` under the same paths; old ones come to ``old``, numbered."""

    copied: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    directories: tuple[tuple[bytes, Look, Look], ...]

    @property
    def taken(self) -> list[tuple[int, bytes]]:
        """What is taken out, with its number."""
        return list(enumerate((*self.removed, *self.copied)))


def carry_out(target: Path, place: Path, change: Change) -> None:
    """All that is left to do of it, durably. Raises OSError."""
    replaced = set(change.copied)
    for number, path in change.taken:
        _replace(target, place, number, path, comes=path in replaced)
    for path, wanted, _ in change.directories:
        _dress(target, path, wanted)
    _sync(target, change)


def revert(target: Path, place: Path, change: Change) -> None:
    """Take all of it back, durably. Raises OSError."""
    replaced = set(change.copied)
    for number, path in reversed(change.taken):
        with _holder(target, path) as (here, name), opened(place / "old") as old:
            if path in replaced and not _exists(place / "new", path) and _is_in(here, name):
                with _holder(place / "new", path) as (new, _):
                    os.rename(name, name, src_dir_fd=here, dst_dir_fd=new)
            with suppress(FileNotFoundError):
                os.rename(b"%d" % number, name, src_dir_fd=old, dst_dir_fd=here)
    for path, _, found in change.directories:
        _dress(target, path, found)
    _sync(target, change)


def _replace(target: Path, place: Path, number: int, path: bytes, *, comes: bool) -> None:
    with _holder(target, path) as (here, name):
        if comes and not _exists(place / "new", path):
            return  # it has come already
        with opened(place / "old") as old:
            if not _is_in(old, b"%d" % number):
                with suppress(FileNotFoundError):  # a new name, or taken out already
                    os.rename(name, b"%d" % number, src_dir_fd=here, dst_dir_fd=old)
        if comes:
            with _holder(place / "new", path) as (new, _):
                os.rename(name, name, src_dir_fd=new, dst_dir_fd=here)


def _dress(target: Path, path: bytes, look: Look) -> None:
    with opened(target) as top, _below(top, path) as directory:
        os.fchown(directory, look.uid, look.gid)
        os.fchmod(directory, look.mode)
        wanted = dict(look.attributes)
        for name in os.listxattr(directory):
            if name not in wanted:
                os.removexattr(directory, name)
        for name, value in wanted.items():
            _set_attribute(directory, name, value)
        os.utime(directory, ns=look.times)


def _set_attribute(directory: int, name: str, value: bytes) -> None:
    """Attributes that this file system does not have (``btrfs.compression``) are left out, as ``cp`` does."""
    try:
        os.setxattr(directory, name, value)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _sync(target: Path, change: Change) -> None:
    with opened(target) as top:
        for path, _, _ in change.directories:
            with _below(top, path) as directory:
                os.fsync(directory)


def _exists(top: Path, path: bytes) -> bool:
    try:
        with _holder(top, path) as (directory, name):
            return _is_in(directory, name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise


def _is_in(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _holder(top: Path, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory of a path, and its name there."""
    above, _, name = path.rpartition(b"/")
    with opened(top) as root, _below(root, above) as directory:
        yield directory, name


@contextmanager
def _below(top: int, path: bytes) -> Iterator[int]:
    descriptor = kernel.open_beneath(top, path or b".", DIRECTORY, _WITHIN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
