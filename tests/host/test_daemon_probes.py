"""A host that refuses what the daemon needs: it says so, and goes on with the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from daemon import Daemon

REFUSING = Path(__file__).parents[1] / "support" / "refusing.py"


@pytest.fixture
def refused() -> Daemon:
    """A daemon to which the kernel gives no user namespaces."""
    daemon = Daemon()
    daemon.program = (sys.executable, str(REFUSING), "user-namespaces", *daemon.program)
    return daemon


def test_without_user_namespaces_the_daemon_runs_and_says_what_is_missing(refused: Daemon) -> None:
    try:
        refused.start()
        storage = refused.get("/1.0")["environment"]["drivers"]["storage"]
        overlay = next(driver for driver in storage if driver["name"] == "overlay")
        assert not overlay["available"]
        assert "Operation not permitted" in overlay["reason"]
    finally:
        refused.close()


def test_what_a_killed_probe_has_left_is_cleared_and_nothing_behind_its_mounts() -> None:
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
