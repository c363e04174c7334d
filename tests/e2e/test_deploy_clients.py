"""Deployments with clients that stay connected, and versions that are built, listed, returned to and pruned."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_image import import_application
from command import Cli
from daemon import Daemon

_CLIENT = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", 18090)) as one:
    one.sendall(b"GET /cgi-bin/slow HTTP/1.0\\r\\n\\r\\n")
    print("connected", flush=True)
    print(b"".join(iter(lambda: one.recv(4096), b"")).decode().splitlines()[-1])
"""


@pytest.fixture
def place(daemon: Daemon, isola: Cli, tmp_path: Path) -> Iterator[Path]:
    """A directory with a program that answers slowly, and with its version."""
    fingerprint = import_application(daemon, "docker.io/library/base:1")
    (tmp_path / "slow").write_text("#!/bin/sh\nsleep 4\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s' \"$VERSION\"\n")
    (tmp_path / "slow").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(
        "FROM base:1\nARG VERSION\nENV VERSION=$VERSION\nCOPY --chmod=755 slow /srv/cgi-bin/slow\n"
        'STOPSIGNAL SIGKILL\nCMD ["httpd", "-f", "-p", "8080", "-h", "/srv"]\n'
    )
    yield tmp_path
    for name in ("web", "web-previous"):
        isola("delete", "--force", name, check=False)
    for image in json.loads(isola("image", "list", "--format", "json").stdout):
        if image["fingerprint"] != fingerprint and any("/web:" in each["name"] for each in image["aliases"]):
            isola("image", "delete", image["fingerprint"])
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


def _deploy(isola: Cli, place: Path, version: str, *more: str) -> float:
    """The time that it took."""
    begun = time.monotonic()
    isola("deploy", str(place), "web", "--build-arg", f"VERSION={version}", "--settle", "0", *more)
    return time.monotonic() - begun


def _versions(isola: Cli) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(isola("versions", "web", "--format", "json").stdout)
    return found


def _built(isola: Cli) -> set[str]:
    """Names of images of deployments, also of those that other tests have left."""
    found = json.loads(isola("image", "list", "--format", "json").stdout)
    return {alias["name"] for image in found for alias in image["aliases"] if "/web:" in alias["name"]}


def test_answers_that_were_begun_are_finished_and_versions_are_kept(isola: Cli, daemon: Daemon, place: Path) -> None:
    before = _built(isola)
    config = ("--publish", "18090:8080", "--config", "isola.deploy.images=2", "--volume", "web-data:/data")
    _deploy(isola, place, "one", *config)
    client = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{daemon.netns}", "python3", "-c", _CLIENT], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None and client.stdout.readline() == "connected\n"
    _deploy(isola, place, "two", "--drain", "60", "--stop-timeout", "1")
    assert client.communicate(timeout=120)[0] == "one\n", "the old version has finished its answer"
    isola("exec", "web", "--", "sh", "-c", "echo kept > /data/file")
    for version in ("three", "four"):
        time.sleep(1.1)  # names of images have seconds
        _deploy(isola, place, version, "--stop-timeout", "1")
    states = [each["state"] for each in _versions(isola)]
    assert states == ["serves", "kept", "image"]
    assert len(_built(isola) - before) == 3, "the image of the first version is removed"
    isola("rollback", "web", "--to", _versions(isola)[2]["version"], "--settle", "0", "--stop-timeout", "1")
    assert isola("exec", "web", "--", "sh", "-c", "echo $VERSION; cat /data/file").stdout == "two\nkept\n"
    isola("rollback", "web", "--settle", "0", "--stop-timeout", "1")
    assert isola("exec", "web", "--", "sh", "-c", "echo $VERSION").stdout == "four\n"
    isola("rollback", "web", "--settle", "0", "--stop-timeout", "1")
    assert isola("exec", "web", "--", "sh", "-c", "echo $VERSION").stdout == "two\n", "twice is forward again"
