"""Programs that serve all instances are killed; instances that start afterwards have them again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from daemon import Daemon
from waiting import until

MEMINFO = "/proc/meminfo"


def lxcfs(daemon: Daemon) -> int:
    """PID of the daemon's lxcfs; 0 if none runs."""
    processes = daemon.host_processes().items()
    return next((int(pid) for pid, line in processes if "lxcfs -f" in line), 0)


def test_instances_start_after_lxcfs_was_killed(daemon: Daemon, instance: str) -> None:
    before = lxcfs(daemon)
    assert before and "MemTotal" in daemon.exec(instance, "cat", MEMINFO)[1]
    os.kill(before, signal.SIGKILL)
    until(lambda: lxcfs(daemon) not in (0, before) and Path(f"{daemon.directory}/lxcfs{MEMINFO}").exists())
    daemon.change(instance, "restart", force=True)
    assert "lxcfs" in daemon.exec(instance, "grep", MEMINFO, "/proc/mounts")[1]
    assert "MemTotal" in daemon.exec(instance, "cat", MEMINFO)[1]
