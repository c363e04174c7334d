"""The registry between daemons and through kills: a Debian system goes from one daemon to another, pushes go on."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_image import import_application
from command import Cli
from daemon import Daemon
from debian import debian_image
from registry_content import EMPTY, MANIFEST, blob
from registry_host import ADDRESS, RegistryHost
from tiny_daemon import tiny_daemon
from waiting import booted, until

_SENDER = """
import http.client, ssl, sys
context = ssl._create_unverified_context()
link = http.client.HTTPSConnection(sys.argv[1], context=context, timeout=60)
login = {"Authorization": sys.argv[2]}
link.request("POST", "/v2/team/big/blobs/uploads/", headers=login)
path = link.getresponse().headers["Location"]
print(path, flush=True)
link.close()
def body():
    while True:
        yield b"x" * 65536
link.request("PATCH", path, body(), headers=login, encode_chunked=True)
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryHost]:
    place = tmp_path_factory.mktemp("registry")
    with tiny_daemon(place) as daemon:
        yield RegistryHost(daemon, place)


class Link:
    """One HTTPS client in the registry's namespace: each request is a process there."""

    def __init__(self, registry: RegistryHost) -> None:
        self.registry = registry
        self.login = "Basic " + base64.b64encode(f"ci:{registry.secret}".encode()).decode()

    def ask(self, method: str, path: str, *options: str, data: bytes = b"") -> tuple[int, dict[str, str]]:
        """Status and headers."""
        argv = ["curl", "-sk", "-X", method, "-o", "/dev/null", "-D", "-", "-H", f"Authorization: {self.login}"]
        if method == "HEAD":
            argv = ["curl", "-sk", "--head", "-H", f"Authorization: {self.login}"]
        body = ["--data-binary", "@-"] if data else []
        enter = ["nsenter", f"--net=/run/netns/{self.registry.daemon.netns}"]
        full = [*enter, *argv, *options, *body, f"https://{ADDRESS}{path}"]
        done = subprocess.run(full, input=data, capture_output=True, timeout=60, check=True)
        first, *lines = done.stdout.decode().split("\r\n\r\n")[-2].splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}

    def answers(self) -> bool:
        """After a restart the address of the API may be served later than the socket."""
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.ask("GET", "/v2/")[0] == 200
        return False


def uploads(daemon: Daemon) -> list[Path]:
    return list((daemon.directory / "images" / "uploads").iterdir())


def test_an_upload_goes_on_after_the_daemon_is_killed(registry: RegistryHost) -> None:
    daemon, link = registry.daemon, Link(registry)
    enter = ["nsenter", f"--net=/run/netns/{daemon.netns}"]
    sender = subprocess.Popen(
        [*enter, "/usr/bin/python3", "-c", _SENDER, ADDRESS, link.login],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert sender.stdout is not None
    path = sender.stdout.readline().strip()
    upload = daemon.directory / "images" / "uploads" / path.rpartition("/")[2]
    until(lambda: upload.exists() and upload.stat().st_size > 8 << 20)
    daemon.kill()
    sender.kill()
    sender.wait()
    daemon.start()
    until(link.answers)
    status, headers = link.ask("GET", path)
    received = int(headers["range"].removeprefix("0-")) + 1
    assert status == 204 and received == upload.stat().st_size > 8 << 20
    digest = "sha256:" + hashlib.sha256(b"x" * received + b"end").hexdigest()
    status, _ = link.ask("PATCH", path, "-H", f"Content-Range: {received}-{received + 2}", data=b"end")
    assert status == 202
    assert link.ask("PUT", f"{path}?digest={digest}", "-H", "Content-Length: 0")[0] == 201
    status, headers = link.ask("HEAD", f"/v2/team/big/blobs/{digest}")
    assert (status, headers["content-length"]) == (200, str(received + 3))
    assert not upload.exists()
    assert link.ask("DELETE", f"/v2/team/big/blobs/{digest}")[0] == 202
    stored = daemon.directory / "images" / "blobs" / "sha256" / digest[7:]
    until(lambda: not stored.exists())


def test_pushes_and_kills_leave_a_consistent_store(registry: RegistryHost) -> None:
    """A client pushes small artifacts all the time while the daemon is killed; what was answered with 201 is there."""
    daemon, link = registry.daemon, Link(registry)
    stop, pushed = threading.Event(), list[str]()

    def push() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            payload = f"payload {number}".encode()
            manifest = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": blob(b"{}", EMPTY),
                    "layers": [blob(payload, "text/plain")],
                }
            ).encode()
            try:
                for data in (b"{}", payload):
                    digest = "sha256:" + hashlib.sha256(data).hexdigest()
                    assert link.ask("POST", f"/v2/team/many/blobs/uploads/?digest={digest}", data=data)[0] == 201
                kind = ("-H", f"Content-Type: {MANIFEST}")
                if link.ask("PUT", f"/v2/team/many/manifests/{number}", *kind, data=manifest)[0] == 201:
                    pushed.append(str(number))
            except (subprocess.SubprocessError, AssertionError, IndexError, http.client.HTTPException):
                time.sleep(0.05)

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        for _ in range(4):
            count = len(pushed)
            until(lambda count=count: len(pushed) > count + 3)  # type: ignore[misc]
            daemon.kill()
            daemon.start()
    finally:
        stop.set()
        pusher.join(60)
    assert len(pushed) > 12
    shown = daemon.get("/1.0/isola/registry/repositories/team/many")
    assert set(pushed) <= {each["tag"] for each in shown["manifests"]}
    for number in pushed:
        assert link.ask("GET", f"/v2/team/many/manifests/{number}")[0] == 200
    daemon.request("DELETE", "/1.0/isola/registry/repositories/team/many")
    left = {path.name for path in (daemon.directory / "images" / "blobs" / "sha256").iterdir()}
    until(lambda: len(list((daemon.directory / "images" / "blobs" / "sha256").iterdir())) < len(left))
    assert daemon.get("/1.0/isola/unknown") == []


@pytest.mark.timeout(600)
def test_a_debian_system_goes_to_another_daemon(debian: Daemon, registry: RegistryHost, tmp_path: Path) -> None:
    """Out of one daemon's registry and into the other's; it runs there as a system container."""
    source = RegistryHost(debian, tmp_path)
    try:
        source.skopeo("copy", f"docker://{ADDRESS}/debian/12", f"oci:{tmp_path}/debian:12")
    finally:
        debian.request("PATCH", "/1.0", {"config": {"core.https_address": ""}})
        debian.request("DELETE", "/1.0/isola/registry/tokens/ci")
    registry.skopeo("copy", f"oci:{tmp_path}/debian:12", f"docker://{ADDRESS}/systems/debian:12")
    isola = Cli(registry.daemon)
    found = registry.daemon.get("/1.0/images/aliases/systems/debian:12")
    image = registry.daemon.get(f"/1.0/images/{found['target']}")
    assert image["architecture"] == os.uname().machine
    isola("launch", "systems/debian:12", "d1")
    try:
        booted(registry.daemon, "d1")
    finally:
        isola("delete", "--force", "d1")


@pytest.fixture
def neighbour(registry: RegistryHost, tmp_path: Path) -> Iterator[Cli]:
    """The command of another daemon in the same namespace, which trusts the registry's certificate and logs in."""
    trusted = {"SSL_CERT_FILE": str(registry.certificates / "ca.crt")}
    daemon = Daemon(beside=registry.daemon, environment=trusted)
    try:
        daemon.start()
        login = base64.b64encode(f"ci:{registry.secret}".encode()).decode()
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {ADDRESS: {"auth": login}}}))
        isola = Cli(daemon)
        isola.env |= {"HOME": str(tmp_path)}
        yield isola
    finally:
        daemon.close()


@pytest.mark.timeout(600)
def test_a_daemon_pushes_a_debian_system_and_pulls_it_back(registry: RegistryHost, neighbour: Cli) -> None:
    reference = f"{ADDRESS}/systems/pushed:12"
    neighbour.daemon.import_split(*debian_image(), "debian/12")
    neighbour("image", "push", "debian/12", reference)
    isola = Cli(registry.daemon)
    isola("launch", "systems/pushed:12", "d2")
    try:
        booted(registry.daemon, "d2")
    finally:
        isola("delete", "--force", "d2")
    neighbour("image", "delete", "debian/12")
    neighbour("image", "pull", reference)
    neighbour("launch", reference, "d3")
    try:
        booted(neighbour.daemon, "d3")
    finally:
        neighbour("delete", "--force", "d3")
    wrong = neighbour("image", "pull", f"{ADDRESS}/systems/missing:1", check=False)
    assert wrong.returncode != 0 and "missing" in wrong.stderr


def test_a_build_begins_where_another_daemon_ended(neighbour: Cli, registry: RegistryHost, tmp_path: Path) -> None:
    """By a cache in the registry, one in a directory, and one in an image; the daemon itself has kept nothing."""
    fingerprint, place, local = import_application(neighbour.daemon, "app"), tmp_path / "context", tmp_path / "cache"
    place.mkdir()
    (place / "Dockerfile").write_text(
        "FROM app AS one\nRUN hostname > /name\nFROM app\nCOPY --from=one /name /\nRUN cat /name > /again\n"
    )
    cache, image = f"{ADDRESS}/ci/cache", f"{ADDRESS}/ci/app:1"
    targets = (f"type=registry,ref={cache}", f"type=local,dest={local}", "type=inline")
    neighbour("build", str(place), "-t", image, "--push", *(each for to in targets for each in ("--cache-to", to)))
    (made,) = set(neighbour.daemon.get("/1.0/images")) - {f"/1.0/images/{fingerprint}"}
    neighbour.daemon.run("DELETE", made)
    for source, cached in ((cache, 3), (f"type=local,src={local}", 3), (image, 0), (f"{ADDRESS}/ci/none", 0)):
        neighbour.daemon.request("DELETE", "/1.0/isola/builds/cache")
        told = neighbour("build", str(place), "-t", image, "--cache-from", source, "--cache-to", "type=inline").stderr
        assert told.count("(from the cache)") == cached, f"{source}: {told}"
        (again,) = set(neighbour.daemon.get("/1.0/images")) - {f"/1.0/images/{fingerprint}"}
        assert (again == made) == bool(cached), "the same files, with the same history"
        neighbour.daemon.run("DELETE", again)
    assert "is not imported" in told
    assert neighbour.daemon.get("/1.0/isola/unknown") == []
