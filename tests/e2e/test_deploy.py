"""``isola deploy`` and ``isola rollback`` while clients on all ways ask without a pause."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from application_image import import_application
from command import Cli
from daemon import Daemon
from sampling import some
from steady_clients import SteadyClients

HOST, OUTSIDE = "192.0.2.1", "192.0.2.2"
PORT = 7080
_DOCKERFILE = """\
FROM served
RUN echo version {version} > /srv/index.html
HEALTHCHECK --interval=1s --retries=1000 CMD {check}
CMD {command}
"""
HTTPD = '["httpd", "-f", "-p", "80", "-h", "/srv"]'
ANSWERS = "wget -q -O /dev/null http://127.0.0.1/"


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


@dataclass
class Stand:
    """A daemon with another machine on a link of its host, and a neighbour on the bridge."""

    isola: Cli
    daemon: Daemon
    machine: str
    source: Path
    terms: tuple[str, ...] = ("--drain", "2", "--stop-timeout", "1")  # its first process ignores the signal

    def deploy(
        self, version: str, *arguments: str, command: str = HTTPD, check: str = ANSWERS, fails: bool = False
    ) -> str:
        """Its output on standard error."""
        (self.source / "Dockerfile").write_text(_DOCKERFILE.format(version=version, command=command, check=check))
        done = self.isola("deploy", str(self.source), "web", *self.terms, *arguments, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr

    def rollback(self) -> None:
        self.isola("rollback", "web", *self.terms)

    @contextlib.contextmanager
    def asked(self) -> Iterator[list[SteadyClients]]:
        """By the host to itself, by another machine, and by a neighbour through the host's address."""
        host = ["nsenter", f"--net=/run/netns/{self.daemon.netns}"]
        outside = ["nsenter", f"--net=/run/netns/{self.machine}"]
        neighbour = ["nsenter", f"--net=/proc/{self.daemon.pid('neighbour')}/ns/net"]
        with contextlib.ExitStack() as stack:
            ways = ((host, "127.0.0.1"), (host, HOST), (outside, HOST), (neighbour, HOST))
            clients = [stack.enter_context(SteadyClients(enter, address, PORT)) for enter, address in ways]
            time.sleep(0.5)
            yield clients
            time.sleep(0.5)

    def names(self) -> dict[str, str]:
        found = {each["name"]: each["status"] for each in self.daemon.get("/1.0/instances?recursion=1")}
        return {name: status for name, status in found.items() if name.startswith("web")}


@pytest.fixture
def stand(daemon: Daemon, isola: Cli, tmp_path: Path) -> Iterator[Stand]:
    machine = f"out{time.monotonic_ns() % 10**8}"
    if "served" not in isola("image", "list", "--format", "csv").stdout:
        import_application(daemon, "served")
    isola("launch", "served", "neighbour", "--config", "oci.entrypoint=sleep 100000")
    _run("ip", "netns", "add", machine)
    try:
        link = ("link", "add", "up0", "netns", str(daemon.netns), "type", "veth", "peer", "name", "eth0")
        _run("ip", *link, "netns", machine)
        for at, name, address in ((str(daemon.netns), "up0", HOST), (machine, "eth0", OUTSIDE)):
            _run("ip", "-n", at, "addr", "add", f"{address}/24", "dev", name)
            _run("ip", "-n", at, "link", "set", name, "up")
        yield Stand(isola, daemon, machine, tmp_path)
    finally:
        for name in {path.rpartition("/")[2] for path in daemon.get("/1.0/instances")}:
            if name.startswith(("web", "neighbour", "fleet")):
                daemon.run("DELETE", f"/1.0/instances/{name}?force=1")
        _run("ip", "-n", str(daemon.netns), "link", "del", "up0")
        _run("ip", "netns", "del", machine)


def assert_served(clients: list[SteadyClients], *versions: str) -> None:
    """Not one request failed, and each client has seen these versions."""
    assert not any(each.failed for each in clients), [(each.failed, each.failures, each.answers) for each in clients]
    for each in clients:
        assert set(each.answers) == {f"version {version}" for version in versions}, each.answers


def test_a_deployment_and_a_rollback_under_constant_requests(stand: Stand) -> None:
    assert "web: version" in stand.deploy("1", "--publish", f"0.0.0.0:{PORT}:80")
    with stand.asked() as clients:
        said = stand.deploy("2")
    assert "isola rollback web returns to web-previous" in said
    assert_served(clients, "1", "2")
    assert stand.names() == {"web": "Running", "web-previous": "Stopped"}
    with stand.asked() as clients:
        stand.rollback()
    assert_served(clients, "2", "1")
    with stand.asked() as clients:
        stand.deploy("3")
        stand.deploy("4")
    assert_served(clients, "1", "3", "4")
    assert stand.names() == {"web": "Running", "web-previous": "Stopped"}


def test_broken_versions_never_take_over(stand: Stand) -> None:
    stand.deploy("1", "--publish", f"0.0.0.0:{PORT}:80")
    with stand.asked() as clients:
        said = stand.deploy("2", command='["sh", "-c", "echo cannot read its configuration; exit 3"]', fails=True)
        assert "ended with status 3" in said and "cannot read its configuration" in said
        said = stand.deploy("3", "--timeout", "4", check="echo no database; false", fails=True)
        assert "not healthy within 4 seconds" in said and "no database" in said
        said = stand.deploy("4", command='["/no/such/program"]', fails=True)
        assert "no such" in said.lower()
        done = stand.isola("deploy", "--image", "no-such-image", "web", check=False)
        assert done.returncode == 1
    assert_served(clients, "1")
    assert stand.names() == {"web": "Running"}


@pytest.mark.parametrize("after", some([0.3, 0.8, 1.3, 1.8, 3.0], 2))
def test_a_daemon_killed_in_the_middle_leaves_one_version_serving(stand: Stand, after: float) -> None:
    stand.deploy("1", "--publish", f"0.0.0.0:{PORT}:80")
    stand.deploy("2")
    fingerprint = stand.daemon.get("/1.0/instances/web")["config"]["volatile.base_image"]
    with stand.asked() as clients:
        command = ("deploy", "--image", fingerprint, "web", "--config", "user.next=1", *stand.terms)
        thread = threading.Thread(target=lambda: stand.isola(*command, check=False))  # waits for the daemon
        thread.start()
        time.sleep(after)
        stand.daemon.kill()
        time.sleep(0.5)
        stand.daemon.start()
        thread.join()
        time.sleep(1)
    assert stand.names() == {"web": "Running", "web-previous": "Stopped"}
    assert not any(each.failed for each in clients), [(each.failed, each.failures) for each in clients]
    stand.deploy("5")
    with stand.asked() as clients:
        stand.rollback()
    assert_served(clients, "5", "2")


def test_a_fleet_is_updated_in_waves_stops_at_a_failure_and_is_rolled_back(stand: Stand) -> None:
    names = ("fleet1", "fleet2", "fleet3")
    for name in names:
        stand.isola("launch", "served", name, "--config", "oci.entrypoint=sleep 1000", "--config", "user.version=1")

    def versions() -> list[str]:
        return [stand.daemon.get(f"/1.0/instances/{name}")["config"]["user.version"] for name in names]

    terms = ("--settle", "1", "--drain", "0", "--stop-timeout", "0", "--format", "json")
    chosen = ("deploy", "--image", "served")
    stand.isola(*chosen, *names, "--config", "user.version=2", "--waves", "1,100%", *terms)
    assert versions() == ["2"] * 3
    broken = ("--config", "user.version=3", "--config", "oci.entrypoint=false")
    done = stand.isola(*chosen, *names, *broken, "--waves", "1,100%", *terms, check=False)
    states = {name: each["status"] for name, each in json.loads(done.stdout).items()}
    assert done.returncode == 1 and states == {"fleet1": "failed", "fleet2": "untouched", "fleet3": "untouched"}
    assert versions() == ["2"] * 3
    stand.isola("rollback", *names, "--parallel", "3", *terms)
    assert versions() == ["1"] * 3
