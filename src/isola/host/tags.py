"""The tag in the names of a daemon's links, groups and tables on the host, which sets them apart from other daemons'.

Tags are short, so two daemons could have the same: each claims its own. A tag is derived from the daemon's directory,
so that losing the claim changes nothing. If it is already claimed, a daemon in an unused directory takes another tag
and stores it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from isola.errors import Conflict, HostFailure
from isola.model.identity import HostNames

TAGS = Path("/var/lib/isola-tags")
"""One symbolic link per tag, to the directory of the daemon that claimed it."""
_FILE = "tag"
_USED = ("isola.db", "pools", "networks", "run")
log = logging.getLogger(__name__)


def names_of(directory: Path) -> HostNames:
    """The names of the daemon of a directory, by its tag."""
    with contextlib.suppress(OSError):
        if tag := (directory / _FILE).read_text(errors="replace").strip():
            return HostNames(tag)
    return HostNames.of_directory(str(directory))


def claim(directory: Path, tags: Path = TAGS) -> HostNames:
    """The same, with the tag claimed as long as the directory exists. Raises Conflict if it is taken, HostFailure."""
    names = names_of(directory)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(tags))
            _drop_stale(tags)
            holder = _claim(tags, names.tag, directory)
        except OSError as error:
            log.warning("The tag %s could not be claimed in %s: %s", names.tag, tags, error)
            return names
        if holder == str(directory):
            return names
        if any((directory / part).exists() for part in _USED):
            raise Conflict(
                f"The daemons of {directory} and {holder} would use the same names on this host",
                evidence=f"both have the tag {names.tag}, by {tags / names.tag}",
                remedy=f"if {holder} has no daemon any more, remove that link; otherwise move to another directory",
            )
        return _another(tags, directory)


def _another(tags: Path, directory: Path) -> HostNames:
    try:
        for number in itertools.count(1):
            names = HostNames.of_directory(f"{directory}#{number}")
            if _claim(tags, names.tag, directory) == str(directory):
                break
        (directory / _FILE).write_text(f"{names.tag}\n")
    except OSError as error:
        raise HostFailure(f"Cannot choose a tag for {directory}", evidence=str(error)) from error
    return names


@contextlib.contextmanager
def _locked(tags: Path) -> Iterator[None]:
    tags.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(tags, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _drop_stale(tags: Path) -> None:
    for link in tags.iterdir():
        if link.is_symlink() and not os.path.lexists(os.readlink(link)):
            link.unlink()


def _claim(tags: Path, tag: str, directory: Path) -> str:
    """Claim the tag if it is free; the directory that has it now."""
    with contextlib.suppress(FileExistsError):
        (tags / tag).symlink_to(directory)
    return os.readlink(tags / tag)
