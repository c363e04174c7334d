"""Directories that are held open by a descriptor: no symbolic link is followed to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened(name: str | Path, beside: int | None = None) -> Iterator[int]:
    """A relative ``name`` is looked up in the directory ``beside``. Raises OSError."""
    descriptor = os.open(name, DIRECTORY, dir_fd=beside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
