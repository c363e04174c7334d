"""The directory of a user's remotes and key."""

from __future__ import annotations

import os


def home() -> str:
    """Directory of the user's remotes and key: ``ISOLA_CONF``, else ``~/.config/isola``."""
    if named := os.environ.get("ISOLA_CONF"):
        return named
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "isola")
