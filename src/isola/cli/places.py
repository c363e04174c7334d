"""The daemon and project of a command, by the options, the environment, and the user's stored defaults."""

from __future__ import annotations

import posix

from isola.environment import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.remotes import Remote

LOCAL = "local"


def remote_of(chosen: str, *, here: bool) -> Remote | None:
    """The remote of that name, or the default; None for the daemon of this machine.

    ``here``: a daemon of this machine is given by ``--dir``, so the default remote is ignored.
    """
    if not chosen and (here or variable("ISOLA_DIR") is not None):
        return None
    if not chosen and variable("ISOLA_REMOTE") is None and not _has_remotes():
        return None
    from isola.client.remotes import Remotes

    remotes = Remotes()
    name = chosen or variable("ISOLA_REMOTE") or remotes.default
    return None if name == LOCAL else remotes.get(name)


def project_here(directory: str) -> str:
    """The default project for the daemon of a directory of this machine; empty for none."""
    if not _has_remotes():
        return ""
    from isola.client.remotes import Remotes

    return Remotes().projects.get(_place(directory), "")


def _has_remotes() -> bool:
    """Whether the user has stored defaults, without importing the module that reads them."""
    from isola.client.home import home

    try:
        posix.stat(home())
    except OSError:
        return False
    return True


def choose_project(directory: str, remote: Remote | None, project: str) -> None:
    """Store the default project."""
    from isola.client.remotes import Remotes

    if remote is not None:
        Remotes().change(remote.name, project=project)
    else:
        Remotes().choose(_place(directory), project)


def _place(directory: str) -> str:
    chosen = directory or variable("ISOLA_DIR")
    if not chosen:
        return ""
    from os.path import abspath

    return abspath(chosen)
