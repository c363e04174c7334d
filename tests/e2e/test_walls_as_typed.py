"""Kinds of isolation as typed: what is offered, refused and moved, with isola, lxc and docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon
from docker_client import DockerClient
from lxc_client import Lxc


@pytest.fixture(scope="module")
def offered(daemon: Daemon) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in daemon.get("/1.0")["environment"]["isolations"]}


@pytest.fixture(scope="module")
def docker(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> DockerClient:
    return DockerClient(daemon, tmp_path_factory.mktemp("home"))


def absent(offered: dict[str, dict[str, object]], *kinds: str) -> str:
    """One that does not work here."""
    found = [kind for kind in kinds if not offered[kind]["available"]]
    assert found, f"all of {', '.join(kinds)} work here: the test needs another one"
    return found[0]


def test_the_server_says_what_works_and_why_not(isola: Cli, lxc: Lxc, offered: dict[str, dict[str, object]]) -> None:
    assert offered["container"]["available"]
    assert all(each["available"] or each["reason"] for each in offered.values())
    shown = json.loads(isola("info", "-f", "json").stdout)["environment"]
    assert "container" in shown["instance_types"]
    assert "driver:" in lxc("info")


def test_what_is_missing_is_refused_with_the_nearest_that_works(
    isola: Cli, lxc: Lxc, offered: dict[str, dict[str, object]]
) -> None:
    kind = absent(offered, "vm", "sandbox", "microvm")
    done = isola("launch", "tiny", "wall1", "--isolation", kind, check=False)
    assert (
        done.returncode != 0 and kind in done.stderr and "the nearest isolation that this server offers" in done.stderr
    )
    if kind == "vm":
        lxc("launch", "tiny", "wall1", "--vm", status=1)
    assert "wall1" not in lxc("list", "-c", "n", "-f", "csv")


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


def test_profiles_and_projects_choose(isola: Cli, offered: dict[str, dict[str, object]]) -> None:
    kind = absent(offered, "sandbox", "vm", "microvm")
    isola("profile", "create", "thick", f"isola.isolation={kind}")
    try:
        done = isola("create", "tiny", "wall2", "-p", "default", "-p", "thick", check=False)
        assert done.returncode != 0 and kind in done.stderr
        isola("create", "tiny", "wall2", "-p", "default", "-p", "thick", "--isolation", "container")
        isola("delete", "wall2")
    finally:
        isola("profile", "delete", "thick")


def test_docker_names_the_wall_as_its_runtime(docker: DockerClient, offered: dict[str, dict[str, object]]) -> None:
    kind = absent(offered, "sandbox", "vm", "microvm")
    said = docker("run", "--rm", "--runtime", kind, "tiny", "true", status=125)
    assert kind in said and "nearest" in said, said


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


def test_compose_files_name_the_wall_as_their_runtime(
    isola: Cli, offered: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    kind = absent(offered, "vm", "sandbox", "microvm")
    file = tmp_path / "compose.yaml"
    file.write_text(f"name: walled\nservices: {{app: {{image: tiny, runtime: {kind}}}}}\n")
    done = isola("compose", "-f", str(file), "up", "-d", check=False)
    assert done.returncode != 0 and kind in done.stderr and "nearest" in done.stderr
    isola("compose", "-f", str(file), "down")
