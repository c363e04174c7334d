"""How an engine is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isola.host.process import HERE, Place


@dataclass(frozen=True, slots=True)
class Caller:
    """Its command line up to its options, and where that is run."""

    argv: Sequence[str]
    place: Place = HERE
