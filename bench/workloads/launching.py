"""Sixty-four launches, eight at a time: by lxd-benchmark, and by a loop of this program.

Incus no longer has the routes that lxd-benchmark uses, so the comparison uses the loop.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

from bench.connection import Connection
from bench.objects import PREFIX, new, remove_all, started
from bench.shell import Trouble
from bench.workload import Workload

ORDER = 25
COUNT = 64
PARALLEL = 8


class LxdBenchmark(Workload):
    """Debian's lxd-benchmark, unmodified; its own figure."""

    name = "lxd-benchmark"
    title = f"lxd-benchmark launch, {COUNT} tiny, {PARALLEL} parallel"
    unit = "/s"
    needs = ("lxd_benchmark",)
    limit = 40.0
    more_is_better = True
    alone = True

    def sample(self, subject: Any) -> float:
        """Launch them; deleting them is not timed."""
        try:
            return rate(subject.lxd_benchmark("launch", "tiny", "--count", str(COUNT), "--parallel", str(PARALLEL)))
        finally:
            subject.lxd_benchmark("delete", "--parallel", str(PARALLEL))

    def finish(self, subject: Any) -> None:
        """Remove what a failure has left."""
        with suppress(Trouble):
            subject.lxd_benchmark("delete", "--parallel", str(PARALLEL))


class LaunchMany(Workload):
    """The same requests, to both."""

    name = "launch-64"
    title = f"Launch by API, {COUNT} tiny, {PARALLEL} parallel"
    unit = "/s"
    needs = ("act",)
    more_is_better = True

    def sample(self, subject: Any) -> float:
        """Launch them; deleting them is not timed."""
        lanes = [[f"{PREFIX}a{number}" for number in range(lane, COUNT, PARALLEL)] for lane in range(PARALLEL)]
        start = time.perf_counter()
        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(lambda names: launch(subject.connection.path, names), lanes))
            return COUNT / (time.perf_counter() - start)
        finally:
            remove_all(subject)


def launch(path: str, names: list[str]) -> None:
    """Create and start, one after another, on a separate connection."""
    with closing(Connection(path)) as connection:
        for name in names:
            connection.act(*new(name))
            connection.act(*started(name))


def rate(printed: str) -> float:
    """Instances per second; raises Trouble if the benchmark did not finish or had failures."""
    failed = re.findall(r"Failed .*", printed)
    ended = re.search(r"Processed (\d+) containers in [0-9.]+s \(([0-9.]+)/s\)\n.*Batch processing completed", printed)
    if failed or not ended or int(ended[1]) != COUNT:
        raise Trouble(f"lxd-benchmark: {(failed or [printed[-300:]])[0]}")
    return float(ended[2])


WORKLOADS = (LxdBenchmark, LaunchMany)
