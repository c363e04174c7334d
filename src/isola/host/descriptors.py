"""Files that a confined process gets as open descriptors, because it opens none itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import HostFailure
from isola.host.threads import in_thread


@asynccontextmanager
async def opened(path: Path, *, new: bool = False) -> AsyncIterator[int]:
    """A file to read, or a ``new`` one to write, which only root can read. Raises HostFailure."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL if new else os.O_RDONLY
    try:
        descriptor = await in_thread(os.open, path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostFailure(f"{path.name} cannot be opened", evidence=str(error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
