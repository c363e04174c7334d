"""Room on the disk for the records: kept in small files, given up when the disk is full, taken again when it is not."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_FILES = 16
"""Given up one by one, as another program may be faster to take the room; each is an inode too."""
_BYTES = 256 * 1024
_PLENTY = 4
"""How many times its own size must be free for the reserve to be made."""


class Reserve:
    """A directory of files without content."""

    def __init__(self, directory: Path) -> None:
        self._place = directory / "reserve"
        self.whole = False

    def make(self) -> None:
        """Where there is plenty of room; otherwise another time."""
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
        """Give a piece of it up: little enough to last for many times; False when there is none left."""
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
