"""Samples of long walks: each run covers random points, ``make test-full`` covers all."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import TypeVar

WHOLE = bool(os.environ.get("ISOLA_TEST_WHOLE"))
_RUN = int(os.environ.get("PYTEST_XDIST_TESTRUNUID", "0"), 16) or time.time_ns()
SEED = int(os.environ.get("ISOLA_TEST_SEED") or _RUN % 1_000_000)
"""The seed, which is the same for all workers of a run."""
S = TypeVar("S")
T = TypeVar("T")
Share = tuple[int, int]
"""Index and number of the shares into which points are randomly divided; ``WHOLE``: each share has all points."""


def chosen(points: int, share: Share, most: int) -> list[int]:
    """At most so many points of a share, in order. Prints the seed, which a failure then shows."""
    if WHOLE:
        return list(range(points))
    print(f"ISOLA_TEST_SEED={SEED}")
    number, count = share
    return sorted(random.Random(SEED).sample(range(points), points)[number::count][:most])


def turns(tests: Sequence[S], ways: Sequence[T], most: int) -> list[tuple[S, T]]:
    """Each test with so many of its ways, which take turns from one test to the next; with all of them if ``WHOLE``."""
    count, first = (len(ways), 0) if WHOLE else (most, SEED)
    return [
        (test, ways[(first + number + way) % len(ways)]) for number, test in enumerate(tests) for way in range(count)
    ]


def some(values: Sequence[T], most: int) -> list[T]:
    """So many of the parameters of a test, whose name then shows them; all of them if ``WHOLE``."""
    return [values[index] for index in chosen(len(values), (0, 1), most)]
