"""New files that the process that writes archives opens before it is confined."""

from __future__ import annotations

import os
from typing import BinaryIO

from isola.errors import AlreadyExists
from isola.host.exhaustion import host_refused


def created(target: str, compression: str) -> BinaryIO:
    """A new file, and what its compression needs, because there is no importing in a cell."""
    if compression == "zstd":
        import zstandard  # noqa: F401
    try:
        return os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except FileExistsError as error:
        raise AlreadyExists(f"{target} exists already") from error
    except OSError as error:
        raise host_refused(f"Cannot write {target}", error) from error


def flush(output: BinaryIO | None) -> None:
    """Sync it to disk."""
    if output is not None:
        output.flush()
        os.fsync(output.fileno())
