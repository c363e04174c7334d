"""The daemon or its host has run out of a resource: an error of the system, not of a client or a bug."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isola.errors import CommandFailed, HostFailure, StorageFull

_FULL = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The quota of the disk is used up",
}
_SPENT = {
    errno.EMFILE: ("The daemon has no file descriptors left", "stop some instances, or raise the daemon's LimitNOFILE"),
    errno.ENFILE: ("The host has no file descriptors left", "raise the kernel's fs.file-max"),
    errno.ENOMEM: ("The host has no memory left", "stop some instances"),
}
_FREE = "free some space on the disk"
_LITTLE = 16 << 20
"""Bytes free on a disk on which a program could not write."""
_PHRASE = ("No space left on device", "Disk quota exceeded")


def spent(error: BaseException) -> HostFailure | None:
    """The message and remedy for an error, if it means that a resource has run out."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if full := _FULL.get(error.errno):
        return StorageFull(full, evidence=str(error), remedy=_FREE)
    if error.errno not in _SPENT:
        return None
    message, remedy = _SPENT[error.errno]
    return HostFailure(message, evidence=str(error), remedy=remedy)


def host_refused(message: str, error: Exception) -> HostFailure:
    """The host refused an effect: StorageFull if the cause is that, otherwise HostFailure."""
    if getattr(error, "errno", None) in _FULL or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return StorageFull(message, evidence=str(error), remedy=_FREE)
    return HostFailure(message, evidence=str(error))


def reports_full_disk(text: str) -> bool:
    """Whether a program ended because a disk or a quota is full, by what it wrote to stderr."""
    return any(phrase in text for phrase in _PHRASE)


def has_no_room(directory: Path) -> bool:
    """Whether a program that failed to write there may have filled the disk: some do not say it."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE


@contextmanager
def storing() -> Iterator[None]:
    """Around a program that writes to a disk: StorageFull takes the place of CommandFailed if it says so."""
    try:
        yield
    except CommandFailed as error:
        if reports_full_disk(error.evidence):
            raise full_by(error) from error
        raise


def full_by(error: CommandFailed) -> StorageFull:
    """The cause of the failure of a program."""
    return StorageFull("The disk is full", evidence=error.evidence, remedy=_FREE)
