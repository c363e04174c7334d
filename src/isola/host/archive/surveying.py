"""The digest of files that a build copies, found without a process of its own: it is asked for with every COPY."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from isola.errors import HostFailure, TooLarge
from isola.host.archive.choosing import Choosing, Kept, Wanted
from isola.model.ignore import Patterns

LARGEST = 256 << 20
"""Bytes; more than this is read by a process with limits."""


def survey(sources: Sequence[dict[str, Any]], most: int) -> str:
    """Raises TooLarge (more than ``most`` files or ``LARGEST``), InvalidInput, HostFailure; no path leads out."""
    choosing = Choosing(most)
    with ExitStack() as stack:
        try:
            choosing.run([_wanted(each, stack) for each in sources])
            if sum(each.status.st_size for each in choosing.found) > LARGEST:
                raise TooLarge(f"More than {LARGEST} bytes are copied")
            return choosing.digest()
        except OSError as error:
            raise HostFailure("Cannot read the files to copy", evidence=str(error)) from error


def _wanted(source: dict[str, Any], stack: ExitStack) -> Wanted:
    tree = os.open(source["tree"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, tree)
    excludes = Patterns(source["excludes"]) if source["excludes"] else None
    return Wanted(tree, source["patterns"], Kept(source["keep_owner"]), source["parents"], excludes, source["name"])
