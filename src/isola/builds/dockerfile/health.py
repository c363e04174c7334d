"""HEALTHCHECK."""

from __future__ import annotations

from isola.builds.dockerfile.durations import nanoseconds
from isola.builds.dockerfile.flags import Flags
from isola.builds.dockerfile.instructions import HealthCheck, Instruction
from isola.builds.dockerfile.parts import Parts
from isola.builds.dockerfile.words import first_word

_LEAST = 10**6
"""One millisecond, as Docker has it."""
_MOST_RETRIES = 1000


def health_check(parts: Parts) -> Instruction:
    """Raises ValueError."""
    kind, rest = first_word(parts.rest) if parts.rest else ("", "")
    flags = Flags(parts.flags, texts="interval timeout start-period start-interval retries")
    if not kind:
        raise ValueError("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return HealthCheck(argv=(), shell=False, disabled=True, **parts.place)
    if kind.upper() != "CMD":
        raise ValueError(f'Unknown type "{kind.upper()[:40]}" in HEALTHCHECK (try CMD)')
    argv, shell = Parts(parts.line, parts.name, (), rest, parts.escape).command()
    if not argv:
        raise ValueError("missing command after HEALTHCHECK CMD")
    return HealthCheck(
        argv=argv,
        shell=shell,
        interval=_duration(flags, "interval"),
        timeout=_duration(flags, "timeout"),
        start_period=_duration(flags, "start-period"),
        start_interval=_duration(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
        **parts.place,
    )


def _duration(flags: Flags, name: str) -> int:
    text = flags.text(name)
    found = nanoseconds(text) if text else 0
    if 0 < found < _LEAST:
        raise ValueError(f'Interval "{name}" cannot be less than 1ms')
    return found


def _retries(text: str) -> int:
    if not text:
        return 0
    try:
        found = int(text)
    except ValueError:
        raise ValueError(f'--retries is not a number: "{text[:40]}"') from None
    if found < 0:
        raise ValueError(f"--retries cannot be negative ({found})")
    return min(found, _MOST_RETRIES)
