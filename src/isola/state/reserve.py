"""Disk space reserved for the records: small files that are released when the disk is full and created again later."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_FILES = 16
"""Released one by one, because other programs may take the space first; each also reserves an inode."""
_BYTES = 256 * 1024
_PLENTY = 4
"""Free space that is required to create the reserve, as a multiple of its size."""


class Reserve:
    """A directory of allocated files without content."""

    def __init__(self, directory: Path) -> None:
        self._place = directory / "reserve"
        self.whole = False

    def make(self) -> None:
        """Create the missing files if there is plenty of space; otherwise do nothing."""
        with suppress(OSError):
            self._place.mkdir(mode=0o700, exist_ok=True)
            missing = [path for path in self._paths() if not path.exists()]
            if missing and not self._plenty():
                return
            for path in missing:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, _BYTES)
                finally:
                    os.close(descriptor)
            self.whole = True

    def release(self) -> bool:
        """Delete one of the files; False if there is none left."""
        self.whole = False
        for path in self._paths():
            with suppress(OSError):
                path.unlink()
                return True
        return False

    def _paths(self) -> list[Path]:
        return [self._place / f"{number}" for number in range(_FILES)]

    def _plenty(self) -> bool:
        free = os.statvfs(self._place)
        blocks = free.f_bavail * free.f_frsize > _PLENTY * _FILES * _BYTES
        return blocks and (free.f_files == 0 or free.f_ffree > _PLENTY * _FILES)
