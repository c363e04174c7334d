"""Debian's unmodified ``lxc config device`` adds and removes every type of device in a running instance."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from loop_devices import loop_device
from lxc_client import Lxc


@pytest.fixture
def device(lxc: Lxc, instance: str) -> Iterator[tuple[Lxc, str]]:
    yield lxc, instance


def until(check: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_disks(device: tuple[Lxc, str], tmp_path: Path) -> None:
    lxc, name = device
    (tmp_path / "file").write_text("of the host")
    lxc("config", "device", "add", name, "src", "disk", f"source={tmp_path}", "path=/mnt/src", "shift=true")
    assert lxc("exec", name, "--", "cat", "/mnt/src/file") == "of the host"
    lxc("exec", name, "--", "sh", "-c", "echo inside >/mnt/src/new")
    assert (tmp_path / "new").stat().st_uid == 0
    lxc("config", "device", "set", name, "src", "readonly=true")
    lxc("exec", name, "--", "sh", "-c", "echo x >/mnt/src/no", status=1)
    lxc("config", "device", "remove", name, "src")
    assert lxc("exec", name, "--", "ls", "/mnt/src") == ""
    lxc("config", "device", "add", name, "scratch", "disk", "source=tmpfs:", "path=/scratch", "size=1MiB")
    assert "tmpfs" in lxc("exec", name, "--", "grep", "/scratch", "/proc/mounts")
    lxc("restart", "--force", name)
    assert "tmpfs" in lxc("exec", name, "--", "grep", "/scratch", "/proc/mounts")
    lxc("config", "device", "remove", name, "scratch")
    lxc("exec", name, "--", "grep", "/scratch", "/proc/mounts", status=1)
    lxc("config", "device", "add", name, "gone", "disk", "source=/no/such/path", "path=/gone", status=1)
    lxc("config", "device", "add", name, "twice", "disk", "source=/srv", "path=/", status=1)
    assert lxc("config", "device", "list", name).strip() == ""


def test_the_file_system_of_a_block_device(device: tuple[Lxc, str], tmp_path: Path) -> None:
    lxc, name = device
    image = tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    with loop_device(image) as source:
        add = ("config", "device", "add", name, "data", "disk", f"source={source}", "path=/mnt/data", "shift=true")
        lxc(*add, status=1)
        assert "data" not in lxc("config", "device", "list", name)
        subprocess.run(["mkfs.ext4", "-q", str(source)], check=True)
        lxc(*add)
        lxc(
            "exec",
            name,
            "--",
            "sh",
            "-c",
            "echo hello >/mnt/data/file && test -O /mnt/data/file && test -d /mnt/data/lost+found",
        )
        assert " /mnt/data " not in Path("/proc/self/mountinfo").read_text()
        lxc("restart", "--force", name)
        lxc("config", "device", "set", name, "data", "readonly=true")
        assert lxc("exec", name, "--", "cat", "/mnt/data/file") == "hello\n"
        lxc("exec", name, "--", "sh", "-c", "echo x >/mnt/data/file", status=1)
        lxc("config", "device", "remove", name, "data")
        lxc("exec", name, "--", "grep", "/mnt/data", "/proc/mounts", status=1)
    assert b"hello" in image.read_bytes()


def test_devices_of_the_host(device: tuple[Lxc, str]) -> None:
    lxc, name = device
    lxc("config", "device", "add", name, "fuse", "unix-char", "source=/dev/fuse", "path=/dev/host-fuse", "mode=0600")
    lxc("exec", name, "--", "sh", "-c", "test -c /dev/host-fuse && exec 3</dev/host-fuse")
    lxc("config", "device", "remove", name, "fuse")
    lxc("exec", name, "--", "sh", "-c", "test -c /dev/host-fuse", status=1)
    lxc("config", "device", "add", name, "loop", "unix-block", "path=/dev/odd", "major=7", "minor=0")
    assert lxc("exec", name, "--", "sh", "-c", "test -b /dev/odd && echo block") == "block\n"
    lxc("config", "device", "remove", name, "loop")
    lxc("exec", name, "--", "sh", "-c", "test -b /dev/odd", status=1)


def test_a_device_comes_and_goes_with_the_host(device: tuple[Lxc, str]) -> None:
    lxc, name = device
    place = Path(f"/dev/isola-e2e-{uuid.uuid4().hex[:8]}")
    add = ("config", "device", "add", name, "stick", "unix-char", f"source={place}/stick", "path=/dev/stick")
    lxc(*add, status=1)
    lxc(*add, "required=false", "mode=0666")
    try:
        lxc("exec", name, "--", "test", "-e", "/dev/stick", status=1)
        place.mkdir()
        os.mknod(place / "stick", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        inside(lxc, name, "test -c /dev/stick && head -c 3 /dev/stick | wc -c | grep -q 3")
        (place / "stick").unlink()
        inside(lxc, name, "! test -c /dev/stick")
        os.mknod(place / "stick", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        inside(lxc, name, "test -c /dev/stick && head -c 3 /dev/stick | wc -c | grep -q 0")
        lxc("restart", "--force", name)
        inside(lxc, name, "test -c /dev/stick")
    finally:
        lxc("config", "device", "remove", name, "stick")
        shutil.rmtree(place, ignore_errors=True)


def inside(lxc: Lxc, name: str, script: str) -> None:
    """Wait until it ends well."""
    lxc(
        "exec", name, "--", "sh", "-c", f"for _ in $(seq 600); do if {script}; then exit 0; fi; sleep 0.1; done; exit 1"
    )


def test_proxies_outlive_the_daemon(device: tuple[Lxc, str]) -> None:
    lxc, name = device
    place = f"/tmp/isola-e2e-{uuid.uuid4().hex[:8]}"
    lxc("exec", name, "--", "sh", "-c", "mkdir -p /www && echo hello >/www/index.html")
    lxc("config", "device", "add", name, "web", "proxy", f"listen=unix:{place}", "connect=unix:/run/none")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(place)
        assert client.recv(10) == b""
    lxc("config", "device", "remove", name, "web")
    assert not Path(place).exists()


def test_nics(device: tuple[Lxc, str]) -> None:
    lxc, name = device
    lxc("config", "device", "add", name, "eth9", "nic", "network=isolabr0", "name=eth9")
    assert "eth9" in lxc("exec", name, "--", "cat", "/proc/net/dev")
    lxc("config", "device", "set", name, "eth9", "security.ipv4_filtering=true", "limits.egress=10Mbit")
    lxc("config", "device", "set", name, "eth9", "security.port_isolation=true", "limits.ingress=10Mbit")
    lxc("config", "device", "remove", name, "eth9")
    assert "eth9" not in lxc("exec", name, "--", "cat", "/proc/net/dev")
    for kind in ("p2p", "routed"):
        extra = ["ipv4.address=192.0.2.7"] if kind == "routed" else []
        lxc("config", "device", "add", name, "eth8", "nic", f"nictype={kind}", "name=eth8", *extra)
        assert "eth8" in lxc("exec", name, "--", "cat", "/proc/net/dev")
        lxc("config", "device", "remove", name, "eth8")
    lxc("config", "device", "add", name, "eth7", "nic", "nictype=macvlan", "parent=isolabr0", "name=eth7", status=1)
