"""Limits changed on a running instance: in the control group, inside, and in effect for a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import ApiError, Daemon
from waiting import booted, until

MIB = 2**20


@pytest.fixture(scope="module")
def box(debian: Daemon) -> Iterator[str]:
    debian.launch(
        "limited", "debian/12", config={"limits.memory": "400MiB", "limits.cpu": "1", "limits.processes": "200"}
    )
    booted(debian, "limited")
    yield "limited"
    debian.run("DELETE", "/1.0/instances/limited?force=1")


def set_limit(daemon: Daemon, name: str, key: str, value: str) -> None:
    daemon.run("PATCH", f"/1.0/instances/{name}", {"config": {key: value}})


def group_value(daemon: Daemon, controller: str, *files: str) -> str:
    """A value in the control group of the only running instance, on either layout."""
    [path] = {
        path for path in daemon.cgroups() if f"/{controller}/" in path and path.endswith(instance_id(daemon))
    } or {path for path in daemon.cgroups() if path.endswith(instance_id(daemon))}
    return next((Path(path) / file).read_text().strip() for file in files if (Path(path) / file).exists())


def instance_id(daemon: Daemon) -> str:
    from audit import records

    return str(records(daemon, "instances")["limited"]["id"])


def test_memory_up_and_down(debian: Daemon, box: str) -> None:
    for size in (400, 256, 600):
        set_limit(debian, box, "limits.memory", f"{size}MiB")
        assert int(group_value(debian, "memory", "memory.limit_in_bytes", "memory.max")) == size * MIB
        inside = debian.exec(box, "awk", "/MemTotal/{print $2}", "/proc/meminfo")[1]
        assert int(inside) == size * 1024
    hog = "x=$(head -c {}M /dev/zero | tr '\\0' x); echo ${{#x}}"
    set_limit(debian, box, "limits.memory", "200MiB")
    status, text, _ = debian.exec(box, "bash", "-c", hog.format(250))
    assert status != 0 and not text.strip(), "250 MiB must not fit into 200 MiB"
    set_limit(debian, box, "limits.memory", "1GiB")
    status, text, errors = debian.exec(box, "bash", "-c", hog.format(250))
    assert (status, text.strip()) == (0, str(250 * MIB)), errors


def test_memory_below_what_is_in_use_is_refused_and_changes_nothing(debian: Daemon, box: str) -> None:
    set_limit(debian, box, "limits.memory", "500MiB")
    hold = "exec -a holder bash -c 'x=$(head -c 100M /dev/zero | tr \"\\0\" x); touch /tmp/held; sleep 60; :'"
    debian.run(
        "POST",
        f"/1.0/instances/{box}/exec",
        {"command": ["systemd-run", "--unit=hold", "bash", "-c", hold], "wait-for-websocket": False},
    )
    until(lambda: debian.exec(box, "test", "-e", "/tmp/held")[0] == 0, 30)
    with pytest.raises(ApiError) as caught:
        set_limit(debian, box, "limits.memory", "32MiB")
    debian.exec(box, "systemctl", "stop", "hold")
    assert caught.value.code == "host_failure" and "memory" in str(caught.value)
    assert int(group_value(debian, "memory", "memory.limit_in_bytes", "memory.max")) == 500 * MIB
    assert debian.get(f"/1.0/instances/{box}")["config"]["limits.memory"] == "500MiB"


def test_processes_up_and_down(debian: Daemon, box: str) -> None:
    # None ends before the last has begun, on however slow a machine: bash tries again for 15 seconds.
    fork = "for i in $(seq 80); do sleep 60 & done 2>/dev/null; jobs -p | wc -l; kill $(jobs -p)"
    set_limit(debian, box, "limits.processes", "60")
    assert group_value(debian, "pids", "pids.max") == "60"
    status, text, _ = debian.exec(box, "bash", "-c", fork)
    assert status != 0 or int(text or 0) < 60
    set_limit(debian, box, "limits.processes", "500")
    assert group_value(debian, "pids", "pids.max") == "500"
    status, text, errors = debian.exec(box, "bash", "-c", fork)
    assert (status, text.strip()) == (0, "80"), errors


def test_cpus_up_and_down(debian: Daemon, box: str) -> None:
    for count in ("1", "2", "1"):
        set_limit(debian, box, "limits.cpu", count)
        assert debian.exec(box, "nproc")[1].strip() == count
        assert debian.exec(box, "grep", "-c", "^processor", "/proc/cpuinfo")[1].strip() == count
    set_limit(debian, box, "limits.cpu", "1")
    assert group_value(debian, "cpuset", "cpuset.cpus") in ("0", "1"), "one CPU, whichever is less used"
    # Two busy processes on one CPU get one CPU's worth of time between them.
    spin = (
        "for i in 1 2; do timeout 1 sh -c 'while :; do :; done' & done; wait; awk '{print $3+$4}' <(tail -1 <(times))"
    )
    began = time.monotonic()
    before = debian.get(f"/1.0/instances/{box}/state")["cpu"]["usage"]
    debian.exec(box, "bash", "-c", spin)
    used = debian.get(f"/1.0/instances/{box}/state")["cpu"]["usage"] - before
    assert used < 1.2e9 * (time.monotonic() - began)


def test_wrong_values_name_the_key(debian: Daemon, box: str) -> None:
    for key, value in (
        ("limits.memory", "lots"),
        ("limits.cpu", "0"),
        ("limits.cpu", "77-78"),
        ("limits.processes", "-1"),
    ):
        with pytest.raises(ApiError) as caught:
            set_limit(debian, box, key, value)
        assert caught.value.status == 400
        assert key in str(caught.value.body)
