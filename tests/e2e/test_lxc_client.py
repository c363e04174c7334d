"""Debian's unmodified ``lxc`` with the REST door: the effect of every verb, not only its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon
from lxc_client import Lxc
from terminal import Terminal
from waiting import booted, until


@pytest.fixture(scope="module")
def lxc(debian: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    return Lxc(debian, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def web(lxc: Lxc) -> Iterator[str]:
    """A Debian system container launched by the client itself."""
    lxc("launch", "debian/12", "web1", "-c", "limits.memory=512MiB", "-c", "user.role=web")
    booted(lxc.daemon, "web1")
    until(lambda: "inet" in lxc.daemon.exec("web1", "ip", "-4", "addr", "show", "eth0")[1])
    yield "web1"
    lxc("delete", "-f", "web1")


def wait_running(lxc: Lxc, name: str) -> None:
    booted(lxc.daemon, name)
    assert lxc("exec", name, "--", "systemctl", "is-system-running").strip() == "running"


def test_launch_starts_a_system(lxc: Lxc, web: str) -> None:
    wait_running(lxc, web)
    assert lxc.daemon.status(web) == "Running"


def test_list_in_every_format(lxc: Lxc, web: str) -> None:
    table = lxc("list")
    assert web in table and "RUNNING" in table and "CONTAINER" in table
    [entry] = [e for e in json.loads(lxc("list", "--format", "json")) if e["name"] == web]
    assert entry["status"] == "Running"
    assert entry["config"]["user.role"] == "web"
    assert f"name: {web}" in lxc("list", "--format", "yaml", web)
    address = entry["state"]["network"]["eth0"]["addresses"][0]["address"]
    assert address in lxc("list", "--format", "csv", "-c", "n4", web)
    assert lxc("list", "status=stopped", "--format", "csv", "-c", "n") == ""


def test_info_of_server_and_instance(lxc: Lxc, web: str) -> None:
    assert "auth: trusted" in lxc("info")
    text = lxc("info", web)
    assert "Status: RUNNING" in text and "eth0" in text and "Processes:" in text
    assert "CPU" in lxc("info", "--resources")


def test_exec_without_a_terminal(lxc: Lxc, web: str) -> None:
    assert lxc("exec", web, "--", "cat", input=b"through\0 the pipe\n") == "through\0 the pipe\n"
    lxc("exec", web, "--", "sh", "-c", "exit 7", status=7)
    lxc("exec", web, "--", "/no/such/program", status=127)
    text = lxc(
        "exec",
        web,
        "--env",
        "COLOUR=blue",
        "--cwd",
        "/usr",
        "--user",
        "1000",
        "--",
        "sh",
        "-c",
        "echo $COLOUR; pwd; id -u",
    )
    assert text.split() == ["blue", "/usr", "1000"]
    big = os.urandom(3_000_000)
    done = subprocess.run(
        ["lxc", "exec", web, "--", "cat"], env=lxc.env, input=big, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == big


def test_a_signal_reaches_a_command_without_a_terminal(lxc: Lxc, web: str) -> None:
    script = "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done"
    command = ["lxc", "exec", web, "--", "sh", "-c", script]
    with subprocess.Popen(command, env=lxc.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 7


def test_an_unset_key_of_a_profile_keeps_the_values_of_earlier_profiles(lxc: Lxc, web: str) -> None:
    lxc("profile", "create", "extra")
    lxc("profile", "add", web, "extra")
    lxc("profile", "set", "default", "limits.processes=300")
    lxc("profile", "set", "extra", "limits.processes=200")
    lxc("profile", "unset", "extra", "limits.processes")
    shown = json.loads(lxc("query", f"/1.0/instances/{web}"))
    assert shown["expanded_config"]["limits.processes"] == "300"
    lxc("profile", "unset", "default", "limits.processes")
    lxc("profile", "remove", web, "extra")
    lxc("profile", "delete", "extra")


def test_exec_on_a_terminal_with_window_size_and_signals(lxc: Lxc, web: str) -> None:
    terminal = Terminal(["lxc", "exec", web, "--", "bash", "--norc"], lxc.env, rows=33, columns=77)
    try:
        terminal.ask("stty size\n", "33 77")
        terminal.resize(40, 100)
        terminal.ask("stty size\n", "40 100")
        terminal.type("echo $((6*7))\n")
        terminal.expect("42")
        terminal.type("echo sleeping; sleep 100\n")
        terminal.expect("sleeping\r\n")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.type("echo st=$?; exit 5\n")
        terminal.expect("st=130")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_console_and_its_log(lxc: Lxc, web: str) -> None:
    terminal = Terminal(["lxc", "console", web], lxc.env)
    try:
        terminal.expect("detach")
        terminal.type("\n")
        terminal.expect("login:")
        terminal.type("\x01")  # lxc examines the first byte of its input
        time.sleep(0.2)
        terminal.type("q")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    assert "login:" in lxc("console", web, "--show-log")


def test_files_are_pushed_pulled_edited_and_deleted(lxc: Lxc, web: str, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "data").write_bytes(data)
    lxc(
        "file", "push", str(tmp_path / "data"), f"{web}/srv/deep/data", "--create-dirs", "--mode", "0640", "--uid", "33"
    )
    assert lxc("exec", web, "--", "stat", "-c", "%a %u %s", "/srv/deep/data").split() == ["640", "33", "1000000"]
    lxc("file", "pull", f"{web}/srv/deep/data", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert lxc("file", "pull", f"{web}/etc/debian_version", "-").startswith("12")
    lxc("file", "delete", f"{web}/srv/deep/data")
    lxc("exec", web, "--", "test", "-e", "/srv/deep/data", status=1)
    lxc("file", "pull", f"{web}/no/such/file", "-", status=1)


def test_directories_are_pushed_and_pulled(lxc: Lxc, web: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "one").write_text("1")
    (tree / "sub" / "two").write_text("2")
    lxc("file", "push", "-r", str(tree), f"{web}/srv/")
    assert lxc("exec", web, "--", "cat", "/srv/tree/sub/two") == "2"
    lxc("file", "pull", "-r", f"{web}/srv/tree", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "tree" / "sub" / "two").read_text() == "2"


def test_configuration_is_set_read_and_live(lxc: Lxc, web: str) -> None:
    lxc("config", "set", web, "user.note", "hello world")
    assert lxc("config", "get", web, "user.note") == "hello world\n"
    lxc("config", "set", web, "limits.memory", "300MiB")
    assert int(lxc("exec", web, "--", "awk", "/MemTotal/{print $2}", "/proc/meminfo")) == 300 * 1024
    lxc("config", "unset", web, "user.note")
    assert lxc("config", "get", web, "user.note").strip() == ""
    text = lxc("config", "show", web)
    assert "limits.memory: 300MiB" in text and "volatile.eth0.hwaddr" in text
    assert "eth0" in lxc("config", "show", "--expanded", web)
    lxc("config", "set", web, "no.such.key", "1", status=1)
    lxc("config", "set", web, "limits.memory", "plenty", status=1)
    assert lxc("config", "get", web, "limits.memory") == "300MiB\n"


def test_stop_start_restart_and_pause(lxc: Lxc, web: str) -> None:
    wait_running(lxc, web)
    first = lxc.daemon.pid(web)
    lxc("pause", web)
    assert lxc.daemon.status(web) == "Frozen"
    assert "FROZEN" in lxc("list", web)
    lxc("start", web)
    assert lxc.daemon.status(web) == "Running" and lxc.daemon.pid(web) == first
    lxc("stop", web)
    assert lxc.daemon.status(web) == "Stopped"
    lxc("start", web)
    wait_running(lxc, web)
    second = lxc.daemon.pid(web)
    assert second != first
    lxc("restart", web)
    assert lxc.daemon.pid(web) not in (first, second)
    wait_running(lxc, web)
    lxc("stop", "--force", web)
    lxc("start", web)


def test_rename_and_delete(lxc: Lxc) -> None:
    lxc("init", "tiny", "old-name")
    assert lxc.daemon.status("old-name") == "Stopped"
    lxc("rename", "old-name", "new-name")
    names = lxc("list", "--format", "csv", "-c", "n").split()
    assert "new-name" in names and "old-name" not in names
    lxc("start", "new-name")
    assert lxc("exec", "new-name", "--", "hostname").strip() == "new-name"
    lxc("delete", "new-name", status=1)
    lxc("delete", "--force", "new-name")
    assert "new-name" not in lxc("list", "--format", "csv", "-c", "n").split()


def test_images(lxc: Lxc, tmp_path: Path) -> None:
    assert "debian/12" in lxc("image", "list")
    fingerprint = json.loads(lxc("image", "list", "tiny", "--format", "json"))[0]["fingerprint"]
    assert fingerprint in lxc("image", "info", "tiny")
    lxc("image", "alias", "create", "small", fingerprint)
    assert "small" in lxc("image", "alias", "list")
    lxc("image", "alias", "delete", "small")
    lxc("image", "export", "tiny", str(tmp_path / "out"))
    assert [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_networks_storage_profiles(lxc: Lxc, web: str) -> None:
    assert "isolabr0" in lxc("network", "list")
    assert f"/1.0/instances/{web}" in lxc("network", "show", "isolabr0")
    assert web in lxc("network", "list-leases", "isolabr0")
    assert "default" in lxc("storage", "list")
    assert "eth0" in lxc("profile", "show", "default")
    lxc("profile", "create", "big")
    lxc("profile", "set", "big", "limits.processes", "500")
    assert lxc("profile", "get", "big", "limits.processes").strip() == "500"
    lxc("profile", "delete", "big")


def test_operations_and_monitor(lxc: Lxc) -> None:
    lxc("operation", "list")
    lines: list[bytes] = []
    monitor = subprocess.Popen(["lxc", "monitor", "--format", "json"], env=lxc.env, stdout=subprocess.PIPE)
    assert monitor.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(monitor.stdout or []), daemon=True)
    reader.start()
    try:
        _until_followed(lxc)
        lxc("init", "tiny", "watched")
        lxc("delete", "watched")
    finally:
        monitor.terminate()
        monitor.wait(60)
        reader.join(60)
    events = [json.loads(line) for line in lines if line.strip()]
    actions = {event["metadata"].get("action") for event in events if event["type"] == "lifecycle"}
    assert {"instance-created", "instance-deleted"} <= actions
    assert any(event["type"] == "operation" for event in events)


def test_query_uses_the_api(lxc: Lxc) -> None:
    assert json.loads(lxc("query", "/1.0/instances?recursion=0")) is not None
    assert json.loads(lxc("query", "/1.0"))["api_version"] == "1.0"


def _until_followed(lxc: Lxc) -> None:
    """Wait until the monitor is connected: until it prints an event that the test causes."""
    time.sleep(0.5)
