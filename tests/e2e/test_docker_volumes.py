"""Volumes by the unmodified ``docker`` command, seen by ``lxc`` as well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon
from docker_client import DockerClient
from lxc_client import Lxc


@pytest.fixture
def docker(daemon: Daemon, app: str, tmp_path: Path) -> Iterator[DockerClient]:
    """Containers and volumes end with the test."""
    made = DockerClient(daemon, tmp_path)
    yield made
    if found := made("ps", "-aq").split():
        made("rm", "-f", *found)
    made("volume", "prune", "-a", "-f")


def test_data_outlives_containers_and_is_seen_by_other_doors(docker: DockerClient, lxc: Lxc) -> None:
    assert docker("volume", "create", "--label", "a=b", "data_1") == "data_1"
    docker("run", "--rm", "-v", "data_1:/data", "app", "sh", "-c", "echo hello > /data/file")
    assert docker("run", "--rm", "-v", "data_1:/data:ro", "app", "cat", "/data/file") == "hello"
    shown = docker.inspect("volume", "inspect", "data_1")
    assert shown["Labels"] == {"a": "b"} and os.listdir(shown["Mountpoint"]) == ["file"]
    assert "data_1" in lxc("storage", "volume", "list", "default")
    lxc("storage", "volume", "create", "default", "native")
    assert docker("volume", "ls", "-q", "-f", "name=nati") == "native"
    docker("volume", "rm", "native")
    assert "native" not in lxc("storage", "volume", "list", "default")


def test_a_volume_in_use_is_kept(docker: DockerClient) -> None:
    id = docker("run", "-d", "--name", "box", "-v", "used:/data", "-v", "/anonymous", "app", "sleep", "1000")
    assert f"remove used: volume is in use - [{id}]" in docker("volume", "rm", "used", status=1)
    assert docker("volume", "ls", "-q", "-f", "dangling=true") == ""
    docker("rm", "-f", "box")
    (anonymous,) = set(docker("volume", "ls", "-q", "-f", "dangling=true").split()) - {"used"}
    assert anonymous in docker("volume", "prune", "-f")
    assert docker("volume", "ls", "-q") == "used"
    assert "Total reclaimed space" in docker("volume", "prune", "-a", "-f")
    assert "no such volume" in docker("volume", "inspect", "used", status=1)


def test_volumes_of_paths_of_the_host_and_of_memory(docker: DockerClient, tmp_path: Path) -> None:
    source = tmp_path / "site"
    source.mkdir()
    for parent in (source, *source.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    (source / "page").write_text("from the host")
    bind = ("-o", "type=none", "-o", "o=bind", "-o", f"device={source}")
    docker("volume", "create", *bind, "site")
    said = docker("run", "--rm", "-v", "site:/m", "app", "sh", "-c", "cat /m/page; echo more > /m/made; stat -c %u /m")
    assert said == "from the host0"
    assert (source / "made").stat().st_uid == 0 and (source / "made").read_text() == "more\n"
    assert docker.inspect("volume", "inspect", "site")["Options"] == {
        "device": str(source),
        "o": "bind",
        "type": "none",
    }
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7,mode=0750", "scratch")
    said = docker(
        "run", "--rm", "-v", "scratch:/m", "app", "sh", "-c", "stat -c '%u %a' /m; grep -c ' /m tmpfs' /proc/mounts"
    )
    assert said.split() == ["7", "750", "1"]
    assert docker("volume", "prune", "-af") == "Total reclaimed space: 0B"
    docker("volume", "rm", "site", "scratch")
    assert (source / "page").exists()
