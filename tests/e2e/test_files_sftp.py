"""Files over SFTP: unmodified ``incus``, ``lxc`` and OpenSSH's ``sftp`` on real instances."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Cli
from daemon import Daemon
from waiting import until

CLIENTS = ["lxc", "incus"] if shutil.which("incus") else ["lxc"]
"""Debian 12 has no package of incus: it is tested if installed."""
_BRIDGE = """
import os, socket, sys, threading
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
request = f"GET /1.0/instances/{sys.argv[2]}/sftp HTTP/1.1"
head = [request, "Host: isola", "Upgrade: sftp", "Connection: Upgrade", "", ""]
connection.sendall("\\r\\n".join(head).encode())
answer = b""
while not answer.endswith(b"\\r\\n\\r\\n"):
    answer += connection.recv(1)
assert b" 101 " in answer, answer

def send():
    while data := os.read(0, 65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)

threading.Thread(target=send, daemon=True).start()
while data := connection.recv(65536):
    os.write(1, data)
"""
"""Connects standard input and output to an instance's SFTP: a server program for OpenSSH's sftp."""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A tree with all kinds of entries."""
    top = tmp_path / "site"
    (top / "deep" / "deeper").mkdir(parents=True)
    (top / "index").write_text("hello")
    (top / "deep" / "large").write_bytes(os.urandom(3_000_000))
    (top / "deep" / "deeper" / "program").write_text("#!/bin/sh\n")
    (top / "deep" / "deeper" / "program").chmod(0o755)
    (top / "link").symlink_to("deep/large")
    return top


def tree(top: Path) -> dict[str, object]:
    """Every path below, with its content."""
    return {
        str(path.relative_to(top)): os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in sorted(top.rglob("*"))
    }


@pytest.fixture(params=[True, False], ids=["running", "stopped"])
def any_state(request: pytest.FixtureRequest, daemon: Daemon, instance: str) -> str:
    if not request.param:
        daemon.run("PUT", f"/1.0/instances/{instance}/state", {"action": "stop", "force": True})
    return instance


def test_trees_are_pushed_and_pulled(client: Any, any_state: str, site: Path, tmp_path: Path) -> None:
    client("file", "push", "-r", str(site), f"{any_state}/srv", "-p")
    (tmp_path / "back").mkdir()
    client("file", "pull", "-r", f"{any_state}/srv/site", str(tmp_path / "back"))
    assert tree(tmp_path / "back" / "site") == tree(site)


def test_single_files(client: Any, daemon: Daemon, instance: str, site: Path, tmp_path: Path) -> None:
    client("file", "push", str(site / "index"), f"{instance}/etc/index", "--uid", "5", "--gid", "6", "--mode", "0640")
    assert daemon.exec(instance, "stat", "-c", "%u:%g:%a", "/etc/index")[1] == "5:6:640\n"
    client("file", "push", str(site / "deep" / "large"), f"{instance}/new/place/large", "-p")
    client("file", "pull", f"{instance}/new/place/large", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == (site / "deep" / "large").read_bytes()
    assert client("file", "pull", f"{instance}/etc/index", "-") == "hello"
    client("file", "push", "-", f"{instance}/etc/piped", input=b"from a pipe")
    assert daemon.exec(instance, "cat", "/etc/piped")[1] == "from a pipe"
    client("file", "delete", f"{instance}/etc/piped", f"{instance}/etc/index")
    client("file", "delete", f"{instance}/etc/index", status=1)
    client("file", "pull", f"{instance}/etc/index", str(tmp_path), status=1)


def test_a_file_is_edited(client: Any, daemon: Daemon, instance: str, tmp_path: Path) -> None:
    daemon.exec(instance, "sh", "-c", "echo before >/etc/edited; chmod 600 /etc/edited; chown 3:4 /etc/edited")
    client("file", "edit", f"{instance}/etc/edited", input=b"after\n")
    assert daemon.exec(instance, "cat", "/etc/edited")[1] == "after\n"
    assert daemon.exec(instance, "stat", "-c", "%u:%g:%a", "/etc/edited")[1] == "3:4:600\n"


def test_symlinks_inside_do_not_lead_outside(client: Any, daemon: Daemon, instance: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    daemon.exec(instance, "ln", "-s", f"../../../../../..{tmp_path}", "/etc/out")
    client("file", "pull", f"{instance}/etc/out/secret", str(tmp_path / "got"), status=1)
    client("file", "push", "-", f"{instance}/etc/out/secret", input=b"overwritten", status=1)
    assert (tmp_path / "secret").read_text() == "outside" and not (tmp_path / "got").exists()


@contextlib.contextmanager
def listening(client: Any, instance: str) -> Iterator[int]:
    """The port of the SSH server that ``file mount`` opens."""
    argv = [client.__class__.__name__.lower(), "file", "mount", instance, "--no-auth", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(argv, env=client.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_mounted_over_ssh_on_a_port_of_this_machine(client: Any, instance: str, site: Path, tmp_path: Path) -> None:
    with listening(client, instance) as port:
        done = subprocess.run(
            ["sftp", "-q", "-b", "-", "-P", str(port), "-o", "StrictHostKeyChecking=no",
             "-o", f"UserKnownHostsFile={tmp_path}/hosts", "any@127.0.0.1"],
            input=f"put {site}/deep/large /etc/large\nget /etc/large {tmp_path}/large\nrm /etc/large\n".encode(),
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "large").read_bytes() == (site / "deep" / "large").read_bytes()


def sftp(daemon: Daemon, instance: str, tmp_path: Path, *commands: str, status: int = 0) -> str:
    """OpenSSH's client on a connection without SSH."""
    bridge, program = tmp_path / "bridge.py", tmp_path / "server"
    bridge.write_text(_BRIDGE)
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {bridge} {daemon.socket} {instance}\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["sftp", "-q", "-b", "-", "-D", str(program)],
        input="\n".join(commands).encode() + b"\n", capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def test_every_request_of_openssh(daemon: Daemon, any_state: str, site: Path, tmp_path: Path) -> None:
    shown = sftp(
        daemon, any_state, tmp_path,
        "mkdir /s", "cd /s", "pwd", f"put -p -R {site}", "ls -ln site", "ln -s site/index soft", "ln site/index hard",
        "rename hard moved", "chmod 600 moved", "chown 5 moved", "chgrp 6 moved", "ls -ln moved", "df /s",
        f"get -R site {tmp_path}/got", "rm soft", "rm moved",
    )  # fmt: skip
    assert "Remote working directory: /s" in shown
    assert re.search(r"-rw------- +\S+ +5 +6 +5 .*moved", shown), shown
    found = tree(tmp_path / "got")
    assert found["deep/large"] == tree(site)["deep/large"] and found["index"] == b"hello"
    sftp(daemon, any_state, tmp_path, "rename /s/site /etc", status=1)
    sftp(daemon, any_state, tmp_path, "rmdir /s", status=1)
    sftp(daemon, any_state, tmp_path, "get /s/none", status=1)


def test_a_mount_does_not_prevent_start_and_stop(client: Any, daemon: Daemon, instance: str) -> None:
    with listening(client, instance):
        for action in ("stop", "start", "restart"):
            daemon.run("PUT", f"/1.0/instances/{instance}/state", {"action": action, "force": True})
        daemon.run("DELETE", f"/1.0/instances/{instance}?force=1")
    assert instance not in str(daemon.get("/1.0/instances"))


@contextlib.contextmanager
def mounted(isola: Cli, source: str, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``isola file mount`` until the end of the test; afterwards nothing is mounted."""
    target.mkdir()
    process = subprocess.Popen(
        [*isola.argv, "file", "mount", source, str(target)], env=isola.env, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: os.path.ismount(target))
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        finally:
            subprocess.run(["umount", "-l", str(target)], check=False, capture_output=True)
    assert not os.path.ismount(target)


def test_a_directory_is_mounted_locally(isola: Cli, daemon: Daemon, instance: str, site: Path, tmp_path: Path) -> None:
    daemon.exec(instance, "mkdir", "/srv")
    here = tmp_path / "here"
    with mounted(isola, f"{instance}/srv", here) as process:
        subprocess.run(["cp", "-r", str(site), str(here)], check=True)
        assert tree(here / "site") == tree(site)
        assert daemon.exec(instance, "cat", "/srv/site/index")[1] == "hello"
        (here / "site" / "index").rename(here / "moved")
        os.replace(here / "moved", here / "site" / "link")
        os.truncate(here / "site" / "link", 2)
        assert daemon.exec(instance, "cat", "/srv/site/link")[1] == "he"
        shutil.rmtree(here / "site")
        assert daemon.exec(instance, "ls", "-A", "/srv")[1] == ""
        assert instance in Path("/proc/self/mounts").read_text()
        refused = isola("file", "mount", f"{instance}/srv", str(here), check=False)
        assert refused.returncode == 1 and "Something is mounted" in refused.stderr
    assert process.returncode == 0
    refused = isola("file", "mount", f"{instance}/srv", str(tmp_path / "none"), check=False)
    assert refused.returncode == 1 and "is not a directory" in refused.stderr
    refused = isola("file", "mount", "absent/srv", str(here), check=False)
    assert refused.returncode == 1 and "not found" in refused.stderr


def test_a_mount_ends_with_the_instance(isola: Cli, daemon: Daemon, instance: str, tmp_path: Path) -> None:
    with mounted(isola, f"{instance}/etc", tmp_path / "here") as process:
        daemon.run("PUT", f"/1.0/instances/{instance}/state", {"action": "stop", "force": True})
        process.wait(60)


@pytest.mark.parametrize("client", ["lxc"], indirect=True)
def test_lxc_mounts_with_sshfs(client: Any, daemon: Daemon, instance: str, tmp_path: Path) -> None:
    target = tmp_path / "here"
    target.mkdir()
    daemon.exec(instance, "sh", "-c", "echo inside >/etc/note")
    process = subprocess.Popen(
        ["lxc", "file", "mount", f"{instance}/etc", str(target)], env=client.env, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: os.path.ismount(target))
        assert (target / "note").read_text() == "inside\n"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        subprocess.run(["umount", "-l", str(target)], check=False, capture_output=True)
