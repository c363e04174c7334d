"""The result of probing a driver on this host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a driver works here, which version, and if not why and what to do."""

    available: bool
    version: str = ""
    reason: str = ""
    remedy: str = ""
    emulated: bool = False
    """Programs run on processors in software, many times slower."""
    warnings: tuple[str, ...] = ()
    """What works less well than it could on this host, and why."""
