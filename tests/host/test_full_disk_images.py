"""The disk of a daemon fills up during a verb that stores images: the verb says so, and leaves nothing incomplete."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from application_image import application_root, import_application
from audit import settled
from command import Cli
from daemon import ApiError, Daemon
from debian_registry import PASSWORD, USER, DebianRegistry
from disk import MIB, disk
from registry_client import RegistryClient
from registry_content import CONFIG, LAYER, MANIFEST, Content, blob, digest_of
from registry_host import RegistryHost, layout
from sampling import some

LOAD = 6 * MIB
"""Bytes that each verb stores at least once, and that cannot be compressed."""
TOO_FEW, MAYBE = (0, MIB, 3 * MIB, 5 * MIB), (7 * MIB, 9 * MIB, 12 * MIB, 16 * MIB)
"""Free bytes at the beginning: certainly too few, and too few for some of what follows."""
STEP = 16 << 10


class Stand:
    """A daemon on a small disk, and what its verbs store, which is elsewhere."""

    def __init__(self, daemon: Daemon, mount: Path, place: Path, content: Content) -> None:
        self.daemon, self.mount, self.place, self.content = daemon, mount, place, content
        self.isola = Cli(daemon)
        self.isola.env = self.isola.env | {"DOCKER_CONFIG": str(place)}
        self.client = RegistryClient(RegistryHost(daemon, place))
        self.root = place / "root.tar"
        self.root.write_bytes(root_archive())
        self.context = place / "context"
        self.context.mkdir()
        (self.context / "Dockerfile").write_text("FROM served\nCOPY data /data\nCMD sleep 1000\n")
        (self.context / "data").write_bytes(os.urandom(LOAD))
        import_application(daemon, "served")
        self.docker("create", "--name", "changed", "served", "true", check=True)
        self.docker("cp", str(self.context / "data"), "changed:/data", check=True)

    def docker(self, *argv: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Docker's command, with its classic builder."""
        env = os.environ | {"DOCKER_HOST": f"unix://{self.daemon.directory}/docker.sock", "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(["docker", *argv], capture_output=True, text=True, timeout=120, check=False, env=env)
        assert not check or done.returncode == 0, done.stderr
        return done

    @contextlib.contextmanager
    def with_free(self, free: int) -> Iterator[None]:
        """Fill the disk until so many bytes are free."""
        fill = self.mount / "fill"
        try:
            with fill.open("wb") as file:
                status = os.statvfs(self.mount)
                size = status.f_bavail * status.f_frsize - free
                while not allocated(file.fileno(), size):
                    size -= STEP
            yield
        finally:
            fill.unlink()

    def objects(self) -> dict[str, object]:
        """What clients see."""
        nouns = ("images", "images/aliases", "instances")
        found: dict[str, object] = {noun: sorted(self.daemon.get(f"/1.0/{noun}")) for noun in nouns}
        return found | {"repositories": self.client.ask("GET", "/v2/_catalog").json}

    def remove_all_but(self, before: dict[str, object]) -> None:
        """Delete what a verb has made."""
        for noun in ("instances", "images"):
            for path in sorted(self.daemon.get(f"/1.0/{noun}")):
                if path not in str(before[noun]):
                    self.daemon.run("DELETE", f"{path}?force=1")


def allocated(descriptor: int, size: int) -> bool:
    """Whether there was space for a file of this size."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        os.ftruncate(descriptor, 0)
        return False
    return True


def root_archive() -> bytes:
    """A root file system with data that cannot be compressed."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(application_root())) as base,
        tarfile.open(fileobj=buffer, mode="w") as archive,
    ):
        for member in base:
            archive.addfile(member, base.extractfile(member) if member.isreg() else None)
        member = tarfile.TarInfo("data")
        member.size = LOAD
        archive.addfile(member, io.BytesIO(os.urandom(LOAD)))
        for name in ("usr", "usr/bin"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
    return buffer.getvalue()


def random_image() -> Content:
    """An image of one such layer."""
    layer = root_archive()
    rootfs = {"type": "layers", "diff_ids": [digest_of(layer)]}
    about = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {"Cmd": ["/bin/sh"]}}
    config = json.dumps(about).encode()
    layers = [blob(layer, LAYER.removesuffix("+gzip"))]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(config, CONFIG), "layers": layers}
    return Content(json.dumps(document).encode(), MANIFEST, {digest_of(each): each for each in (config, layer)})


# --- the verbs: each gives why it failed, or nothing ----------------------------------------------------------------


def said(done: subprocess.CompletedProcess[str]) -> str:
    return "" if done.returncode == 0 else done.stdout + done.stderr


def pull(stand: Stand) -> str:
    return said(stand.isola("image", "pull", f"{DebianRegistry.address}/full/app:1", check=False))


def push(stand: Stand) -> str:
    for digest, data in stand.content.blobs.items():
        answer = stand.client.push_blob("pushed/app", digest, data)
        if answer.status != 201:
            break
    else:
        answer = stand.client.put("pushed/app", stand.content, "1")
    assert (answer.status, answer.code) in ((201, ""), (507, "STORAGE_FULL")), answer
    return answer.body.decode()


def load(stand: Stand) -> str:
    return said(stand.docker("load", "-i", str(stand.place / "loaded.tar")))


def build(stand: Stand) -> str:
    return said(stand.docker("build", "--no-cache", "-t", "built/app:1", str(stand.context)))


def commit(stand: Stand) -> str:
    return said(stand.docker("commit", "changed", "committed/app:1"))


def docker_import(stand: Stand) -> str:
    return said(stand.docker("import", str(stand.root), "imported/app:1"))


def image_import(stand: Stand) -> str:
    headers = {"Content-Type": "application/octet-stream"}
    try:
        answer = stand.daemon.request("POST", "/1.0/images", stand.root.read_bytes(), headers=headers)
    except ApiError as error:
        assert (error.status, error.code) == (507, "storage_full")
        return str(error)
    ended = stand.daemon.wait(answer["metadata"])
    if ended["status"] != "Success":
        assert ended["metadata"]["error"]["code"] == "storage_full", ended
    return str(ended["err"])


def deploy(stand: Stand) -> str:
    return said(stand.isola("deploy", str(stand.context), "web", "--no-cache", check=False))


VERBS: list[Callable[[Stand], str]] = [pull, push, load, build, commit, docker_import, image_import, deploy]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    place = tmp_path_factory.mktemp("stand")
    content = random_image()
    source = layout(place / "layout", content)
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (place / "config.json").write_text(json.dumps({"auths": {DebianRegistry.address: {"auth": login}}}))
    copy = ["skopeo", "--insecure-policy", "copy", source]
    subprocess.run([*copy, f"docker-archive:{place}/loaded.tar:loaded/app:1"], check=True, capture_output=True)
    with disk(size=128 * MIB, options=("-m", "0")) as own, contextlib.ExitStack() as ends:
        daemon = Daemon(place=own.mount)
        ends.callback(daemon.close)
        daemon.start()
        stand = Stand(daemon, own.mount, place, content)
        ends.callback(stand.client.close)
        registry = DebianRegistry(daemon, tmp_path_factory.mktemp("registry"))
        ends.callback(registry.end)
        registry.start()
        registry.trust_in(daemon)
        there = f"docker://{registry.address}/full/app:1"
        daemon.inside(*copy, "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}", there)
        yield stand


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_verb_without_space_says_so_and_works_with_it(stand: Stand, verb: Callable[[Stand], str]) -> None:
    before = stand.objects()
    for number, free in enumerate((*some(TOO_FEW, 1), *some(MAYBE, 1))):
        with stand.with_free(free):
            why = verb(stand)
            during = stand.objects()
        if why:
            assert "No space left" in why, f"with {free} bytes: {why}"
            assert during == before
        else:
            assert number, f"it worked with {free} bytes"  # later, a pull goes on where it was
            stand.remove_all_but(before)
        assert settled(stand.daemon) == [], f"after {why or 'success'} with {free} bytes"
    assert verb(stand) == ""
    stand.remove_all_but(before)
    assert settled(stand.daemon) == []
    assert "Traceback" not in stand.daemon.log.read_text()
