"""What is measured: one piece of work, done by every subject that has the verbs for it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class Workload(ABC):
    """``prepare``, then ``sample`` as often as there are rounds, then ``finish``; only ``sample`` is timed.

    ``finish`` follows also where ``prepare`` or ``sample`` has failed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Verbs a subject must have."""
    unit: ClassVar[str] = "ms"
    targets: ClassVar[Mapping[str, float]] = {}
    """Peer -> the largest ratio ours / theirs; for rates (``more_is_better``) the smallest."""
    limit: ClassVar[float | None] = None
    """A bound on our own figure, in ``unit``."""
    more_is_better: ClassVar[bool] = False
    samples: ClassVar[int] = 1
    """Samples in one round."""
    warm_up: ClassVar[bool] = True
    """Whether the first sample is thrown away: caches of images, pages and connections are warm in daily use."""
    setting: ClassVar[str] = ""
    """Neighbours with the same one share what the first of them prepares; each prepares its own when it is empty."""
    alone: ClassVar[bool] = False
    """Measured on us only."""

    def prepare(self, subject: Any) -> None:
        """What every sample needs."""

    @abstractmethod
    def sample(self, subject: Any) -> float:
        """One figure, in ``unit``."""

    def finish(self, subject: Any) -> None:
        """Undo ``prepare``."""


def milliseconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def per_second(work: Callable[[], object], seconds: float = 1.0) -> float:
    """How often it can be done, one after another."""
    work()
    start = time.perf_counter()
    done = 0
    while (spent := time.perf_counter() - start) < seconds:
        work()
        done += 1
    return done / spent
