"""Real clients push to the daemon's registry and pull from it, over TLS: skopeo, podman and docker."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon
from registry_content import INDEX, image, index
from registry_host import ADDRESS, RegistryHost, layout
from tiny_daemon import tiny_daemon


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryHost]:
    place = tmp_path_factory.mktemp("registry")
    with tiny_daemon(place) as daemon:
        yield RegistryHost(daemon, place)


@pytest.fixture
def isola(registry: RegistryHost) -> Cli:
    return Cli(registry.daemon)


def runs(isola: Cli, reference: str) -> None:
    """The image can be launched as it is named."""
    name = f"r{time.monotonic_ns() % 10**9}"
    try:
        isola("launch", reference, name)
        assert isola("exec", name, "--", "cat", "/etc/os-release").stdout
    finally:
        isola("delete", "--force", name, check=False)


def test_skopeo_pulls_a_system_image_and_pushes_it_under_another_name(
    registry: RegistryHost, isola: Cli, tmp_path: Path
) -> None:
    registry.skopeo("copy", f"docker://{ADDRESS}/tiny:latest", f"oci:{tmp_path}/tiny:latest")
    registry.skopeo("copy", f"oci:{tmp_path}/tiny:latest", f"docker://{ADDRESS}/team/system:1")
    shown = json.loads(registry.skopeo("inspect", f"docker://{ADDRESS}/team/system:1"))
    assert shown["Digest"] == json.loads(registry.skopeo("inspect", f"docker://{ADDRESS}/tiny"))["Digest"]
    assert shown["RepoTags"] == ["1"]
    runs(isola, "team/system:1")


def test_skopeo_copies_all_platforms_lists_and_deletes(registry: RegistryHost, isola: Cli, tmp_path: Path) -> None:
    whole = index(image("amd"), image("arm", architecture="arm64"))
    source, target = layout(tmp_path / "in", whole), f"docker://{ADDRESS}/team/app"
    registry.skopeo("copy", "--all", source, f"{target}:1")
    registry.skopeo("copy", "--all", source, f"{target}:2")
    assert json.loads(registry.skopeo("list-tags", target))["Tags"] == ["1", "2"]
    registry.skopeo("copy", "--all", f"{target}:1", f"oci:{tmp_path / 'out'}:1")
    [pulled] = json.loads((tmp_path / "out" / "index.json").read_text())["manifests"]
    assert pulled["digest"] == whole.digest
    assert json.loads(registry.skopeo("inspect", f"{target}:1"))["Architecture"] == "amd64"
    assert "team/app:1" in isola("image", "list").stdout
    registry.skopeo("delete", f"{target}:1")
    assert registry.skopeo("inspect", f"{target}:2", check=False).startswith("failed")
    assert "team/app" not in isola("image", "list").stdout


def test_skopeo_converts_formats_and_copies_whole_repositories(registry: RegistryHost, tmp_path: Path) -> None:
    source = layout(tmp_path / "in", index(image("amd"), image("arm", architecture="arm64")))
    target = f"docker://{ADDRESS}/formats/app"
    registry.skopeo("copy", "--all", "--format", "v2s2", source, f"{target}:docker")
    shown = json.loads(registry.skopeo("inspect", "--raw", f"{target}:docker"))
    assert shown["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    registry.skopeo("copy", "--all", "--format", "oci", f"{target}:docker", f"{target}:oci")
    assert json.loads(registry.skopeo("inspect", "--raw", f"{target}:oci"))["mediaType"] == INDEX
    plain, zstd = f"dir:{tmp_path}/plain", ("--dest-compress", "--dest-compress-format", "zstd")
    registry.skopeo("copy", "--dest-decompress", layout(tmp_path / "other", image("other")), plain)
    registry.skopeo("copy", *zstd, plain, f"{target}:zstd")
    [layer] = json.loads(registry.skopeo("inspect", "--raw", f"{target}:zstd"))["layers"]
    assert layer["mediaType"].endswith("+zstd")
    registry.skopeo(
        "sync", "--all", "--src", "docker", "--dest", "dir", target.removeprefix("docker://"), f"{tmp_path}/all"
    )
    registry.skopeo("sync", "--all", "--src", "dir", "--dest", "docker", f"{tmp_path}/all", f"{ADDRESS}/copies")
    for tag in ("docker", "oci", "zstd"):
        raw = [
            registry.skopeo("inspect", "--raw", f"docker://{ADDRESS}/{each}/app:{tag}")
            for each in ("formats", "copies")
        ]
        assert raw[0] == raw[1]


def test_wrong_logins_and_read_only_tokens(registry: RegistryHost, tmp_path: Path) -> None:
    source = layout(tmp_path / "in", image("secret"))
    target = f"docker://{ADDRESS}/team/secret:1"
    assert "unauthorized" in registry.skopeo("copy", source, target, check=False, login="ci:wrong")
    reader = f"reader:{registry.token('reader', read_only=True)}"
    assert registry.skopeo("copy", source, target, check=False, login=reader).startswith("failed")
    registry.skopeo("copy", source, target)
    assert registry.skopeo("inspect", target, login=reader)


def test_a_flipped_byte_in_the_store_is_noticed(registry: RegistryHost, tmp_path: Path) -> None:
    content = image("flipped")
    target = f"docker://{ADDRESS}/team/flipped:1"
    registry.skopeo("copy", layout(tmp_path / "in", content), target)
    *_, layer = content.blobs
    blob = registry.daemon.directory / "images" / "blobs" / "sha256" / layer[7:]
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    assert "failed" in registry.skopeo("copy", target, f"oci:{tmp_path}/out:1", check=False)


def root_of(registry: RegistryHost, place: Path) -> Path:
    """The root of the tiny image, as docker import takes it."""
    instance = f"r{time.monotonic_ns() % 10**9}"
    isola = Cli(registry.daemon)
    isola("launch", "tiny", instance)
    try:
        target = place / "root.tar"
        packed = subprocess.run(
            [*isola.argv, "exec", instance, "--", "tar", "-C", "/", "-cf", "-", "bin", "sbin", "etc"],
            env=isola.env,
            capture_output=True,
            check=True,
            timeout=60,
        )
        target.write_bytes(packed.stdout)
        return target
    finally:
        isola("delete", "--force", instance)


@contextmanager
def podman_of(registry: RegistryHost, place: Path) -> Iterator[list[str]]:
    """Its argv, with a store of its own."""
    with tempfile.TemporaryDirectory(prefix="isola-pm-") as short:  # podman refuses long paths
        argv = ["podman", "--root", f"{place}/root", "--runroot", short, "--storage-driver", "vfs"]
        argv += ["--tmpdir", f"{place}/tmp"]
        try:
            yield argv
        finally:  # it fails when another process of podman writes an event meanwhile
            registry.run(*argv, "system", "reset", "--force", check=False)


def test_podman_pushes_and_pulls(registry: RegistryHost, isola: Cli, tmp_path: Path) -> None:
    image, options = f"{ADDRESS}/team/podman:1", ("--cert-dir", str(registry.certificates))
    with podman_of(registry, tmp_path) as argv:
        registry.run(*argv, "import", "--change", "CMD /sbin/init", str(root_of(registry, tmp_path)), image)
        registry.run(*argv, "login", *options, "-u", "ci", "-p", registry.secret, ADDRESS)
        registry.run(*argv, "push", *options, image)
        digest = registry.run(*argv, "image", "inspect", "--format", "{{.Id}}", image).stdout
        registry.run(*argv, "rmi", image)
        registry.run(*argv, "pull", *options, image)
        assert registry.run(*argv, "image", "inspect", "--format", "{{.Id}}", image).stdout == digest
    assert "team/podman:1" in isola("image", "list").stdout
    runs(isola, "team/podman:1")


def test_podman_pushes_a_list_of_platforms_and_docker_reads_it(registry: RegistryHost, tmp_path: Path) -> None:
    parts = {each: f"{ADDRESS}/lists/{each}:1" for each in ("amd64", "arm64")}
    expected = set()
    for architecture, name in parts.items():
        source = layout(tmp_path / architecture, image(architecture, architecture=architecture))
        registry.skopeo("copy", "--format", "v2s2", source, f"docker://{name}")
        expected.add(json.loads(registry.skopeo("inspect", f"docker://{name}"))["Digest"])
    options = ("--creds", f"ci:{registry.secret}", "--cert-dir", str(registry.certificates))
    docker = ["docker", "--config", f"{tmp_path}/config"]
    auth = base64.b64encode(f"ci:{registry.secret}".encode()).decode()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text(json.dumps({"auths": {ADDRESS: {"auth": auth}}}))
    with podman_of(registry, tmp_path) as podman:
        registry.run(*podman, "manifest", "create", "all")
        for name in parts.values():
            registry.run(*podman, "manifest", "add", *options, "all", f"docker://{name}")
        registry.run(*podman, "manifest", "push", *options, "--all", "all", f"docker://{ADDRESS}/lists/podman:1")
    shown = json.loads(registry.run(*docker, "manifest", "inspect", "--insecure", f"{ADDRESS}/lists/podman:1").stdout)
    assert {entry["digest"] for entry in shown["manifests"]} == expected
    assert {entry["platform"]["architecture"] for entry in shown["manifests"]} == set(parts)


@pytest.fixture
def docker(registry: RegistryHost, tmp_path: Path) -> Iterator[list[str]]:
    """The docker command with a daemon of its own in the registry's namespace, which trusts every loopback address."""
    short = tempfile.TemporaryDirectory(prefix="isola-dk-")  # the path of containerd's socket has a limit of 107 bytes
    socket = f"unix://{tmp_path}/docker.sock"
    argv = ["dockerd", "-H", socket, "--data-root", f"{tmp_path}/data", "--exec-root", short.name]
    argv += ["--pidfile", f"{tmp_path}/pid", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    argv += ["--storage-driver", "vfs"]
    enter = ["nsenter", f"--net=/run/netns/{registry.daemon.netns}"]
    with (tmp_path / "dockerd.log").open("wb") as log:
        server = subprocess.Popen([*enter, *argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    command = ["docker", "-H", socket, "--config", f"{tmp_path}/config"]
    try:
        end = time.monotonic() + 60
        while registry.run(*command, "info", check=False).returncode != 0:
            assert server.poll() is None and time.monotonic() < end, (tmp_path / "dockerd.log").read_text()[-2000:]
            time.sleep(0.2)
        yield command
    finally:
        server.terminate()
        server.wait(60)
        subprocess.run(["umount", f"{tmp_path}/data"], capture_output=True, check=False)  # dockerd binds it to itself
        short.cleanup()


def test_docker_pushes_and_pulls(registry: RegistryHost, isola: Cli, docker: list[str], tmp_path: Path) -> None:
    image, blue = f"{ADDRESS}/team/docker:1", f"{ADDRESS}/project/blue/docker:1"
    root = str(root_of(registry, tmp_path))
    registry.run(*docker, "import", "--change", "CMD /sbin/init", root, image)
    refused = registry.run(*docker, "push", image, check=False)
    assert refused.returncode != 0 and "authentication required" in refused.stderr + refused.stdout
    registry.run(*docker, "login", "-u", "ci", "--password-stdin", ADDRESS, input=registry.secret)
    pushed = registry.run(*docker, "push", image).stdout
    digest = pushed.partition("digest: ")[2].partition(" ")[0]
    registry.run(*docker, "rmi", image)
    assert digest in registry.run(*docker, "pull", image).stdout
    runs(isola, "team/docker:1")
    registry.daemon.request("POST", "/1.0/projects", {"name": "blue", "config": {"features.profiles": "false"}})
    registry.run(*docker, "tag", image, blue)
    assert "Mounted from team/docker" in registry.run(*docker, "push", blue).stdout
    assert "docker" in isola("registry", "list", "--project", "blue").stdout
    registry.run(*docker, "tag", image, f"{ADDRESS}/team/docker:2")
    assert "Layer already exists" in registry.run(*docker, "push", f"{ADDRESS}/team/docker:2").stdout
    registry.run(*docker, "logout", ADDRESS)
    assert registry.run(*docker, "pull", image, check=False).returncode != 0


def test_the_command_lists_and_deletes(registry: RegistryHost, isola: Cli, tmp_path: Path) -> None:
    registry.skopeo("copy", layout(tmp_path / "in", image("listed")), f"docker://{ADDRESS}/listed/app:1")
    assert "listed/app" in isola("registry", "list").stdout
    shown = isola("registry", "tags", "listed/app").stdout
    assert image("listed").digest[:19] in shown and "yes" in shown
    isola("registry", "delete", "listed/app:1")
    assert "1" not in isola("registry", "tags", "listed/app", "--format", "csv").stdout.split(",")[0]
    isola("registry", "delete", "listed/app")
    assert "listed/app" not in isola("registry", "list").stdout
    assert isola("registry", "delete", "listed/app", check=False).returncode != 0
    secret = isola("registry", "token", "create", "short", "--expires", "1d", "--read-only").stdout.strip()
    assert len(secret) == 64
    assert "short" in isola("registry", "token", "list").stdout
    isola("registry", "token", "delete", "short")
    assert "short" not in isola("registry", "token", "list").stdout


def test_nothing_is_unknown_afterwards(registry: RegistryHost) -> None:
    unknown: list[Daemon] = registry.daemon.get("/1.0/isola/unknown")
    assert unknown == []
