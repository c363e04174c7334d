"""The command line of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isola.host.process import HERE, Place


@dataclass(frozen=True, slots=True)
class Caller:
    """The first part of the command line, and the namespaces in which it runs."""

    argv: Sequence[str]
    place: Place = HERE
