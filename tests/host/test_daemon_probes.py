"""A host that refuses system calls that the daemon needs: it reports this, and works without these features."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from daemon import Daemon
from waiting import until

REFUSING = Path(__file__).parents[1] / "support" / "refusing.py"


@pytest.fixture
def refused() -> Daemon:
    """A daemon to which the kernel gives no user namespaces."""
    daemon = Daemon()
    daemon.program = (sys.executable, str(REFUSING), "user-namespaces", *daemon.program)
    return daemon


def test_without_user_namespaces_the_daemon_runs_and_reports_it(refused: Daemon) -> None:
    try:
        refused.start()
        storage = refused.get("/1.0")["environment"]["drivers"]["storage"]
        overlay = next(driver for driver in storage if driver["name"] == "overlay")
        assert not overlay["available"]
        assert "Operation not permitted" in overlay["reason"]
    finally:
        refused.close()


def test_leftovers_of_a_killed_probe_are_removed_without_following_mounts() -> None:
    daemon = Daemon()
    behind = daemon.directory / "behind"
    left = daemon.directory / "trials" / "overlay" / "root"
    for directory in (behind, left):
        directory.mkdir(parents=True)
    (behind / "kept").touch()
    subprocess.run(["mount", "--bind", behind, left], check=True)
    try:
        daemon.start()
        assert not (daemon.directory / "trials").exists()
        assert not daemon.get("/1.0")["environment"].get("warnings")
        assert (behind / "kept").exists()
    finally:
        daemon.close()


def test_near_its_limit_of_descriptors_the_daemon_warns() -> None:
    daemon = Daemon()
    daemon.program = ("prlimit", "--nofile=48:64", *daemon.program)
    try:
        daemon.start()
        assert not daemon.get("/1.0")["environment"]["warnings"]
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(str(daemon.socket))
            until(lambda: daemon.get("/1.0")["environment"]["warnings"])
            (warning,) = daemon.get("/1.0")["environment"]["warnings"]
            assert "of 64 possible files open" in warning
            until(lambda: "of 64 possible files open" in daemon.log.read_text())
    finally:
        daemon.close()
