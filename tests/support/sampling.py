"""Samples of long walks: each run covers random points, ``make test-full`` covers all."""

from __future__ import annotations

import os
import random
import time

WHOLE = bool(os.environ.get("ISOLA_TEST_WHOLE"))
_RUN = int(os.environ.get("PYTEST_XDIST_TESTRUNUID", "0"), 16) or time.time_ns()
SEED = int(os.environ.get("ISOLA_TEST_SEED") or _RUN % 1_000_000)
"""The seed, which is the same for all workers of a run."""
Share = tuple[int, int]
"""Index and number of the shares into which points are randomly divided; ``WHOLE``: each share has all points."""


def chosen(points: int, share: Share) -> list[int]:
    """The points of a share, in order. Prints the seed, which a failure then shows."""
    number, count = (0, 1) if WHOLE else share
    if count > 1:
        print(f"ISOLA_TEST_SEED={SEED}")
    return sorted(random.Random(SEED).sample(range(points), points)[number::count])
