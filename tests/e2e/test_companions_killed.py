"""Programs that serve all instances are killed; instances that start afterwards have them again."""

from __future__ import annotations

import os
import signal
import subprocess
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


def test_users_of_the_host_write_nothing_through_lxcfs(daemon: Daemon, instance: str) -> None:
    """It has files of the host's sysfs, which it would write as root for everyone."""
    assert daemon.exec_status(instance, "true") == 0
    served = daemon.directory / "lxcfs"
    assert (served / "sys/devices/system/cpu/online").exists()
    find = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "find", str(served)]
    argv = [*find, "-not", "-type", "l", "-writable"]
    writable = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert writable == []
    assert daemon.exec_status(instance, "sh", "-c", "echo 0 > /sys/devices/system/cpu/online") != 0
