"""What builds of images may take, as settings of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput
from isola.model.units import parse_size
from isola.settings import Setting, whole

_GREATEST = 1 << 40
_LEAST_MEMORY = 4 << 20


def _memory(text: str) -> int:
    try:
        found = parse_size(text)
    except ValueError:
        found = 0
    if found < _LEAST_MEMORY:
        raise ValueError("a size of at least 4MiB, such as 512MiB, is expected")
    return found


BUILD_SETTINGS = (
    Setting("builds.limits.context", parse_size, "Most bytes of a context, packed and unpacked.", "16GiB", live=True),
    Setting("builds.limits.entries", whole(1, 100_000_000), "Most files of a build's context.", "1000000", live=True),
    Setting("builds.limits.instructions", whole(1, 4000), "Most instructions of a Dockerfile.", "4000", live=True),
    Setting("builds.limits.layers", whole(1, 500), "Most layers of an image that is built.", "500", live=True),
    Setting("builds.limits.time", whole(1, 30 * 86400), "Most seconds of a build.", "86400", live=True),
    Setting(
        "builds.limits.memory",
        _memory,
        "Most memory of a program of `RUN`; by default what the profile allows.",
        live=True,
    ),
    Setting(
        "builds.limits.processes",
        whole(1, _GREATEST),
        "Most processes of a program of `RUN`; by default what the profile allows.",
        live=True,
    ),
    Setting(
        "builds.cache.size",
        parse_size,
        "Bytes of kept results of instructions; beyond, those that were not used for the longest time are dropped.",
        "20GiB",
        live=True,
    ),
)
"""All hold for the next build."""


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """Sizes in bytes, the time in seconds."""

    context: int
    entries: int
    instructions: int
    layers: int
    seconds: int
    memory: int | None
    """None: not limited further."""
    processes: int | None
    cache: int

    @classmethod
    def of(cls, config: Mapping[str, str]) -> BuildLimits:
        """From the server's configuration."""
        found = {row.key: config.get(row.key) or row.default for row in BUILD_SETTINGS}
        numbers = {row.key: row.parse(text) if (text := found[row.key]) else None for row in BUILD_SETTINGS}
        context, entries, instructions, layers, seconds, memory, processes, cache = (
            None if numbers[row.key] is None else int(str(numbers[row.key])) for row in BUILD_SETTINGS
        )
        return cls(
            context or 0, entries or 0, instructions or 0, layers or 0, seconds or 0, memory, processes, cache or 0
        )

    def applied(self, asked: Mapping[str, str], effective: Mapping[str, str]) -> dict[str, str]:
        """``asked`` with the limits that are lower than what holds with the profile. Raises InvalidInput."""
        found = dict(asked)
        for key, most in (("limits.memory", self.memory), ("limits.processes", self.processes)):
            if most is None or _within(effective.get(key, ""), most):
                continue
            if key in asked:
                raise InvalidInput(
                    f"{key} is {asked[key][:40]}, builds of this server may have {most}", field=key,
                    remedy=f"ask for less, or change builds.{key}",
                )  # fmt: skip
            found[key] = str(most)
        return found


def _within(text: str, most: int) -> bool:
    try:
        return bool(text) and not text.endswith("%") and parse_size(text) <= most
    except ValueError:
        return False
