"""Images of Debian's docker-registry by our own command: pushed, pulled, launched, with the user's credentials."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import kernels
import pytest
from command import Cli
from daemon import Daemon
from debian_registry import PASSWORD, USER, DebianRegistry
from large_image import SIZE, large_image
from registry_host import ADDRESS, RegistryHost
from waiting import until


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


@pytest.fixture
def logged_in(registry: DebianRegistry, tmp_path: Path) -> dict[str, str]:
    """An environment with the user's credentials, as ``docker login`` stores them."""
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(tmp_path)}


@pytest.fixture
def second(daemon: Daemon, registry: DebianRegistry) -> Iterator[Daemon]:
    """Another daemon in the same network namespace, which trusts the registry."""
    other = Daemon(beside=daemon)
    try:
        other.start()
        registry.trust_in(other)
        yield other
    finally:
        other.close()


def command(daemon: Daemon, environment: dict[str, str]) -> Cli:
    isola = Cli(daemon)
    isola.env = isola.env | environment
    return isola


def test_an_image_is_pushed_and_launched_by_another_daemon(
    daemon: Daemon, registry: DebianRegistry, second: Daemon, logged_in: dict[str, str]
) -> None:
    name = f"{registry.address}/systems/tiny:1"
    isola = command(daemon, logged_in)
    assert f"{name} is pushed: sha256:" in isola("image", "push", "tiny", name).stderr
    there = command(second, logged_in)
    there("launch", name, "c1")
    assert there("exec", "c1", "--", "cat", "/proc/1/comm").stdout.strip()
    assert name in there("image", "list", "--format", "csv").stdout
    assert f"{name} is pulled: sha256:" in there("image", "pull", name).stderr
    there("image", "tag", name, "mine")
    there("launch", "mine", "c2")


@pytest.mark.parametrize("own", [False, True])
def test_a_unikernel_is_pushed_and_launched_by_another_daemon(
    daemon: Daemon, registry: DebianRegistry, second: Daemon, tmp_path: Path, logged_in: dict[str, str], *, own: bool
) -> None:
    """By Debian's registry, and by that of the daemon itself."""
    isola, there = command(daemon, logged_in), command(second, logged_in)
    name, kernel = f"{registry.address}/kernels/tiny:1", tmp_path / "kernel"
    kernel.write_bytes(kernels.pvh())
    options = ("--type", "unikernel", "--argument", "from {hostname}", "--alias")
    if own:
        host, name = RegistryHost(daemon, tmp_path), f"{ADDRESS}/kernels/tiny:1"
        for each in (daemon, second):
            trusted = each.directory / "certs.d" / ADDRESS / "ca.crt"
            trusted.parent.mkdir(parents=True, exist_ok=True)
            trusted.write_bytes((daemon.directory / "server.crt").read_bytes())
        auth = base64.b64encode(f"ci:{host.secret}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {ADDRESS: {"auth": auth}}}))
    isola("image", "import", str(kernel), *options, "tiny-kernel")
    isola("image", "push", "tiny-kernel", name)
    there("launch", name, "u1")
    try:
        assert second.get("/1.0/instances/u1")["isolation"] == "unikernel"
        until(lambda: "from u1\nready" in there("logs", "u1").stdout, 60)
    finally:
        there("delete", "--force", "u1", check=False)
        isola("image", "delete", "tiny-kernel", check=False)
        if own:
            daemon.request("PATCH", "/1.0", {"config": {"core.https_address": ""}})
            daemon.request("DELETE", "/1.0/isola/registry/tokens/ci")


def test_without_credentials_the_registry_refuses(
    daemon: Daemon, registry: DebianRegistry, tmp_path: Path, logged_in: dict[str, str]
) -> None:
    name = f"{registry.address}/systems/private:1"
    command(daemon, logged_in)("image", "push", "tiny", name)
    anonymous = command(daemon, {"DOCKER_CONFIG": str(tmp_path / "none")})
    for verb in (("image", "pull", name), ("image", "push", "tiny", name), ("launch", name)):
        done = anonymous(*verb, check=False)
        assert done.returncode == 1
        assert "requires authentication" in done.stderr
    done = anonymous("image", "pull", "short", check=False)
    assert "has no registry" in done.stderr


def test_a_certificate_that_is_not_trusted(daemon: Daemon, registry: DebianRegistry, tmp_path: Path) -> None:
    other = Daemon(beside=daemon)
    try:
        other.start()
        done = command(other, {"DOCKER_CONFIG": str(tmp_path)})("image", "pull", f"{registry.address}/x:1", check=False)
        assert done.returncode == 1
        assert "is not trusted" in done.stderr and "certs.d" in done.stderr
    finally:
        other.close()


def test_broken_transfers_with_our_own_registry_go_on_where_they_were(
    daemon: Daemon, registry: DebianRegistry, second: Daemon, tmp_path: Path
) -> None:
    host, name = RegistryHost(daemon, tmp_path), f"{registry.cut_address}/team/large:1"
    try:
        trusted = second.directory / "certs.d" / registry.cut_address / "ca.crt"
        trusted.write_bytes((daemon.directory / "server.crt").read_bytes())
        auth = base64.b64encode(f"ci:{host.secret}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.cut_address: {"auth": auth}}}))
        isola = command(second, {"DOCKER_CONFIG": str(tmp_path)})
        second.import_image(large_image(tmp_path), "large")
        count = registry.start_cutting(8 << 20, 3, target=8443)
        isola("image", "push", "large", name)
        assert SIZE < int(count.read_text()) < SIZE * 1.2
        registry.end_cutting()
        isola("image", "delete", "large")
        count = registry.start_cutting(8 << 20, 3, target=8443)
        isola("image", "pull", name)
        assert SIZE < int(count.read_text()) < SIZE * 1.2
        registry.end_cutting()
        isola("launch", name, "large")
        assert "team/large:1" in command(daemon, {})("image", "list").stdout
    finally:
        daemon.request("PATCH", "/1.0", {"config": {"core.https_address": ""}})
        daemon.request("DELETE", "/1.0/isola/registry/tokens/ci")
