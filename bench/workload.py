"""A measured piece of work, for all subjects that have the required verbs."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class Workload(ABC):
    """``prepare``, then ``sample`` as often as there are rounds, then ``finish``; only ``sample`` is timed.

    ``finish`` is called also after a failure of ``prepare`` or ``sample``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Verbs a subject must have."""
    unit: ClassVar[str] = "ms"
    targets: ClassVar[Mapping[str, float]] = {}
    """Peer -> the largest ratio Isola / peer; for rates (``more_is_better``) the smallest."""
    limit: ClassVar[float | None] = None
    """A bound on Isola's figure, in ``unit``."""
    more_is_better: ClassVar[bool] = False
    samples: ClassVar[int] = 1
    """Samples in one round."""
    warm_up: ClassVar[bool] = True
    """Whether the first sample is discarded: in daily use caches of images, pages and connections are warm."""
    setting: ClassVar[str] = ""
    """Consecutive workloads with the same setting share prepared objects; if it is empty, each prepares its own."""
    alone: ClassVar[bool] = False
    """Measured on Isola only."""

    def prepare(self, subject: Any) -> None:
        """Create the objects that all samples need."""

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
