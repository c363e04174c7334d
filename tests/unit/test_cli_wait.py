"""``--wait``: launch, start and restart end once the instance is ready. Commands of instances run on this host."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from served_daemon import ServedDaemon

from isola.client.exec import Ended
from isola.client.ready import default_timeout, wait_ready
from isola.errors import InvalidInput, TimedOut, WrongState


def isola(daemon: ServedDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(daemon.directory), "LANG": "C.UTF-8"}
    argv = [sys.executable, "-m", "isola.cli.main", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment, check=False)


class Guest:
    """Instances whose commands have the given results, one after the other."""

    def __init__(self, *answers: Ended | Exception, status: str = "Running") -> None:
        self.answers = list(answers)
        self.status = status
        self.asked: list[list[str]] = []

    def run(self, name: str, command: list[str]) -> Ended:
        self.asked.append(list(command))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get(self, name: str) -> dict[str, Any]:
        return {"status": self.status}


def result(text: str, status: int = 0) -> Ended:
    return Ended(status, text.encode(), b"")


def waited(guest: Guest, condition: str, timeout: float = 5) -> str:
    return wait_ready(guest, "web1", condition, timeout)  # type: ignore[arg-type]


def test_a_system_is_ready_when_systemd_reports_it() -> None:
    guest = Guest(Ended(1, b"", b"Failed to connect to bus"), result("starting\n", 1), result("running\n"))
    assert waited(guest, "ready") == "" and len(guest.asked) == 3
    assert "some of its units" in waited(Guest(result("degraded\n", 1)), "ready")


def test_a_timeout_shows_the_last_state_of_the_system() -> None:
    with pytest.raises(TimedOut) as caught:
        waited(Guest(result("starting\n", 1)), "ready", 0.2)
    assert "systemd says starting" in caught.value.evidence


def test_without_systemd_another_condition_is_suggested() -> None:
    with pytest.raises(InvalidInput, match="does not run systemd"):
        waited(Guest(result("", 127)), "ready")


@pytest.mark.parametrize("condition", ["0", "65536", " "])
def test_invalid_conditions_are_refused(condition: str) -> None:
    with pytest.raises(InvalidInput):
        waited(Guest(result("")), condition)


@pytest.mark.parametrize("status", ["Stopped", "Error"])
def test_waiting_ends_when_the_instance_has_stopped(status: str) -> None:
    with pytest.raises(WrongState, match="before it was ready"):
        waited(Guest(WrongState("not running"), status=status), "ready", 60)


def test_waiting_continues_during_a_reboot() -> None:
    assert waited(Guest(WrongState("pauses"), result("running"), status="Starting"), "ready") == ""


def test_a_port_is_ready_once_something_listens_on_it(daemon: ServedDaemon) -> None:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    port = server.getsockname()[1]
    begun = time.monotonic()
    threading.Timer(1, server.listen).start()
    done = isola(daemon, "launch", "tiny", "web1", "--wait", str(port))
    assert (done.returncode, time.monotonic() - begun > 1) == (0, True), done.stderr
    assert "web1 is ready" in done.stderr
    server.close()
    late = isola(daemon, "restart", "web1", "--wait", str(port), "--wait-timeout", "1")
    assert late.returncode == 1 and f"nothing listens on port {port}" in late.stderr


def test_a_command_is_repeated_until_it_succeeds(daemon: ServedDaemon, tmp_path: Path) -> None:
    daemon.create("web1", start=False)
    threading.Timer(1, (tmp_path / "healthy").touch).start()
    done = isola(daemon, "start", "web1", "--wait", f"test -e {tmp_path}/healthy")
    assert done.returncode == 0 and "web1 is ready" in done.stderr, done.stderr
    failed = isola(daemon, "restart", "web1", "--wait", "echo not yet; false", "--wait-timeout", "1")
    assert failed.returncode == 1 and "status 1: not yet" in failed.stderr


def test_instances_on_emulated_processors_are_waited_for_longer() -> None:
    known: Any = {
        "environment": {"runtimes": [{"name": "fast", "emulated": False}, {"name": "slow", "emulated": True}]}
    }
    found = [default_timeout({"runtime": runtime}, known) for runtime in ("fast", "slow", "gone")]
    assert found == [60, 600, 60]
    assert default_timeout({}, {}) == default_timeout({"runtime": "crun"}, {"environment": {"runtimes": None}}) == 60


def test_the_usual_time_is_waited_if_none_is_given(daemon: ServedDaemon) -> None:
    daemon.create("web1", start=False)
    done = isola(daemon, "start", "web1", "--wait", "true")
    assert done.returncode == 0 and "GET /1.0" in daemon.requests


def test_without_the_option_nothing_is_waited_for(daemon: ServedDaemon) -> None:
    assert "web1 is running" in isola(daemon, "launch", "tiny", "web1").stderr
