"""Keys that say how a program is run, seen from inside: confinement, names, limits, disks, namespaces, privileges."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import ApiError, Daemon
from lxc_client import Lxc
from waiting import until

NETWORK = "isola.namespaces.network"
SLEEP = {"oci.entrypoint": "/bin/sleep 100000"}


@pytest.fixture
def launch(daemon: Daemon, app: str) -> Iterator[Any]:
    """Launches instances that are removed at the end."""
    made: list[str] = []

    def one(name: str, *, devices: dict[str, dict[str, str]] | None = None, **keys: str) -> str:
        config = SLEEP | {key.replace("__", "."): value for key, value in keys.items()}
        made.append(name)
        daemon.launch(name, app, config=config, devices=devices or {})
        return name

    yield one
    there = {path.rpartition("/")[2] for path in daemon.get("/1.0/instances")}
    for name in reversed(made):
        if name in there:
            daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def shell(daemon: Daemon, name: str, script: str) -> str:
    status, out, errors = daemon.exec(name, "/bin/sh", "-c", script)
    assert status == 0, errors
    return out


def fails(daemon: Daemon, name: str, script: str) -> bool:
    return daemon.exec(name, "/bin/sh", "-c", script)[0] != 0


def status_of(daemon: Daemon, name: str, field: str) -> str:
    lines = shell(daemon, name, "cat /proc/1/status").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def test_a_program_is_confined_as_its_keys_say(daemon: Daemon, launch: Any) -> None:
    name = launch(
        "keys1",
        oci__uid="33",
        isola__groups="55",
        isola__umask="077",
        isola__no_new_privileges="true",
        isola__capabilities__drop="ALL",
        isola__shm__size="1MiB",
        linux__sysctl__net__core__somaxconn="77",
    )
    assert status_of(daemon, name, "Uid").split()[0] == "33" and status_of(daemon, name, "Groups") == "33 55"
    assert status_of(daemon, name, "Umask") == "0077" and status_of(daemon, name, "NoNewPrivs") == "1"
    assert int(status_of(daemon, name, "CapBnd"), 16) == 0
    assert shell(daemon, name, "cat /proc/sys/net/core/somaxconn") == "77\n"
    assert fails(daemon, name, "/bin/busybox head -c 2000000 /dev/zero > /dev/shm/x")


def test_an_init_reaps_and_passes_signals_on(daemon: Daemon, launch: Any) -> None:
    name = launch("keys1", isola__init="true")
    assert shell(daemon, name, "cat /proc/1/cmdline").split("\0")[:3] == ["/dev/init", "--", "/bin/sleep"]
    daemon.change(name, "stop")
    assert daemon.status(name) == "Stopped"


def test_names_are_found_in_its_files(daemon: Daemon, launch: Any) -> None:
    launch("keys1")
    name = launch("keys2", isola__hosts="db=192.0.2.7,outside=host-gateway", isola__hostname="two.example.org")
    hosts, config = shell(daemon, name, "cat /etc/hosts"), daemon.get(f"/1.0/instances/{name}")["config"]
    assert "192.0.2.7\tdb" in hosts and f"{config['volatile.eth0.ipv4']}\ttwo.example.org two" in hosts
    assert shell(daemon, name, "cat /etc/hostname; hostname") == "two.example.org\n" * 2
    gateway = daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"].partition("/")[0]
    assert f"{gateway}\toutside" in hosts and f"nameserver {gateway}" in shell(daemon, name, "cat /etc/resolv.conf")
    assert "keys1" in shell(daemon, name, "/bin/busybox nslookup keys1.isola 2>&1")


def test_limits_are_set_live_by_lxc(daemon: Daemon, launch: Any, lxc: Lxc) -> None:
    name = launch("keys1")
    lxc("config", "set", name, "limits.cpu.allowance=50ms/100ms", "limits.memory=64MiB", "limits.memory.swap=32MiB")
    assert lxc("config", "get", name, "limits.cpu.allowance") == "50ms/100ms\n"
    found = [path for path in map(Path, daemon.cgroups()) if (path / "cpu.cfs_quota_us").exists()]
    found += [path for path in map(Path, daemon.cgroups()) if (path / "cpu.max").exists()]
    quotas = [next(path.glob("cpu.cfs_quota_us"), path / "cpu.max").read_text() for path in found]
    assert any("50000" in quota for quota in quotas)
    with pytest.raises(AssertionError, match="is expected"):
        lxc("config", "set", name, "limits.cpu.allowance=lots")


def test_a_root_is_read_only_except_for_its_disks(daemon: Daemon, launch: Any) -> None:
    root = {"type": "disk", "path": "/", "pool": "default", "readonly": "true"}
    scratch = {"type": "disk", "source": "tmpfs:", "path": "/data/scratch", "mode": "1777", "uid": "33"}
    name = launch("keys1", devices={"root": root, "scratch": scratch})
    assert fails(daemon, name, "echo x > /srv/x") and fails(daemon, name, "mkdir /new")
    assert shell(daemon, name, "echo x > /data/scratch/x && ls -ldn /data/scratch").split()[:3] == [
        "drwxrwxrwt",
        "2",
        "33",
    ]
    daemon.run("PATCH", f"/1.0/instances/{name}", {"devices": {"root": root | {"readonly": "false"}}})
    daemon.change(name, "restart", force=True)
    assert shell(daemon, name, "echo x > /srv/x && cat /srv/x") == "x\n"


def test_an_empty_volume_is_filled_once_and_sources_are_created(daemon: Daemon, launch: Any, tmp_path: Path) -> None:
    daemon.run("POST", "/1.0/storage-pools/default/volumes/custom", {"name": "filled"})
    try:
        volume = {"type": "disk", "pool": "default", "source": "filled", "path": "/etc", "copy": "true"}
        missing = {"type": "disk", "source": str(tmp_path / "a/b"), "path": "/b", "create": "true", "shift": "true"}
        name = launch("keys1", devices={"volume": volume, "missing": missing})
        assert shell(daemon, name, "cat /etc/passwd").startswith("root:x:0:0") and (tmp_path / "a/b").is_dir()
        shell(daemon, name, "echo mine > /etc/mine; echo x > /b/x")
        assert (tmp_path / "a/b/x").stat().st_uid == 0
        volume |= {"path": "/there", "subpath": "mine"}
        shell(daemon, name, "mkdir /etc/dir; echo below > /etc/dir/file; ln -s dir /etc/within; ln -s /proc /etc/out")
        piece = {"type": "disk", "pool": "default", "source": "filled/dir", "path": "/piece"}
        linked = piece | {"source": "filled/within", "path": "/linked", "readonly": "true"}
        other = launch("keys2", devices={"volume": volume, "piece": piece, "linked": linked})
        assert shell(daemon, other, "cat /there /piece/file /linked/file") == "mine\nbelow\nbelow\n"
        assert fails(daemon, other, "echo x > /linked/file")
        assert f"/1.0/instances/{other}" in daemon.get("/1.0/storage-pools/default/volumes/custom/filled")["used_by"]
        for path, status in (("out", 403), ("out/self", 403), ("none", 404)):
            out = {"devices": {"out": piece | {"source": f"filled/{path}", "path": "/out"}}}
            with pytest.raises(ApiError) as caught:
                daemon.run("PATCH", f"/1.0/instances/{other}", out)
            assert caught.value.status == status
    finally:
        for name in ("keys1", "keys2"):
            with contextlib.suppress(ApiError):
                daemon.run("DELETE", f"/1.0/instances/{name}?force=1")
        daemon.run("DELETE", "/1.0/storage-pools/default/volumes/custom/filled")


def test_two_instances_share_a_network_also_after_the_daemon_was_killed(daemon: Daemon, launch: Any) -> None:
    first = launch("keys1", oci__entrypoint="/bin/httpd -f -p 8000 -h /etc")
    second = launch("keys2", **{NETWORK: "container:keys1"})
    assert shell(daemon, second, "wget -q -O - http://127.0.0.1:8000/passwd").startswith("root:x:0:0")
    third = launch("keys3", **{NETWORK: "container:keys1", "isola.namespaces.pid": "container:keys1"})
    assert "httpd" in shell(daemon, third, "/bin/busybox ps")
    daemon.change(third, "stop", force=True)
    fourth = launch("keys4", **{"isola.namespaces.pid": "container:keys1"})
    assert "httpd" in shell(daemon, fourth, "/bin/busybox ps")
    assert "eth0" in shell(daemon, fourth, "/bin/busybox ip addr")
    daemon.change(fourth, "stop", force=True)
    assert "volatile.eth0.hwaddr" not in daemon.get(f"/1.0/instances/{second}")["config"]
    daemon.kill()
    daemon.start()
    assert daemon.status(second) == "Running"
    assert shell(daemon, second, "wget -q -O - http://127.0.0.1:8000/passwd").startswith("root:x:0:0")
    daemon.change(second, "restart", force=True)
    daemon.change(first, "stop", force=True)
    daemon.change(second, "stop", force=True)
    with pytest.raises(AssertionError, match="does not run"):
        daemon.change(second, "start")
    daemon.change(first, "start")
    daemon.change(second, "start")
    daemon.run("DELETE", f"/1.0/instances/{first}?force=1")
    assert daemon.status(second) == "Running"


def test_without_a_network_there_is_only_lo(daemon: Daemon, launch: Any) -> None:
    name = launch("keys1", **{NETWORK: "none"})
    assert set(daemon.get(f"/1.0/instances/{name}/state")["network"]) == {"lo"}


@pytest.fixture
def permitted(daemon: Daemon) -> Iterator[None]:
    daemon.run("PATCH", "/1.0", {"config": {"security.privileged": "true"}})
    yield
    daemon.run("PATCH", "/1.0", {"config": {"security.privileged": ""}})


def test_privileges_are_refused_unless_the_server_permits_them(daemon: Daemon, launch: Any, lxc: Lxc) -> None:
    for key, value in (("security.privileged", "true"), (NETWORK, "host")):
        with pytest.raises(ApiError, match="gives access to the host"):
            launch("keys1", **{key: value})
    with pytest.raises(AssertionError, match="gives access to the host"):
        lxc("profile", "set", "default", "security.privileged=true")


def test_a_privileged_instance_is_one(daemon: Daemon, launch: Any, permitted: None) -> None:
    name = launch(
        "keys1",
        security__privileged="true",
        isola__capabilities__add="ALL",
        isola__seccomp="unconfined",
        isola__paths__masked="none",
        isola__paths__readonly="none",
        isola__devices__host="true",
        isola__devices__allow="a *:* rwm",
    )
    assert shell(daemon, name, "cat /proc/self/uid_map").split() == ["0", "0", "4294967295"]
    assert shell(daemon, name, "/bin/busybox mount -t tmpfs none /srv && echo x > /srv/x && cat /srv/x") == "x\n"
    assert shell(daemon, name, "ls /dev/kmsg && exec 3</dev/kmsg && echo opened") == "/dev/kmsg\nopened\n"
    shell(daemon, name, "echo 1 > /proc/sys/net/ipv4/ip_forward")
    assert os.stat(f"/proc/{daemon.pid(name)}").st_uid == 0
    daemon.run("POST", "/1.0/instances", {"name": "keys2", "source": {"type": "copy", "source": name},
                                            "config": {"security.privileged": "false"}})  # fmt: skip
    try:
        daemon.change("keys2", "start")
        assert shell(daemon, "keys2", "cat /proc/self/uid_map").split()[1] != "0"
        assert shell(daemon, "keys2", "ls -ln /etc/passwd").split()[2] == "0"
    finally:
        daemon.run("DELETE", "/1.0/instances/keys2?force=1")


def test_control_groups_of_the_host_are_seen_and_not_changed(daemon: Daemon, launch: Any, permitted: None) -> None:
    name = launch("keys1", **{"isola.namespaces.cgroup": "host"})
    own = shell(daemon, name, "sed -n s/0:://p /proc/self/cgroup").strip()
    assert own.startswith("/isola") and own.count("/") == 2
    assert "cgroup.procs" in shell(daemon, name, f"ls /sys/fs/cgroup{own}")
    assert fails(daemon, name, f"mkdir /sys/fs/cgroup{own}/mine")
    assert shell(daemon, name, "grep -c cgroup /proc/mounts").strip() == "1"


def test_an_instance_in_the_network_of_the_host_sees_it(daemon: Daemon, launch: Any, permitted: None) -> None:
    name = launch("keys1", **{NETWORK: "host", "isola.namespaces.pid": "host"})
    # Links of instances that other tests have just deleted may go in between.
    until(lambda: set(shell(daemon, name, "ls /sys/class/net").split()) == {"lo", *daemon.links()})
    assert str(os.getpid()) in shell(daemon, name, "ls /proc").split()
    assert fails(daemon, name, "/bin/busybox ip link set lo down")
    assert fails(daemon, name, f"kill -0 {os.getpid()}")
