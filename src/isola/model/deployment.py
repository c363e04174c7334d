"""Deployments: a new version of an instance takes the place of the one that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from isola.errors import InvalidInput
from isola.model.instance import EMPTY, NO_DEVICES, Config, Devices
from isola.model.program import Program

_LONGEST_NAME = 63
_DIGITS = 8
_LARGEST_WAVE = 100_000


class Strategy(StrEnum):
    """How a version takes the place of another."""

    BESIDE = "beside"
    """The new one runs beside the old one until it is healthy."""
    STOP_FIRST = "stop-first"
    """The old one is stopped before the new one is started, and started again if that is not healthy."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a version is tried out and takes over. Times are in seconds."""

    strategy: Strategy = Strategy.BESIDE
    timeout: float = 120
    """Time in which the new version must be healthy."""
    settle: float = 3
    """How long a version without a health check must run."""
    drain: float = 10
    """Longest time between the switch and the stop signal to the old version, for connections that it has."""
    stop_timeout: float = 30
    """Time after the stop signal in which the old version must end, before it is killed."""


@dataclass(frozen=True, slots=True)
class Version:
    """A new version: its image, and what it has in place of what the one before it has."""

    image: str
    """Alias or fingerprint (prefix)."""
    config: Config = field(default_factory=lambda: EMPTY)
    """Keys to set; an empty value removes the key."""
    devices: Devices = field(default_factory=lambda: NO_DEVICES)
    """Devices to add or replace; one without keys is removed."""
    profiles: tuple[str, ...] | None = None
    """None: as before."""
    description: str | None = None
    isolation: str = ""
    """Empty: as before; of a first version, as the runtime or the profiles say."""
    runtime: str = ""
    program: Program | None = None


def beside_name(name: str, suffix: str) -> str:
    """``web-next`` for ``web``; a long name is cut, and stays distinct by a part of its digest."""
    if len(name) + 1 + len(suffix) <= _LONGEST_NAME:
        return f"{name}-{suffix}"
    digest = sha256(name.encode()).hexdigest()[:_DIGITS]
    kept = name[: _LONGEST_NAME - len(digest) - len(suffix) - 2].rstrip("-._")
    return f"{kept}-{digest}-{suffix}"


def parse_wave(text: str) -> int | float:
    """A number of instances, or a share of them (``10%`` is 0.1). Raises InvalidInput."""
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit() and len(number) < 7 and 1 <= int(number) <= _LARGEST_WAVE):
        raise InvalidInput(f"Invalid wave {text[:20]!r}", field="waves", remedy="use numbers or shares: 1,10%,100%")
    if text == number:
        return int(number)
    if int(number) > 100:
        raise InvalidInput(f"A wave of {text[:20]!r} is more than all", field="waves", remedy="use 1% to 100%")
    return int(number) / 100


def split_waves(names: Sequence[str], waves: Sequence[int | float]) -> list[list[str]]:
    """The instances of each wave. A wave says how many have been updated when it ends; the last one has all the rest.

    Without waves there is one for each instance.
    """
    if not waves:
        return [[name] for name in names]
    found, done = list[list[str]](), 0
    for wave in waves:
        upto = min(len(names), wave if isinstance(wave, int) else max(1, round(wave * len(names))))
        if upto > done:
            found.append(list(names[done:upto]))
            done = upto
    if done < len(names):
        found.append(list(names[done:]))
    return found
