"""Size and syncing of whole file systems. Both raise OSError."""

from __future__ import annotations

import os
from pathlib import Path

from isola.host import kernel
from isola.model.storage import Space


def sync_all(directory: Path) -> None:
    """By ``syncfs``."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kernel.sync_file_system(descriptor)
    finally:
        os.close(descriptor)


def space_of(directory: Path) -> Space:
    """Bytes and inodes."""
    found = os.statvfs(directory)
    return Space(
        total=found.f_blocks * found.f_frsize,
        used=(found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes_total=found.f_files,
        inodes_used=found.f_files - found.f_ffree,
    )
