"""An instance in a reboot loop uses little CPU time of the host, and can be stopped at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from command import Cli
from daemon import Daemon
from waiting import until

LOOP = "printf '#!/bin/sh\\nreboot -f\\n' >/sbin/init.new; chmod 755 /sbin/init.new; mv /sbin/init.new /sbin/init"


@pytest.fixture
def looping(daemon: Daemon) -> Iterator[str]:
    """A tiny instance that reboots endlessly."""
    name = f"loop{time.monotonic_ns() % 10**9}"
    daemon.launch(name)
    assert daemon.exec(name, "sh", "-c", LOOP)[0] == 0
    before = daemon.pid(name)
    daemon.exec(name, "kill", "-TERM", "1")
    until(lambda: daemon.get(f"/1.0/instances/{name}/state")["pid"] != before)
    yield name
    with contextlib.suppress(Exception):
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def starts(daemon: Daemon, name: str, seconds: float) -> int:
    """Number of its starts in so many seconds."""
    seen, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        seen.add(daemon.get(f"/1.0/instances/{name}/state")["pid"])
        time.sleep(0.02)
    return len(seen - {0})


def test_it_is_restarted_less_and_less_often_and_stopped_at_once(daemon: Daemon, looping: str) -> None:
    assert starts(daemon, looping, 4) <= 4
    assert daemon.status(looping) in ("Starting", "Running")
    begun = time.monotonic()
    daemon.change(looping, "stop", force=True)
    assert time.monotonic() - begun < 20
    assert daemon.status(looping) == "Stopped"
    time.sleep(3)
    assert daemon.status(looping) == "Stopped"


def test_it_is_deleted_at_once(isola: Cli, looping: str) -> None:
    time.sleep(2.5)
    isola("delete", looping, "--force")
    assert looping not in isola("list", "--format", "csv").stdout
