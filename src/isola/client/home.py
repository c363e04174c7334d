"""The directory of a user's remotes and key."""

from __future__ import annotations

from isola.environment import variable


def home() -> str:
    """Directory of the user's remotes and key: ``ISOLA_CONF``, else ``~/.config/isola``."""
    if named := variable("ISOLA_CONF"):
        return named
    base = variable("XDG_CONFIG_HOME") or f"{variable('HOME') or _of_the_user()}/.config"
    return f"{base}/isola"


def _of_the_user() -> str:
    """The home directory of the account."""
    from os.path import expanduser

    return expanduser("~")
