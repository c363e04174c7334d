"""Environment variables without importing ``os``, which would cost the command line 1 ms at every start."""

from __future__ import annotations

import posix
import sys


def variable(name: str) -> str | None:
    """The value of an environment variable, or None."""
    if "os" in sys.modules:  # what has imported it may have changed the environment
        import os

        return os.environ.get(name)
    value = posix.environ.get(name.encode())
    return None if value is None else value.decode(sys.getfilesystemencoding(), "surrogateescape")
