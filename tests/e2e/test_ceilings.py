"""Default limits of instances, and the keys that raise them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon

MIB = 2**20


@pytest.fixture
def plain(daemon: Daemon) -> Iterator[str]:
    """A tiny system without any configuration."""
    name = f"plain{time.monotonic_ns() % 10**9}"
    daemon.launch(name)
    yield name
    daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def options(daemon: Daemon, name: str, place: str) -> dict[str, str]:
    """Mount options as the instance sees them."""
    for line in Path(f"/proc/{daemon.pid(name)}/mounts").read_text().splitlines():
        _, where, _, options, *_ = line.split()
        if where == place:
            return dict(option.partition("=")[::2] for option in options.split(","))
    raise AssertionError(f"{place} is not mounted")


def size(daemon: Daemon, name: str, place: str) -> int:
    """Bytes of a tmpfs."""
    return int(options(daemon, name, place)["size"].removesuffix("k")) * 1024


def most_processes(daemon: Daemon) -> str:
    """``pids.max`` of the daemon's only instance."""
    [file] = [
        Path(path) / "pids.max"
        for path in daemon.cgroups()
        if not path.endswith("monitor") and path.count("/") == Path("/sys/fs/cgroup/pids/tag/id").as_posix().count("/")
        and (Path(path) / "pids.max").exists()
    ]  # fmt: skip
    return file.read_text().strip()


def test_all_resources_are_limited(daemon: Daemon, plain: str) -> None:
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for place in ("/run", "/dev/shm"):
        assert abs(size(daemon, plain, place) - host // 10) < MIB
    for place in ("/run", "/run/lock", "/dev", "/dev/shm"):
        assert int(options(daemon, plain, place)["nr_inodes"].removesuffix("k")) < 10**6
    assert options(daemon, plain, "/dev/pts")["max"] == "256"
    inside = daemon.exec(plain, "cat", "/sys/fs/cgroup/pids.max")[1].strip()
    assert (inside or most_processes(daemon)) == "8192"


def test_pseudo_terminals_are_limited(daemon: Daemon, plain: str) -> None:
    daemon.run("PATCH", f"/1.0/instances/{plain}", {"config": {"limits.terminals": "8"}})
    daemon.change(plain, "restart", force=True)
    opened = "for n in $(seq 12); do (exec 3<>/dev/ptmx && echo open && sleep 1) 2>/dev/null & done; wait"
    assert 0 < len(daemon.exec(plain, "sh", "-c", opened)[1].split()) < 8, "one is the console"


def test_one_key_each_raises_a_limit(daemon: Daemon, plain: str) -> None:
    wanted = {"limits.tmpfs": "50MiB", "limits.terminals": "1000", "limits.processes": "20000"}
    daemon.run("PATCH", f"/1.0/instances/{plain}", {"config": wanted})
    daemon.change(plain, "restart", force=True)
    assert size(daemon, plain, "/dev/shm") == 50 * MIB
    assert options(daemon, plain, "/dev/pts")["max"] == "1000"


def test_a_share_is_of_the_memory_limit(daemon: Daemon, plain: str) -> None:
    daemon.run("PATCH", f"/1.0/instances/{plain}", {"config": {"limits.memory": "2GiB", "limits.tmpfs": "25%"}})
    daemon.change(plain, "restart", force=True)
    assert size(daemon, plain, "/run") == 512 * MIB
    status, _, stderr = daemon.exec(plain, "sh", "-c", "dd if=/dev/zero of=/run/much bs=1M count=600")
    assert status != 0 and "space" in stderr
