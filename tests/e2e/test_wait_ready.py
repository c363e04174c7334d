"""``--wait`` against real systems."""

from __future__ import annotations

from command import Cli
from daemon import Daemon


def test_a_distribution_is_ready_once_systemd_runs(isola: Cli, debian: Daemon) -> None:
    done = isola("launch", "debian/12", "patient", "--wait", "ready")
    try:
        assert "patient is ready" in done.stderr
        assert isola("exec", "patient", "--", "systemctl", "is-system-running").stdout.strip() == "running"
        nothing = isola("restart", "patient", "--wait", "7", "--wait-timeout", "2", check=False)
        assert nothing.returncode == 1 and "nothing listens on port 7" in nothing.stderr
        assert "ready" in isola("restart", "patient", "--wait", "systemctl is-active systemd-journald").stderr
    finally:
        isola("delete", "patient", "--force")


def test_a_system_without_systemd_is_reported(isola: Cli, instance: str) -> None:
    done = isola("restart", "--force", instance, "--wait", "ready", check=False)
    assert done.returncode == 1 and "does not run systemd" in done.stderr
    assert "is ready" in isola("restart", "--force", instance, "--wait", "test -d /proc/1").stderr
