"""Time measurement on a machine with other load."""

from __future__ import annotations

import time
from pathlib import Path


class Stopwatch:
    """Seconds without those in which this thread, or the main thread of a process, waited for a CPU."""

    def __init__(self, *pids: int) -> None:
        self._threads = [Path("/proc/thread-self/schedstat"), *(Path(f"/proc/{pid}/schedstat") for pid in pids)]
        self._begun = self._now()

    def seconds(self) -> float:
        """Since its creation; must be called by the thread that created it."""
        return self._now() - self._begun

    def _now(self) -> float:
        waited = sum(int(thread.read_text().split()[1]) for thread in self._threads)
        return time.monotonic() - waited / 1e9
