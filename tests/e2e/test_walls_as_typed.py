"""Kinds of isolation as typed: what is offered, refused and moved, with isola, lxc and docker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon
from docker_client import DockerClient
from lxc_client import Lxc
from tiny_daemon import tiny_daemon

from isola.runtimes.qemu.kit import VARIABLE

ABSENT = "microvm"


@pytest.fixture(scope="module")
def offered(daemon: Daemon) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in daemon.get("/1.0")["environment"]["isolations"]}


@pytest.fixture(scope="module")
def docker(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> DockerClient:
    return DockerClient(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of an installation without a kernel for guests, so that there are no microVMs."""
    with tiny_daemon(tmp_path_factory.mktemp("bare"), environment={VARIABLE: "/nonexistent"}) as daemon:
        yield daemon


@pytest.fixture
def without(bare: Daemon) -> Cli:
    """The ``isola`` command of that daemon."""
    return Cli(bare)


def test_the_server_says_what_works_and_why_not(isola: Cli, lxc: Lxc, offered: dict[str, dict[str, object]]) -> None:
    assert offered["container"]["available"]
    assert all(each["available"] or each["reason"] for each in offered.values())
    shown = json.loads(isola("info", "-f", "json").stdout)["environment"]
    assert "container" in shown["instance_types"]
    assert "driver:" in lxc("info")


def test_what_is_missing_is_refused_with_the_nearest_that_works(bare: Daemon, without: Cli, tmp_path: Path) -> None:
    done = without("launch", "tiny", "wall1", "--isolation", ABSENT, check=False)
    assert done.returncode != 0 and ABSENT in done.stderr
    assert "the nearest isolation that this server offers" in done.stderr
    lxc = Lxc(bare, tmp_path)
    lxc("launch", "tiny", "wall1", "-c", f"isola.isolation={ABSENT}", status=1)
    assert "wall1" not in lxc("list", "-c", "n", "-f", "csv")
    found = {each["name"]: each for each in bare.get("/1.0")["environment"]["isolations"]}
    assert not found[ABSENT]["available"] and found[ABSENT]["reason"] and found[ABSENT]["remedy"]


def test_a_stopped_instance_moves_to_another_runtime_with_its_files(daemon: Daemon, isola: Cli, instance: str) -> None:
    works = {each["name"] for each in daemon.get("/1.0")["environment"]["runtimes"] if each["available"]}
    before = daemon.get(f"/1.0/instances/{instance}")
    other = min(({"crun", "runc"} & works) - {before["runtime"]}, default=before["runtime"])
    isola("exec", instance, "--", "sh", "-c", "echo kept > /kept")
    done = isola("move", instance, "--runtime", other, check=False)
    assert done.returncode != 0 and "stop it" in done.stderr
    isola("stop", instance, "--force")
    isola("move", instance, "--runtime", other)
    isola("start", instance)
    after = daemon.get(f"/1.0/instances/{instance}")
    assert (after["runtime"], after["isolation"]) == (other, "container")
    assert isola("exec", instance, "--", "cat", "/kept").stdout == "kept\n"
    same = "volatile.eth0.hwaddr"
    assert after["config"].get(same) == before["config"].get(same)
    shown = isola("info", instance).stdout
    assert "separates:" in shown and "until its program ran" in shown and "protects:" in shown
    assert after["wall"]["start_ms"] > 0


def test_profiles_and_projects_choose(without: Cli) -> None:
    isola, kind = without, ABSENT
    isola("profile", "create", "thick", f"isola.isolation={kind}")
    try:
        done = isola("create", "tiny", "wall2", "-p", "default", "-p", "thick", check=False)
        assert done.returncode != 0 and kind in done.stderr
        isola("create", "tiny", "wall2", "-p", "default", "-p", "thick", "--isolation", "container")
        isola("delete", "wall2")
    finally:
        isola("profile", "delete", "thick")


def test_docker_names_the_wall_as_its_runtime(bare: Daemon, tmp_path: Path) -> None:
    said = DockerClient(bare, tmp_path)("run", "--rm", "--runtime", ABSENT, "tiny", "true", status=125)
    assert ABSENT in said and "nearest" in said, said


def test_docker_says_what_has_files_and_no_disk(docker: DockerClient) -> None:
    said = docker("run", "--rm", "--runtime", "vm", "tiny", "true", status=125)
    assert "disk" in said or "nearest" in said, said


@pytest.mark.parametrize("kind", ["sandbox", "microvm"])
def test_the_same_instance_behind_each_wall(
    kind: str, isola: Cli, lxc: Lxc, offered: dict[str, dict[str, object]], instance: str
) -> None:
    daemon = isola.daemon
    isola("exec", instance, "--", "sh", "-c", "echo kept > /kept")
    isola("stop", instance, "--force")
    before = daemon.get(f"/1.0/instances/{instance}")
    done = isola("move", instance, "--isolation", kind, check=False)
    if not offered[kind]["available"]:
        assert done.returncode != 0 and "the nearest isolation that this server offers" in done.stderr
        assert daemon.get(f"/1.0/instances/{instance}")["isolation"] == "container"
        return
    assert done.returncode == 0, done.stderr
    isola("start", instance)
    assert isola("exec", instance, "--", "cat", "/kept").stdout == "kept\n"
    assert lxc("exec", instance, "--", "sh", "-c", "echo more > /more; id -u") == "0\n"
    isola("stop", instance, "--force")
    isola("move", instance, "--isolation", "container")
    isola("start", instance)
    assert isola("exec", instance, "--", "cat", "/more").stdout == "more\n"
    after = daemon.get(f"/1.0/instances/{instance}")
    for key in ("volatile.eth0.hwaddr", "volatile.idmap.base", "volatile.uuid"):
        assert after["config"].get(key) == before["config"].get(key)


def test_compose_files_name_the_wall_as_their_runtime(without: Cli, tmp_path: Path) -> None:
    isola, kind = without, ABSENT
    file = tmp_path / "compose.yaml"
    file.write_text(f"name: walled\nservices: {{app: {{image: tiny, runtime: {kind}}}}}\n")
    done = isola("compose", "-f", str(file), "up", "-d", check=False)
    assert done.returncode != 0 and kind in done.stderr and "nearest" in done.stderr
    isola("compose", "-f", str(file), "down")
