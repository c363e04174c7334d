"""Long walks are sampled: each run takes points by chance, ``make test-full`` takes all."""

from __future__ import annotations

import os
import random
import time

WHOLE = bool(os.environ.get("ISOLA_TEST_WHOLE"))
_RUN = int(os.environ.get("PYTEST_XDIST_TESTRUNUID", "0"), 16) or time.time_ns()
SEED = int(os.environ.get("ISOLA_TEST_SEED") or _RUN % 1_000_000)
"""The same for all workers of a run."""
Share = tuple[int, int]
"""Number and count of the shares that the points of a walk are dealt to by chance; ``WHOLE``: each gets all."""


def chosen(points: int, share: Share) -> list[int]:
    """The points of a share, in order. Prints the seed, which a failure then shows."""
    number, count = (0, 1) if WHOLE else share
    if count > 1:
        print(f"ISOLA_TEST_SEED={SEED}")
    return sorted(random.Random(SEED).sample(range(points), points)[number::count])
