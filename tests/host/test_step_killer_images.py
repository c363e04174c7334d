"""A failure, cancellation and kill at every step of verbs for images: nothing is left over, and nothing is missing."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from application_image import import_application
from audit import records
from change_walk import changes_of, walk_changes
from daemon import ApiError, Connection, Daemon
from debian_registry import PASSWORD, USER, DebianRegistry
from registry_content import image, index
from registry_host import ADDRESS, RegistryHost
from step_walk import ACTIONS, Verb, walk, walked_daemon

BASE, BUILT, IMPORTED = "docker.io/library/app:latest", "docker.io/library/built:1", "docker.io/library/imported:1"
REMOTE = f"{DebianRegistry.address}/team/app:1"
COPY = f"{DebianRegistry.address}/team/copy:1"
DOCKERFILE = (
    "FROM app AS one\nRUN --mount=type=cache,target=/c touch /c/a /one\nFROM app\nCOPY a /a\nCOPY --from=one /one /\n"
)
PUSHED = index(image("new"), image("arm", architecture="arm64"))
PUSH = """
import base64, http.client, json, ssl, sys
login, steps = json.load(sys.stdin)
link = http.client.HTTPSConnection(sys.argv[1], context=ssl._create_unverified_context(), timeout=30)
for method, path, kind, data in steps:
    head = {"Authorization": login, "Content-Type": kind}
    if method == "PATCH":
        link.request("POST", path, headers=head)
        answer = link.getresponse()
        answer.read()
        place, digest = answer.headers["Location"], kind
        link.request("PATCH", place, base64.b64decode(data), headers={"Authorization": login})
        answer = link.getresponse()
        answer.read()
        method, path, data = "PUT", answer.headers["Location"] + "?digest=" + digest, ""
    link.request(method, path, base64.b64decode(data), headers=head)
    answer = link.getresponse()
    body = answer.read()
    assert answer.status < 300 or (method == "DELETE" and answer.status == 404), (method, path, answer.status, body)
"""


@dataclass(frozen=True)
class Bed:
    """A daemon with an application image, a registry beside it, and a login to its own one."""

    daemon: Daemon
    remote: DebianRegistry
    own: RegistryHost

    def docker(self, method: str, path: str, body: bytes = b"", auth: str = "") -> bytes:
        """A request to the Docker Engine API. An error, also one in the stream, is an AssertionError."""
        connection = Connection(self.daemon.directory / "docker.sock", 60)
        try:
            connection.request(method, path, body=body, headers={"X-Registry-Auth": auth} if auth else {})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status < 300 and b'"errorDetail"' not in data, data
        return data

    def registry(self, *steps: tuple[str, str, str, bytes]) -> None:
        """Requests to the daemon's own registry, one after the other."""
        login = "Basic " + base64.b64encode(f"ci:{self.own.secret}".encode()).decode()
        text = json.dumps([login, [(*step[:3], base64.b64encode(step[3]).decode()) for step in steps]])
        done = self.own.run("/usr/bin/python3", "-c", PUSH, ADDRESS, input=text, check=False)
        assert done.returncode == 0, done.stderr

    def forget(self, *names: str) -> None:
        """Remove images by name, those that are there."""
        for name in names:
            with contextlib.suppress(ApiError):
                target = self.daemon.get(f"/1.0/images/aliases/{quote(name, safe='')}")["target"]
                self.daemon.run("DELETE", f"/1.0/images/{target}")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    scratch = tmp_path_factory.mktemp("image")
    (scratch / "registry").mkdir()
    with walked_daemon(scratch) as daemon:
        import_application(daemon, BASE)
        remote = DebianRegistry(daemon, scratch / "registry")
        try:
            remote.start()
            remote.trust_in(daemon)
            found = Bed(daemon, remote, RegistryHost(daemon, scratch))
            found.docker("POST", f"/images/create?fromSrc=-&repo={REMOTE.rpartition(':')[0]}&tag=1", other_root())
            push(found, REMOTE)
            found.forget(REMOTE)
            # The first build unpacks the base, which stays: the points of later ones are those that are walked.
            found.docker("POST", "/build?t=built:1", context())
            yield found
        finally:
            remote.end()


def other_root() -> bytes:
    """A root that the base does not share with what is pulled and imported."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("other")
        info.size = 1 << 20
        archive.addfile(info, io.BytesIO(bytes(range(256)) * 4096))
    return buffer.getvalue()


def login() -> str:
    return base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()


def push(bed: Bed, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    bed.docker("POST", f"/images/{quote(repository, safe='')}/push?tag={tag}", auth=login())


def pull(bed: Bed) -> None:
    repository, _, tag = REMOTE.rpartition(":")
    bed.docker("POST", f"/images/create?fromImage={quote(repository)}&tag={tag}", auth=login())


def context() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("Dockerfile", DOCKERFILE), ("a", "A")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def has(name: str) -> Any:
    return lambda daemon: name in records(daemon, "aliases")


class Verbs:
    """What is walked, over one bed."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.pull = Verb("pull", "Pulling image", self.without(REMOTE), lambda d, r: pull(bed), has(REMOTE))
        self.push = Verb("push", "Pushing image", self.not_pushed, lambda d, r: push(bed, COPY), self.is_pushed)
        self.build = Verb("build", "Building image", self.not_built, self.do_build, has(BUILT))
        self.delete = Verb(
            "delete", "Deleting image", self.is_imported, self.do_delete, lambda d: not has(IMPORTED)(d), fewest=2
        )
        self.archive = Verb(
            "import", "Importing root file system", self.without(IMPORTED), self.do_import, has(IMPORTED), fewest=2
        )
        self.save = Verb("save", "", self.is_imported, self.do_save, has(IMPORTED))
        self.upload = Verb("upload", "", self.not_uploaded, self.do_upload, has("team/victim:1"))
        self.drop = Verb("drop", "", self.is_uploaded, self.do_drop, lambda d: not has("team/victim:1")(d))

    def without(self, *names: str) -> Callable[[Daemon, str], None]:
        return lambda daemon, runtime: self.bed.forget(*names)

    def not_pushed(self, daemon: Daemon, runtime: str) -> None:
        """The image has the name, but the registry has not."""
        repository, _, tag = COPY.rpartition(":")
        self.bed.docker("POST", f"/images/app/tag?repo={quote(repository)}&tag={tag}")
        (self.bed.remote.storage / "docker/registry/v2/repositories/team/copy/_manifests/tags/1/current/link").unlink(
            missing_ok=True
        )

    def is_pushed(self, daemon: Daemon) -> bool:
        place = self.bed.remote.storage / "docker/registry/v2/repositories/team/copy/_manifests/tags/1/current/link"
        return place.exists()

    def not_built(self, daemon: Daemon, runtime: str) -> None:
        self.bed.forget(BUILT)
        self.bed.docker("POST", "/build/prune")

    def do_build(self, daemon: Daemon, runtime: str) -> None:
        self.bed.docker("POST", "/build?t=built:1", context())

    def do_import(self, daemon: Daemon, runtime: str) -> None:
        self.bed.docker("POST", "/images/create?fromSrc=-&repo=imported&tag=1", other_root())

    def is_imported(self, daemon: Daemon, runtime: str) -> None:
        if not has(IMPORTED)(daemon):
            self.do_import(daemon, runtime)

    def do_delete(self, daemon: Daemon, runtime: str) -> None:
        self.bed.docker("DELETE", "/images/imported:1")

    def do_save(self, daemon: Daemon, runtime: str) -> None:
        with tarfile.open(fileobj=io.BytesIO(self.bed.docker("GET", "/images/imported:1/get"))) as archive:
            assert "manifest.json" in archive.getnames()

    def not_uploaded(self, daemon: Daemon, runtime: str) -> None:
        self.bed.registry(("DELETE", "/v2/team/victim/manifests/1", "", b""))
        with contextlib.suppress(ApiError):
            daemon.request("DELETE", "/1.0/isola/registry/repositories/team/victim")

    def do_upload(self, daemon: Daemon, runtime: str) -> None:
        steps = []
        for each in PUSHED.manifests:
            steps += [("PATCH", "/v2/team/victim/blobs/uploads/", digest, data) for digest, data in each.blobs.items()]
            steps.append(("PUT", f"/v2/team/victim/manifests/{each.digest}", each.media_type, each.data))
        self.bed.registry(*steps, ("PUT", "/v2/team/victim/manifests/1", PUSHED.media_type, PUSHED.data))

    def is_uploaded(self, daemon: Daemon, runtime: str) -> None:
        if not has("team/victim:1")(daemon):
            self.do_upload(daemon, runtime)

    def do_drop(self, daemon: Daemon, runtime: str) -> None:
        """The tag, and then all else."""
        self.bed.registry(("DELETE", "/v2/team/victim/manifests/1", "", b""))
        with contextlib.suppress(ApiError):
            daemon.request("DELETE", "/1.0/isola/registry/repositories/team/victim")


def tidied(bed: Bed, name: str) -> None:
    """Results of builds may stay until they are pruned."""
    if name == "build":
        bed.docker("POST", "/build/prune")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["pull", "push", "build", "delete", "archive"])
def test_every_step_of(bed: Bed, name: str, action: str) -> None:
    verb: Verb = getattr(Verbs(bed), name)
    walk(bed.daemon, verb, "", action, tidy=lambda daemon: tidied(bed, name))
    verb.prepare(bed.daemon, "")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["pull", "push", "build", "delete", "archive", "upload", "drop"])
def test_a_kill_before_every_change_of_a_file_by(bed: Bed, name: str) -> None:
    verb: Verb = getattr(Verbs(bed), name)
    walk_changes(bed.daemon, verb, tidy=lambda daemon: tidied(bed, name))
    verb.prepare(bed.daemon, "")


def test_saving_changes_no_file(bed: Bed) -> None:
    assert changes_of(bed.daemon, Verbs(bed).save) == []
