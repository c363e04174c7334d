"""Debian's docker CLI and docker-registry, unmodified: images pushed, pulled, named and removed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Cli
from daemon import Daemon
from debian_registry import PASSWORD, USER, DebianRegistry
from large_image import SIZE, large_image
from waiting import until


class Docker:
    """The ``docker`` command with the socket of a daemon."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.env = os.environ | {
            "DOCKER_HOST": f"unix://{daemon.directory}/docker.sock",
            "DOCKER_CONFIG": str(home),
            "NO_COLOR": "1",
        }

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"capture_output": True, "text": True, "timeout": 120} | options
        done = subprocess.run(["docker", *arguments], env=self.env, check=False, **options)
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done

    def login(self, registry: str) -> None:
        self("login", "-u", USER, "--password-stdin", registry, input=PASSWORD)


@pytest.fixture(scope="module")
def registry(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """Trusted by the daemon."""
    registry = DebianRegistry(daemon, tmp_path_factory.mktemp("registry"))
    try:
        registry.start()
        registry.trust_in(daemon)
        yield registry
    finally:
        registry.end()


@pytest.fixture(scope="module")
def docker(daemon: Daemon, registry: DebianRegistry, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    """Logged in to the registry."""
    docker = Docker(daemon, tmp_path_factory.mktemp("docker"))
    docker.login(registry.address)
    return docker


@pytest.fixture
def second(daemon: Daemon, registry: DebianRegistry, tmp_path: Path) -> Iterator[tuple[Daemon, Docker]]:
    """Another daemon that trusts the registry, in the same network namespace, and its docker."""
    other = Daemon(beside=daemon)
    try:
        other.start()
        registry.trust_in(other)
        docker = Docker(other, tmp_path)
        docker.login(registry.address)
        yield other, docker
    finally:
        other.close()


def large(docker: Docker, daemon: Daemon, scratch: Path, name: str) -> None:
    """Import a large image under a name."""
    found = daemon.import_image(large_image(scratch), name.rpartition("/")[2].replace(":", "-"))
    docker("tag", found[:12], name)


def test_a_system_image_goes_to_another_daemon_and_runs_there(
    docker: Docker, registry: DebianRegistry, second: tuple[Daemon, Docker]
) -> None:
    name = f"{registry.address}/team/tiny:1"
    docker("tag", "tiny", name)
    pushed = docker("push", name).stdout
    assert "Pushed" in pushed and "1: digest: sha256:" in pushed
    assert "Layer already exists" in docker("push", name).stdout
    other, its_docker = second
    pulled = its_docker("pull", name).stdout
    assert "Pull complete" in pulled and f"Status: Downloaded newer image for {name}" in pulled
    assert f"Status: Image is up to date for {name}" in its_docker("pull", name).stdout
    isola = Cli(other)
    isola("launch", name, "c1")
    assert isola("exec", "c1", "--", "cat", "/etc/os-release").stdout
    listed = its_docker("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").stdout
    assert f"{registry.address}/team/tiny 1 sha256:" in listed


def test_without_credentials_nothing_is_given(daemon: Daemon, registry: DebianRegistry, tmp_path: Path) -> None:
    anonymous = Docker(daemon, tmp_path)
    done = anonymous("pull", f"{registry.address}/team/tiny:1", check=False)
    assert done.returncode == 1
    assert "pull access denied" in done.stderr
    done = anonymous("login", "-u", USER, "--password-stdin", registry.address, input="wrong", check=False)
    assert done.returncode == 1
    assert "unauthorized" in done.stderr


def test_names_and_history(docker: Docker, registry: DebianRegistry) -> None:
    docker("tag", "tiny", "mine:2")
    [image] = json.loads(docker("image", "inspect", "mine:2").stdout)
    assert {"mine:2", "tiny:latest"} <= {*image["RepoTags"]}
    assert image["RootFS"]["Layers"]
    assert docker("images", "-q", "mine").stdout.strip() == image["Id"].removeprefix("sha256:")[:12]
    assert image["Id"][7:19] not in docker("images", "--filter", "dangling=true", "-q").stdout
    assert "import" in docker("history", "--no-trunc", "mine:2").stdout
    assert docker("rmi", "mine:2").stdout == "Untagged: mine:2\n"
    done = docker("rmi", "mine:2", check=False)
    assert "No such image: mine:2" in done.stderr
    done = docker("pull", f"{registry.address}/team/none:1", check=False)
    assert "not found" in done.stderr
    done = docker("tag", "tiny", "UP", check=False)
    assert "invalid reference format" in done.stderr


def test_cut_connections_do_not_end_transfers(
    docker: Docker, daemon: Daemon, registry: DebianRegistry, second: tuple[Daemon, Docker], tmp_path: Path
) -> None:
    name = f"{registry.cut_address}/team/large:1"
    count = registry.start_cutting(8 << 20, 2)
    docker.login(registry.cut_address)
    large(docker, daemon, tmp_path, name)
    docker("push", name)
    # This registry refuses to continue within a request: what was cut is sent again, and nothing else.
    assert SIZE < int(count.read_text()) < SIZE + 2 * (8 << 20) + (3 << 20)
    registry.end_cutting()
    count = registry.start_cutting(8 << 20, 3)
    _, its_docker = second
    its_docker.login(registry.cut_address)
    assert "Pull complete" in its_docker("pull", name).stdout
    came = int(count.read_text())
    assert SIZE < came < SIZE * 1.3


def test_a_flipped_byte_is_refused(
    docker: Docker, registry: DebianRegistry, second: tuple[Daemon, Docker], tmp_path: Path
) -> None:
    name = f"{registry.address}/team/flipped:1"
    docker("tag", "tiny", name)
    docker("push", name)
    [image] = json.loads(docker("image", "inspect", name).stdout)
    manifest = json.loads(registry.blob(image["Descriptor"]["digest"]).read_bytes())
    blob = registry.blob(manifest["layers"][0]["digest"])
    whole = blob.read_bytes()
    blob.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    try:
        _, its_docker = second
        done = its_docker("pull", name, check=False)
        assert done.returncode == 1
        assert "does not match its digest" in done.stderr
        assert its_docker("images", "-q").stdout == ""
    finally:
        blob.write_bytes(whole)


def test_a_search_of_a_registry(docker: Docker, registry: DebianRegistry) -> None:
    docker("tag", "tiny", f"{registry.address}/found/tiny:1")
    docker("push", f"{registry.address}/found/tiny:1")
    done = docker("search", f"{registry.address}/found", check=False)
    assert f"{registry.address}/found/tiny" in done.stdout, done.stderr


def test_a_daemon_that_is_killed_during_a_pull_leaves_a_consistent_store(
    docker: Docker, daemon: Daemon, registry: DebianRegistry, second: tuple[Daemon, Docker], tmp_path: Path
) -> None:
    path = "team/killed:1"
    large(docker, daemon, tmp_path, f"{registry.address}/{path}")
    docker("push", f"{registry.address}/{path}")
    other, its_docker = second
    partial = other.directory / "images" / "partial"
    registry.start_holding(SIZE // 2)
    try:
        its_docker.login(registry.cut_address)
        pull = subprocess.Popen(
            ["docker", "pull", f"{registry.cut_address}/{path}"],
            env=its_docker.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        until(lambda: any(size(file) for file in partial.glob("*")), 60)
        other.kill()
        pull.communicate()
    finally:
        registry.end_cutting()
    other.start()
    assert its_docker("images", "-q").stdout == ""
    its_docker("pull", f"{registry.address}/{path}")
    assert list(partial.iterdir()) == []
    assert other.get("/1.0")["environment"]["server"] == "isola"


def size(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # small ones are complete at once
        return file.stat().st_size
    return 0
