"""The command that copies a tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_OPTIONS = ("--archive", "--reflink=auto", "--sparse=auto", "--no-target-directory")
_CAPABILITIES = ("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "mknod", "setfcap")
"""What copying files of all owners takes, beside the ids."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A path is one inside an instance: symbolic links in it do not lead out of the instance's root."""

    root: Path
    owner: int
    """Host id of root inside: an id-mapped target refuses new files of ids outside the map, such as the host's root."""


def command(tree: int, target: Path, inside: Inside | None) -> tuple[str, ...]:
    """Copies the directory of a descriptor by ``cp`` of coreutils, which supports all of this and can be killed."""
    argv = ("cp", *_OPTIONS, "--", f"/proc/self/fd/{tree}/.", str(target))
    if inside is None:
        return argv
    capabilities = ",".join(f"+{name}" for name in _CAPABILITIES)
    ids = (f"--reuid={inside.owner}", f"--regid={inside.owner}", "--clear-groups")
    return ("setpriv", *ids, f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", "--", *argv)
