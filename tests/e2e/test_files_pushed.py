"""Files of a real instance: interrupted transfers, kills, links, and file systems that are not read."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import ApiError, Connection, Daemon

Cli = Any


@contextlib.contextmanager
def begun(daemon: Daemon, path: str) -> Iterator[None]:
    """A push that has sent a part of the announced data, and hangs."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon.socket))
        head = f"POST {path} HTTP/1.1\r\nHost: isola\r\nContent-Length: 10000000\r\n"
        connection.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + bytes(1_000_000))
        time.sleep(0.3)
        yield


def files(instance: str, path: str) -> str:
    return f"/1.0/instances/{instance}/files?path={path}"


@pytest.fixture
def pushed(daemon: Daemon, instance: str) -> str:
    """An instance with a directory that contains one file."""
    daemon.request("POST", files(instance, "/push"), headers={"X-LXD-type": "directory"})
    daemon.request("POST", files(instance, "/push/f"), b"whole", headers={"X-LXD-uid": "5", "X-LXD-mode": "0640"})
    return instance


def shown(daemon: Daemon, instance: str) -> str:
    return daemon.exec(instance, "sh", "-c", "cd /push && ls -A && cat f && stat -c %u:%g:%a f")[1]


@pytest.mark.parametrize("name", ["f", "new"])
@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_push_changes_nothing(daemon: Daemon, pushed: str, name: str, killed: bool) -> None:
    before = shown(daemon, pushed)
    assert before == "f\nwhole5:0:640\n"
    with begun(daemon, files(pushed, f"/push/{name}")):
        assert shown(daemon, pushed) == before
        if killed:
            daemon.kill()
    if killed:
        daemon.start()
    time.sleep(0.2)
    assert shown(daemon, pushed) == before


def test_a_file_that_is_replaced_keeps_its_owner_and_mode(daemon: Daemon, pushed: str) -> None:
    daemon.request("POST", files(pushed, "/push/f"), b"other")
    daemon.request("POST", files(pushed, "/push/f"), b" end", headers={"X-LXD-write": "append"})
    assert shown(daemon, pushed) == "f\nother end5:0:640\n"


def test_a_given_symlink_is_followed_inside(isola: Cli, daemon: Daemon, pushed: str, tmp_path: Path) -> None:
    daemon.exec(pushed, "sh", "-c", "ln -s ../push/f /etc/far; ln -s /push /etc/folder")
    assert isola("file", "show", f"{pushed}/etc/far").stdout == "whole"
    isola("file", "pull", f"{pushed}/etc/far", str(tmp_path))
    assert (tmp_path / "far").read_text() == "whole" and not (tmp_path / "far").is_symlink()
    assert isola("file", "show", f"{pushed}/etc/folder").stdout == "f\n"
    told = isola("file", "push", str(tmp_path / "far"), f"{pushed}/no/such/place", check=False)
    assert told.returncode == 1 and "no directory /no/such" in told.stderr and "create it with -p" in told.stderr


def test_a_tree_with_links_is_pushed_twice(isola: Cli, pushed: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "a").write_text("1")
    (site / "latest").symlink_to("a")
    for content in ("1", "2"):
        (site / "a").write_text(content)
        isola("file", "push", "-r", str(site), f"{pushed}/push")
        assert isola("file", "show", f"{pushed}/push/site/latest").stdout == content


def test_files_of_pseudo_file_systems_are_not_pulled(daemon: Daemon, pushed: str) -> None:
    """lxcfs serves /proc/meminfo by the control group of the reader, which is the host's for the daemon."""
    for path in ("/proc/meminfo", "/proc/self/environ", "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"):
        with pytest.raises(ApiError) as told:
            daemon.get(files(pushed, path))
        assert told.value.code in ("unsupported", "not_found"), path
    assert "meminfo" in daemon.get(files(pushed, "/proc"))
    daemon.request("POST", files(pushed, "/tmp/f"), b"tmp")
    daemon.request("POST", files(pushed, "/dev/shm/f"), b"shm")
    assert daemon.exec(pushed, "cat", "/tmp/f", "/dev/shm/f")[1] == "tmpshm"


def test_a_directory_of_many_names_delays_nothing(daemon: Daemon, pushed: str) -> None:
    """Names are sent in blocks: other requests are answered between them, and memory does not grow."""
    # On a tmpfs, where many files are created quickly.
    memory = {"type": "disk", "source": "tmpfs:", "path": "/many", "size": "256MiB"}
    daemon.run("PATCH", f"/1.0/instances/{pushed}", {"devices": {"many": memory}})
    make = f"i=100000; while [ $i -lt 300000 ]; do : >{'0' * 94}$i; i=$((i + 1)); done"
    assert daemon.exec(pushed, "sh", "-c", f"cd /many && {make}")[0] == 0
    before = most_memory(daemon)
    connection, read = Connection(daemon.socket, 60), b""
    try:
        connection.request("GET", files(pushed, "/many"))
        response = connection.getresponse()
        while block := response.read(1 << 18):
            read += block
            daemon.get("/1.0")
    finally:
        connection.close()
    assert len(json.loads(read)["metadata"]) == 200_000
    assert most_memory(daemon) - before < 32 << 10


def main_process(daemon: Daemon) -> int:
    assert daemon.process is not None
    return daemon.process.pid


def most_memory(daemon: Daemon) -> int:
    """Peak memory of the daemon, in KiB."""
    text = Path(f"/proc/{main_process(daemon)}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])
