"""The same for guests with a kernel of their own: a sample of verbs and points, because some boot for seconds."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Iterator

import pytest
from audit import records
from daemon import Daemon
from sampling import SEED, WHOLE
from step_walk import ACTIONS, Verb, absent, has_victim, running, runs, stopped, walk, walked_daemon
from waiting import until

WALLS = {"runsc": (4, 8), "qemu_microvm": (1, 15)}
"""How many verbs with a fault of one kind are walked, and which share of their points."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with walked_daemon(tmp_path_factory.mktemp("image")) as daemon:
        yield daemon


def ends(daemon: Daemon, runtime: str) -> None:
    """Its sandbox or its hypervisor is killed."""
    os.kill(daemon.pid("victim"), signal.SIGKILL)
    until(lambda: daemon.status("victim") == "Stopped", 40)


VERBS = (
    Verb("start", "Starting instance", stopped, lambda d, r: d.change("victim", "start"), runs),
    Verb(
        "stop", "Stopping instance", running, lambda d, r: d.change("victim", "stop", force=True), lambda d: not runs(d)
    ),
    Verb("end", "Cleaning up after instance", running, ends, lambda d: not runs(d)),
    Verb(
        "delete",
        "Deleting instance",
        stopped,
        lambda d, r: d.run("DELETE", "/1.0/instances/victim"),
        lambda d: not has_victim(d),
    ),
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", WALLS)
def test_steps_behind(runtime: str, daemon: Daemon) -> None:
    if not records(daemon, "images"):
        daemon.import_image(daemon.directory / "tiny.tar", "tiny")
    walks = list(itertools.product(VERBS, ACTIONS))
    most, shares = WALLS[runtime]
    if not WHOLE:
        print(f"ISOLA_TEST_SEED={SEED}")
        walks = random.Random(f"{SEED} {runtime}").sample(walks, most)
    for verb, action in walks:
        absent(daemon, runtime)
        walk(daemon, verb, runtime, action, (0, shares))
    absent(daemon, runtime)
