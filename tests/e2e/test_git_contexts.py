"""Builds whose files the daemon fetches: Git repositories, archives and Dockerfiles of HTTP servers, by all doors."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import git_server
import pytest
from application_image import import_application
from buildkit_client import Files, builder
from command import Cli
from daemon import Connection, Daemon
from image_files import files_of
from waiting import until

PORT = 18099
NAME = "docker.io/library/fetched:latest"


@dataclass
class Stand:
    """A daemon, and a server in its network."""

    daemon: Daemon
    url: str
    first: str

    def build(self, remote: str, body: bytes = b"", **query: str) -> str:
        """What the classic protocol answers."""
        more = "".join(f"&{name}={quote(value, safe='')}" for name, value in query.items())
        connection = Connection(self.daemon.directory / "docker.sock", 120)
        try:
            connection.request("POST", f"/build?t=fetched&remote={quote(remote, safe='')}{more}", body)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def add(self, instructions: str) -> dict[str, bytes]:
        """Files of an image with these instructions; the Dockerfile is fetched as well."""
        (Path(self.root) / "Dockerfile.txt").write_text(f"FROM app\n{instructions}\n")
        said = self.build(f"{self.url}/plain/Dockerfile.txt")
        assert "Successfully built" in said, said
        return files_of(self.daemon, NAME)

    root: str = ""


@pytest.fixture(scope="module")
def stand(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    root = tmp_path_factory.mktemp("git")
    first = git_server.make_repository(root)
    fingerprint = import_application(daemon, "app")
    server = subprocess.Popen(
        [*daemon._enter, sys.executable, git_server.__file__, str(root), str(PORT)], stdin=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{PORT}"
        until(lambda: daemon.inside("curl", "-s", f"{url}/plain/x", check=False).returncode == 0)
        yield Stand(daemon, url, first, str(root))
    finally:
        server.kill()
        server.wait()
        alias = daemon.get("/1.0/images/aliases")
        if any("fetched" in path for path in alias):
            target = daemon.get(f"/1.0/images/aliases/{quote(NAME, safe='')}")["target"]
            daemon.run("DELETE", f"/1.0/images/{target}")
        daemon.run("DELETE", f"/1.0/images/{fingerprint}")


@pytest.fixture(autouse=True)
def nothing_left(stand: Stand) -> Iterator[None]:
    yield
    builds = stand.daemon.directory / "builds"
    until(lambda: [path.name for path in builds.iterdir() if path.name != "cache"] == [])


def test_add_of_repositories(stand: Stand) -> None:
    url = f"{stand.url}/smart/app.git"
    found = stand.add(
        f"ADD {url}#v1:server /one/\nADD --keep-git-dir=true --checksum={stand.first[:12]} {url}#v1 /kept\n"
        f"ADD --chown=5:6 --chmod=0700 --exclude=server {url}#next /next/"
    )
    assert found["/one/page"] == b"one\n" and found["/kept/server/page"] == b"one\n"
    assert found["/kept/.git/HEAD"].decode().strip() == stand.first and "/next/server/page" not in found
    assert not [path for path in found if "/.git/" in path and not path.startswith("/kept/")]
    stand.add(f"ADD {url} /all")
    again = stand.build(f"{stand.url}/plain/Dockerfile.txt")
    assert "Using cache" in again and "Submodules" not in again, "it is the same commit"


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (f"ADD --checksum={'0' * 12} URL#v1 /", "expected checksum to match 000000000000, got"),
        ("ADD URL#missing /", "no branch, tag or commit missing"),
        ("ADD URL#:etc /", "no directory etc"),
        ("ADD git@example.org:a.git /", "fetched by https and http only"),
    ],
)
def test_repositories_that_cannot_be_added(stand: Stand, instructions: str, message: str) -> None:
    text = "FROM app\n" + instructions.replace("URL", f"{stand.url}/smart/app.git") + "\n"
    (Path(stand.root) / "Dockerfile.txt").write_text(text)
    assert message in stand.build(f"{stand.url}/plain/Dockerfile.txt")


def test_contexts_of_the_classic_protocol(stand: Stand) -> None:
    assert "two\\n" in stand.build(f"{stand.url}/moved/app.git")
    assert "next\\n" in stand.build(f"{stand.url}/plain/app.git#next:server", nocache="1")
    kept = stand.build(f"{stand.url}/smart/app.git#next:server", buildargs='{"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}')
    assert "Successfully built" in kept and "not consumed" not in kept
    with tarfile.open(Path(stand.root) / "context.tar", "w") as archive:
        archive.add(Path(stand.root) / "tree", arcname=".")
    assert "Successfully built" in stand.build(f"{stand.url}/plain/context.tar")
    for remote, message in (
        ("/etc/passwd", "Not an address of a context"),
        ("file:///etc/x.git", "Not an address of a context"),
        (f"{stand.url}/plain/none", "status 404"),
        (f"{stand.url}/plain/tree/.gitmodules", "unknown instruction"),
    ):
        assert message in stand.build(remote)


async def test_a_context_of_a_client_of_buildkit(stand: Stand) -> None:
    files = Files({}, secrets={"GIT_AUTH_TOKEN": git_server.TOKEN.encode()})
    async with builder(stand.daemon.directory / "docker.sock", files) as client:
        done = await client.build("fetched", {"context": f"{stand.url}/login/app.git#v1", "no-cache": ""})
        output = b"".join(log.blob(4) for response in await client.told(1) for log in response.messages(3))
    assert done["image.name"] == NAME and b"one\n" in output


def test_the_command(stand: Stand) -> None:
    isola = Cli(stand.daemon)
    said = isola(
        "build", f"{stand.url}/smart/app.git#next:server", "-t", "fetched", "--no-cache", "--progress", "plain"
    )
    assert "next\n" in said.stderr + said.stdout
    failed = isola("build", f"{stand.url}/login/app.git", check=False)
    assert failed.returncode == 1 and "GIT_AUTH_TOKEN" in failed.stderr
