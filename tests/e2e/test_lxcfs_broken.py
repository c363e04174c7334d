"""An lxcfs that hangs or has died does not keep instances from starting."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from daemon import Daemon
from waiting import until


@pytest.fixture
def lxcfs(daemon: Daemon) -> Iterator[int]:
    """The daemon's lxcfs, which is resumed afterwards."""
    pid = int((daemon.directory / "lxcfs.pid").read_text())
    yield pid
    os.kill(pid, signal.SIGCONT)


def test_a_hung_lxcfs_delays_no_start(daemon: Daemon, lxcfs: int) -> None:
    os.kill(lxcfs, signal.SIGSTOP)
    began = time.monotonic()
    for name in ("hung-1", "hung-2"):
        daemon.launch(name)
    assert time.monotonic() - began < 60
    assert "lxcfs" not in daemon.exec("hung-1", "cat", "/proc/mounts")[1]
    assert "lxcfs does not answer" in daemon.log.read_text()
    os.kill(lxcfs, signal.SIGCONT)
    until(lambda: shows_its_own(daemon, "hung-3"))
    for name in ("hung-1", "hung-2"):
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def test_instances_start_without_a_dead_lxcfs_until_it_is_restarted(daemon: Daemon) -> None:
    pid = int((daemon.directory / "lxcfs.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    daemon.launch("dead-1")
    assert daemon.status("dead-1") == "Running"
    daemon.run("DELETE", "/1.0/instances/dead-1?force=1")
    until(lambda: shows_its_own(daemon, "dead-2"))


def shows_its_own(daemon: Daemon, name: str) -> bool:
    daemon.launch(name)
    try:
        return "lxcfs" in daemon.exec(name, "cat", "/proc/mounts")[1]
    finally:
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")
