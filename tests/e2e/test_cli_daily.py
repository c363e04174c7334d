"""The command line as typed against the real daemon: everyday use."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import until

Cli = Any
"""The command of conftest.py: called with arguments, it returns the ended process."""


class Terminal:
    """The command on a terminal."""

    def __init__(self, isola: Cli, *arguments: str, columns: int = 90, lines: int = 30) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *isola.argv, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=isola.env,
        )
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} not in {self.seen!r}"
            self.seen += os.read(self.master, 65536).decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(isola: Cli) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def begin(*arguments: str, **size: int) -> Terminal:
        opened.append(Terminal(isola, *arguments, **size))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def statuses(isola: Cli) -> dict[str, str]:
    return {item["name"]: item["status"] for item in json.loads(isola("list", "-f", "json").stdout)}


def test_an_instance_from_launch_to_delete(isola: Cli) -> None:
    name = isola("launch", "tiny", "--print-name", "-q", "--memory", "64MiB", "-c", "user.role=e2e").stdout.strip()
    try:
        assert statuses(isola)[name] == "Running"
        assert isola("list", "user.role=e2e", "-c", "n", "-f", "csv").stdout.strip() == name
        info = yaml.safe_load(isola("info", name).stdout)
        assert (info["status"], info["limits"]) == ("Running", {"limits.memory": "64MiB"})
        isola("pause", name)
        assert statuses(isola)[name] == "Frozen"
        isola("resume", name)
        isola("restart", name, "--force")
        assert isola("exec", name, "--", "hostname").stdout.strip() == name
        isola("stop", name)
        assert statuses(isola)[name] == "Stopped"
        isola("rename", name, f"{name}-new")
        name += "-new"
        isola("start", name)
        refused = isola("delete", name, check=False)
        assert refused.returncode == 1
        assert "Hint: " in refused.stderr
    finally:
        isola("delete", "--force", name)
    assert name not in statuses(isola)


def test_exec_streams_status_user_and_environment(isola: Cli, instance: str) -> None:
    done = isola(
        "exec",
        instance,
        "-E",
        "A=b",
        "--cwd",
        "/tmp",
        "--",
        "sh",
        "-c",
        "echo $A; pwd; echo no >&2; exit 9",
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, "b\n/tmp\n", "no\n")
    assert isola("exec", instance, "-u", "1000", "-g", "1000", "--", "id", "-u").stdout == "1000\n"
    data = os.urandom(1 << 24)
    echoed = isola("exec", instance, "--", "cat", input=data, text=False)
    assert echoed.stdout == data
    missing = isola("exec", instance, "--", "/no/such/program", check=False)
    assert missing.returncode != 0
    assert "Traceback" not in missing.stderr


def test_exec_on_a_terminal_follows_its_size(terminal: Callable[..., Terminal], instance: str) -> None:
    user = terminal("exec", instance, "--", "sh", columns=101, lines=31)
    # A new size needs a moment to take effect inside.
    user.type('until [ "$(stty size)" = "31 101" ]; do sleep 0.1; done; echo first $((40+2))\r')
    user.expect("first 42")
    user.resize(120, 44)
    user.type('until [ "$(stty size)" = "44 120" ]; do sleep 0.1; done; exit 5\r')
    assert user.process.wait(60) == 5
    assert termios.tcgetattr(user.slave) == user.before


def begun(isola: Cli, instance: str, script: str) -> subprocess.Popen[bytes]:
    """A shell inside whose script has reported that it is ready."""
    process = subprocess.Popen(
        [*isola.argv, "exec", instance, "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=isola.env,
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def test_a_signal_ends_the_command_inside(isola: Cli, instance: str) -> None:
    script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    process = begun(isola, instance, script)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=120)[0] == b"caught\n"
    assert process.returncode == 7


def test_a_system_whose_init_dies_says_so_with_its_last_output(isola: Cli, instance: str) -> None:
    dying = "printf '#!/bin/sh\necho out of inotify instances\nexit 255\n' >/init; chmod 755 /init; mv /init /sbin/init"
    isola("exec", instance, "--", "sh", "-c", dying)
    isola("stop", instance, "--force")
    done = isola("start", instance, check=False)
    assert done.returncode == 1 and "ended at once, with status 255" in done.stderr
    assert "out of inotify instances" in done.stderr
    assert statuses(isola)[instance] == "Stopped"
    log = isola("info", instance, "--show-log").stdout
    assert "The start failed" in log and "out of inotify instances" in log


def test_an_instance_that_run_keeps_survives_its_next_stop(isola: Cli) -> None:
    isola("run", "tiny", "--name", "kept", "--keep", "--", "sh", "-c", "echo precious >/kept")
    isola("stop", "kept", "--force")
    isola("start", "kept")
    assert isola("exec", "kept", "--", "cat", "/kept").stdout == "precious\n"
    isola("delete", "kept", "--force")


def test_run_leaves_nothing_behind(isola: Cli) -> None:
    before = statuses(isola)
    done = isola("run", "tiny", "--", "sh", "-c", "cat; exit 3", input="through", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "through", "")
    assert statuses(isola) == before


def test_a_shell_and_the_console(terminal: Callable[..., Terminal], isola: Cli, instance: str) -> None:
    shell = terminal("shell", instance)
    shell.type("echo $((6 * 7)) in $(hostname); exit\r")
    shell.expect(f"42 in {instance}")
    assert shell.process.wait(60) == 0
    console = terminal("console", instance)
    console.expect("To detach")
    console.type("\r")
    console.type("echo $((7 * 8))-on-console\r")
    console.expect("56-on-console")
    console.type("\x01q")
    console.expect("Detached")
    assert console.process.wait(60) == 0
    assert "56-on-console" in isola("console", instance, "--show-log").stdout


def test_files_in_and_out(isola: Cli, instance: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "img").mkdir(parents=True)
    (site / "index.html").write_text("hi\n")
    (site / "img" / "data").write_bytes(os.urandom(3 << 20))
    (site / "latest").symlink_to("img/data")
    isola("file", "push", "-r", "-p", str(site), f"{instance}/srv", "--uid", "33", "--gid", "33")
    assert isola("exec", instance, "--", "stat", "-c", "%u:%g", "/srv/index.html").stdout == "33:33\n"
    isola("file", "pull", "-r", f"{instance}/srv", str(tmp_path / "back"))
    assert (tmp_path / "back" / "img" / "data").read_bytes() == (site / "img" / "data").read_bytes()
    assert (tmp_path / "back" / "latest").readlink() == Path("img/data")
    isola("file", "push", "-", f"{instance}/etc/motd", input="hello")
    assert isola("file", "show", f"{instance}/etc/motd").stdout == "hello"
    assert isola("__complete", "--", "file", "pull", f"{instance}/etc/mo").stdout == f"{instance}/etc/motd\n"
    isola("file", "delete", "-r", f"{instance}/srv")
    assert isola("file", "show", f"{instance}/srv", check=False).returncode == 1


def test_configuration_changes_live(isola: Cli, instance: str) -> None:
    isola("config", "set", instance, "limits.memory=48MiB", "user.a=b")
    assert isola("config", "get", instance, "limits.memory").stdout == "48MiB\n"
    shown = yaml.safe_load(isola("config", "show", instance).stdout)
    shown["config"].pop("limits.memory")
    shown["description"] = "edited"
    isola("config", "edit", instance, input=yaml.safe_dump(shown))
    after = yaml.safe_load(isola("config", "show", instance).stdout)
    assert (after["description"], after["config"]["user.a"]) == ("edited", "b")
    assert "limits.memory" not in after["config"]
    wrong = isola("config", "set", instance, "limits.memory=much", check=False)
    assert wrong.returncode == 1
    assert "limits.memory" in wrong.stderr


def test_networks_profiles_and_pools(isola: Cli) -> None:
    isola("network", "create", "lab", "ipv4.address=10.99.1.1/24", "ipv6.address=none")
    isola("profile", "create", "small", "limits.processes=100")
    try:
        assert "lab,bridge,yes,10.99.1.1/24" in isola("network", "list", "-f", "csv").stdout
        name = isola(
            "create", "tiny", "netted", "-n", "lab", "-p", "default", "-p", "small", "--print-name", "-q"
        ).stdout.strip()
        try:
            shown = yaml.safe_load(isola("config", "show", name, "--expanded").stdout)
            assert shown["config"]["limits.processes"] == "100"
            assert shown["devices"]["eth0"]["network"] == "lab"
            used = isola("network", "delete", "lab", check=False)
            assert used.returncode == 1
            assert "in use" in used.stderr.lower()
        finally:
            isola("delete", name)
    finally:
        isola("network", "delete", "lab")
        isola("profile", "delete", "small")
    assert "default,overlay" in isola("storage", "list", "-f", "csv").stdout
    assert "total" in yaml.safe_load(isola("storage", "info", "default").stdout)


def test_images_are_exported_and_imported_by_command(isola: Cli, tmp_path: Path) -> None:
    isola("image", "export", "tiny", str(tmp_path) + "/")
    files = sorted(str(path) for path in tmp_path.iterdir())
    assert files
    before = isola("image", "info", "tiny", "-f", "json").stdout
    again = isola("image", "import", *files, check=False)
    assert again.returncode == 0 or "already" in again.stderr.lower()
    assert (
        json.loads(before)["fingerprint"]
        == json.loads(isola("image", "info", "tiny", "-f", "json").stdout)["fingerprint"]
    )
    isola("image", "alias", "tiny", "other")
    assert "other" in isola("image", "list", "-f", "csv").stdout
    isola("image", "unalias", "other")
    assert "other" not in isola("image", "aliases", "-f", "csv").stdout


def test_ctrl_c_reaches_the_command(isola: Cli, instance: str) -> None:
    process = begun(isola, instance, "echo ready; exec sleep 60")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stdout is not None
    process.stdout.close()


def test_ctrl_c_cancels_an_operation_and_leaves_the_instance_unchanged(isola: Cli, instance: str) -> None:
    """Its first process is stopped (SIGSTOP) from outside, so that a clean stop never ends."""
    pid = isola.daemon.pid(instance)
    os.kill(pid, signal.SIGSTOP)
    try:
        process = subprocess.Popen(
            [*isola.argv, "stop", instance, "--timeout", "60"], stderr=subprocess.PIPE, text=True, env=isola.env
        )
        until(lambda: "running" in isola.daemon.get("/1.0/operations"))
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=120)[1]
        assert (process.returncode, "Cancelled" in error) == (130, True), error
        assert (statuses(isola)[instance], isola.daemon.pid(instance)) == ("Running", pid)
    finally:
        os.kill(pid, signal.SIGCONT)
    until_stopped_by_the_signal_it_had_been_sent(isola, instance)


def until_stopped_by_the_signal_it_had_been_sent(isola: Cli, instance: str) -> None:
    end = time.monotonic() + 60
    while statuses(isola)[instance] != "Stopped" or "running" in isola.daemon.get("/1.0/operations"):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_events_are_seen_while_they_happen(isola: Cli, instance: str) -> None:
    monitor = subprocess.Popen(
        [*isola.argv, "monitor", "-t", "lifecycle", "-f", "json"], stdout=subprocess.PIPE, env=isola.env
    )
    try:
        assert monitor.stdout is not None
        for verb in ("pause", "resume") * 30:  # it does not tell when it is connected
            isola(verb, instance)
            if ready := select.select([monitor.stdout], [], [], 1)[0]:
                break
        assert ready
        event = json.loads(monitor.stdout.readline())
        assert (event["type"], instance in event["metadata"]["source"]) == ("lifecycle", True)
    finally:
        monitor.send_signal(signal.SIGINT)
        assert monitor.wait(60) == 130
        isola("resume", instance, check=False)


def test_doctor_version_and_queries(isola: Cli) -> None:
    checks = json.loads(isola("doctor", "-f", "json").stdout)
    assert checks["Daemon"][0]["state"] == "ok"
    assert {check["name"] for check in checks["Runtimes"]} >= {"runc", "crun"}
    assert {check["name"] for check in checks["Storage"]} >= {"overlay"}
    assert isola("version").stdout.count("0.") == 2
    assert json.loads(isola("query", "/1.0").stdout)["api_version"] == "1.0"
    listed = json.loads(isola("operation", "list", "-f", "json").stdout)
    assert listed and {operation["status"] for operation in listed} <= {"Success", "Failure", "Cancelled", "Running"}


def test_invalid_arguments_are_explained(isola: Cli) -> None:
    for arguments in (
        ["info", "absent"],
        ["launch", "no/such/image", "x1"],
        ["launch", "tiny", "-bad-"],
        ["network", "create", "no/such"],
    ):
        done = isola(*arguments, check=False)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.stderr


def test_a_run_that_is_killed_leaves_no_instance(isola: Cli) -> None:
    argv = [*isola.argv, "run", "tiny", "--name", "orphan", "--", "sleep", "1000"]
    client = subprocess.Popen(argv, env=isola.env, stdin=subprocess.DEVNULL)
    until(lambda: "sleep 1000" in isola("exec", "orphan", "--", "ps", check=False).stdout)
    client.kill()
    client.wait()
    until(lambda: "orphan" not in statuses(isola))


def test_disk_usage_is_listed(isola: Cli, instance: str) -> None:
    isola("exec", instance, "--", "dd", "if=/dev/urandom", "of=/root/big", "bs=1M", "count=3")
    isola("exec", instance, "--", "sync")
    assert re.fullmatch(r"[3-5]\.\d+MiB\n", isola("list", instance, "-c", "D", "-f", "csv").stdout)


def test_a_command_with_closed_input_gets_an_empty_one(isola: Cli, instance: str) -> None:
    line = f"exec {' '.join(isola.argv)} exec {instance} -- wc -c <&-"
    done = subprocess.run(["sh", "-c", line], env=isola.env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n")


def test_unwritable_output_of_a_command_ends_it_with_the_reason(isola: Cli, instance: str) -> None:
    line = f"exec {' '.join(isola.argv)} exec {instance} -- sh -c 'echo $$; exec sleep 1000' >/dev/full"
    done = subprocess.run(["sh", "-c", line], env=isola.env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: Standard output: No space left on device\n")
