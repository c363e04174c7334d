"""The daemon and project of a command, by the options, the environment, and the user's stored defaults."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.remotes import Remote

LOCAL = "local"


def remote_of(chosen: str, *, here: bool) -> Remote | None:
    """The remote of that name, or the default; None for the daemon of this machine.

    ``here``: a daemon of this machine is given by ``--dir``, so the default remote is ignored.
    """
    if not chosen and (here or "ISOLA_DIR" in os.environ):
        return None
    if not chosen and "ISOLA_REMOTE" not in os.environ and not _has_remotes():
        return None
    from isola.client.remotes import Remotes

    remotes = Remotes()
    name = chosen or os.environ.get("ISOLA_REMOTE") or remotes.default
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

    return os.path.exists(home())


def choose_project(directory: str, remote: Remote | None, project: str) -> None:
    """Store the default project."""
    from isola.client.remotes import Remotes

    if remote is not None:
        Remotes().change(remote.name, project=project)
    else:
        Remotes().choose(_place(directory), project)


def _place(directory: str) -> str:
    chosen = directory or os.environ.get("ISOLA_DIR", "")
    return os.path.abspath(chosen) if chosen else ""
