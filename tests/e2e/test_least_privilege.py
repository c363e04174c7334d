"""A profile learned from a web server under test: what it used works with it, all else is refused and reported."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from application_image import import_application
from command import Cli
from daemon import ApiError, Daemon
from waiting import until

SERVE = "mkdir -p /srv/www && echo hello >/srv/www/index.html && exec busybox httpd -f -p 8080 -h /srv/www"
FETCH = (
    "i=0; until wget -q -O /tmp/page http://127.0.0.1:8080/; do i=$((i+1)); test $i -lt 100 || exit 1; sleep 0.1; "
    "done; cat /tmp/page"
)
ENTRYPOINT = shlex.join(["/bin/busybox", "sh", "-c", SERVE])


@pytest.fixture(scope="module")
def least(daemon: Daemon) -> Iterator[str]:
    """A profile learned from a web server in a container while a page is fetched."""
    isola, name = Cli(daemon), "learned"
    fingerprint = import_application(daemon, "least-app")
    daemon.launch(name, "least-app", config={"oci.entrypoint": ENTRYPOINT})
    fetch = [sys.executable, "-m", "isola.cli.main", "exec", name, "--", "/bin/busybox", "sh", "-c", FETCH]
    isola("profile", "learn", name, "--into", "least", "--while", shlex.join(fetch))
    yield "least"
    daemon.run("DELETE", f"/1.0/instances/{name}?force=1")
    isola("profile", "delete", "least")
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


@pytest.fixture(params=["container", "sandbox"])
def confined(request: Any, daemon: Daemon, least: str) -> Iterator[str]:
    """The same web server with that profile."""
    wall = request.param
    name = f"least-{wall}"
    daemon.launch(
        name, "least-app", config={"oci.entrypoint": ENTRYPOINT, "isola.isolation": wall}, profiles=["default", least]
    )
    yield name
    daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def run(daemon: Daemon, name: str, script: str) -> tuple[int, str, str]:
    return daemon.exec(name, "/bin/busybox", "sh", "-c", script)


def test_the_profile_has_what_was_used_and_no_more(daemon: Daemon, least: str) -> None:
    config = daemon.get(f"/1.0/profiles/{least}")["config"]
    calls = config["security.syscalls.allow"].split("\n")
    assert {"bind", "listen", "execve", "mkdir"} <= set(calls)
    assert not {"sethostname", "ptrace", "mknod", "chown"} & set(calls)
    assert calls == sorted(calls)
    assert config["isola.capabilities.drop"] == "ALL" and "isola.capabilities.add" not in config
    assert "/srv" in config["isola.paths.writable"].split(",")
    assert (config["isola.ports.listen"], config["isola.ports.connect"]) == ("tcp/8080", "tcp/8080")
    assert {"/bin", "/srv/www"} <= set(config["user.learned.opened"].split(","))


def test_an_image_is_learned_in_a_container_that_is_deleted(daemon: Daemon, least: str) -> None:
    isola, before = Cli(daemon), daemon.get("/1.0/instances")
    once = shlex.join(["/bin/busybox", "sh", "-c", "mkdir /srv/once && echo x >/srv/once/file && sleep 2"])
    try:
        isola("profile", "learn", "--image", "least-app", "--command", once, "--into", "once")
        config = daemon.get("/1.0/profiles/once")["config"]
        assert {"execve", "mkdir"} <= set(config["security.syscalls.allow"].split("\n"))
        assert "/srv" in config["isola.paths.writable"].split(",") and config["isola.ports.listen"] == "none"
        asked = 'test -n "$ISOLA_INSTANCE" && exit 7'
        done = isola(
            "profile", "learn", "--image", "least-app", "--command", "/bin/busybox sleep 99", "--while", asked,
            check=False,
        )  # fmt: skip
        assert done.returncode == 7, done.stderr
        assert daemon.get("/1.0/instances") == before
        for wrong in ((), ("one", "--image", "least-app"), ("one", "--command", "x")):
            assert isola("profile", "learn", *wrong, check=False).returncode == 2
    finally:
        isola("profile", "delete", "once", check=False)


def test_what_was_learned_works_and_the_rest_is_refused(daemon: Daemon, confined: str) -> None:
    assert run(daemon, confined, FETCH)[:2] == (0, "hello\n")
    status, _, errors = run(daemon, confined, "busybox chown 1 /srv/www/index.html")
    assert status != 0 and "not permitted" in errors
    status, _, errors = run(daemon, confined, "echo x >/etc/new")
    assert status != 0 and "Read-only file system" in errors
    assert run(daemon, confined, "echo x >/srv/www/more && echo x >/tmp/more")[0] == 0


def test_what_a_sandbox_refuses_is_reported(daemon: Daemon, least: str) -> None:
    """By its own kernel; also to a daemon that has adopted it, after it was restored, and just before its end.

    Without what reads its log it runs on, and that is said.
    """
    isola, name = Cli(daemon), "least-told"
    script = "while sleep 0.2; do busybox chown 1 /tmp; test ! -e /tmp/end || { busybox chroot / true; exit; }; done"
    config = {"oci.entrypoint": shlex.join(["/bin/busybox", "sh", "-c", script]), "isola.isolation": "sandbox"}
    daemon.launch(name, "least-app", config=config, profiles=["default", least])

    def told() -> str:
        return isola("profile", "refusals", name).stdout

    try:
        until(lambda: re.search(r"chown of busybox, \d+ times", told()))
        (reader,) = daemon.directory.glob("run/*/refused.pid")
        daemon.kill()
        daemon.start()
        os.kill(int(reader.read_text()), signal.SIGKILL)
        until(lambda: "was ended" in told())
        assert run(daemon, name, "true")[0] == 0
        daemon.run("PUT", f"/1.0/instances/{name}/state", {"action": "stop", "stateful": True})
        daemon.run("PUT", f"/1.0/instances/{name}/state", {"action": "start", "stateful": True})
        assert "chroot" not in told()
        run(daemon, name, "echo >/tmp/end")
        until(lambda: daemon.get(f"/1.0/instances/{name}")["status"] == "Stopped")
        until(lambda: "chroot of busybox, once" in told())
    finally:
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def test_other_ports_are_refused(daemon: Daemon, confined: str) -> None:
    """In a container by the call; what leaves a sandbox is dropped."""
    gateway = daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"].partition("/")[0]
    bounded = "timeout 3 " if confined == "least-sandbox" else ""

    def connected(port: int) -> str:
        """Whether the answer of the host has come: nothing listens there."""
        _, _, errors = run(daemon, confined, f"busybox {bounded}wget -O /tmp/page http://{gateway}:{port}/")
        return next((word for word in ("refused", "not permitted") if word in errors), "no answer")

    no = "not permitted" if confined == "least-container" else "no answer"
    assert [connected(8080), connected(8081)] == ["refused", no]
    daemon.run("PATCH", f"/1.0/instances/{confined}", {"config": {"isola.ports.connect": "tcp/8081"}})
    assert [connected(8080), connected(8081)] == [no, "refused"]
    if confined == "least-container":
        assert "not permitted" in run(daemon, confined, "busybox httpd -f -p 9090")[2]
        daemon.kill()
        daemon.start()
        assert connected(8082) == no
        isola = Cli(daemon)
        until(lambda: "connecting to tcp/8082" in isola("profile", "refusals", confined).stdout)
        assert "listening on tcp/9090" in isola("profile", "refusals", confined).stdout


def test_refused_calls_are_reported() -> None:
    """By a daemon in the host's network: the kernel reports them nowhere else."""
    daemon = Daemon(mirror=True)
    try:
        daemon.start()
        daemon.run("POST", "/1.0/storage-pools", {"name": "default", "driver": "overlay"})
        import_application(daemon, "app")
        config = {"oci.entrypoint": "/bin/sleep 100000", "security.syscalls.allow": "kill,fork\nvfork"}
        config |= {"boot.host_shutdown_timeout": "1"}  # its first process ignores the signal
        daemon.launch("told", "app", config=config, devices={"root": {"type": "disk", "path": "/", "pool": "default"}})
        isola = Cli(daemon)
        assert run(daemon, "told", "busybox chown 1 /tmp")[0] != 0
        until(lambda: "chown of /bin/busybox" in isola("profile", "refusals", "told").stdout)
        assert not isola("profile", "refusals", "another").stdout.count("busybox")
    finally:
        daemon.close()


def test_an_instance_with_a_list_is_not_recorded(daemon: Daemon, confined: str) -> None:
    with pytest.raises(ApiError):
        daemon.run("POST", f"/1.0/instances/{confined}/learning")
