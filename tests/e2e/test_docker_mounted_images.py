"""The content of images mounted in containers, by the unmodified ``docker`` command, seen by ``isola`` as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon
from docker_client import DockerClient

FILE = """\
FROM app AS made
RUN mkdir -p /out/sub /out/links && echo bar > /out/foo && echo world > /out/sub/hello && echo x > /out/gone
RUN ln -s ../sub /out/links/good && ln -s ../../../../etc /out/links/bad
FROM app
LABEL purpose=tools
COPY --from=made /out /
RUN rm /gone /sub/hello && echo new > /sub/new
"""
ATTEMPTS = "touch /x/made; rm -f /x/foo; mount -o remount,rw /x; touch /x/made"


@pytest.fixture
def docker(daemon: Daemon, app: str, tmp_path: Path) -> Iterator[DockerClient]:
    """With an image ``tools`` of several layers; containers and it end with the test."""
    made = DockerClient(daemon, tmp_path)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(FILE)
    made("build", "-q", "-t", "tools", str(tmp_path / "context"))
    id = made("image", "inspect", "-f", "{{.Id}}", "tools")
    yield made
    if found := made("ps", "-aq").split():
        made("rm", "-f", *found)
    if id in made("image", "ls", "-aq", "--no-trunc"):
        made("image", "rm", "-f", id)


def mounting(more: str = "") -> tuple[str, str]:
    return "--mount", f"type=image,source=tools,target=/x{more}"


def test_it_is_there_whole_and_read_only(docker: DockerClient) -> None:
    looks = "cat /x/foo /x/sub/new; ls /x/sub; ls -d /x/gone /x/made; stat -c %u:%g /x /x/foo /x/bin/busybox"
    said = docker("run", "--rm", *mounting(), "app", "sh", "-c", f"{{ {ATTEMPTS}; }} 2>/dev/null; {looks} 2>/dev/null")
    assert said.split() == ["bar", "new", "new", "0:0", "0:0", "0:0"]


def test_one_layer_and_none(docker: DockerClient, tmp_path: Path) -> None:
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    docker("build", "-q", "-t", "bare", str(tmp_path / "context"))
    mounts = ("--mount", "type=image,source=app,target=/app", "--mount", "type=image,source=bare,target=/bare")
    said = docker("run", "--rm", *mounts, "app", "sh", "-c", "ls /app; ls -a /bare; stat -c %u:%a /app /bare")
    assert {"bin", "etc", "srv"} < {*said.split()} and said.split("\n")[-4:] == [".", "..", "0:755", "0:755"]
    docker("rmi", "bare")


def test_a_part_of_it_and_nothing_outside(docker: DockerClient) -> None:
    def shown(subpath: str, status: int = 0) -> str:
        part = mounting(f",image-subpath={subpath}")
        return docker("run", "--rm", *part, "app", "sh", "-c", "cat /x/new || cat /x", status=status)

    assert (shown("sub"), shown("links/good")) == ("new", "new")
    assert docker("run", "--rm", *mounting(",image-subpath=foo"), "app", "cat", "/x") == "bar"
    assert "no such file or directory" in shown("nope", 127)
    assert "path concatenation escapes the base directory" in shown("links/bad", 125)
    assert "subpath must be a relative path within the volume" in shown("../etc", 125)
    assert docker("ps", "-aq") == ""


def test_it_is_described_and_kept(docker: DockerClient, isola: Cli) -> None:
    docker("run", "-d", "--name", "box", *mounting(), "app", "sleep", "1000")
    box = docker.inspect("inspect", "box")
    assert box["Mounts"] == [
        {"Type": "image", "Name": "tools", "Source": "", "Destination": "/x", "Mode": "", "RW": False,
         "Propagation": "rprivate"}
    ]  # fmt: skip
    assert box["HostConfig"]["Mounts"] == [{"Type": "image", "Source": "tools", "Target": "/x"}]
    assert docker("ps", "-q", "-f", "volume=tools") == box["Id"][:12]
    (disk,) = [each for each in json.loads(isola("config", "show", "box", "-f", "json").stdout)["devices"].values()
               if each.get("path") == "/x"]  # fmt: skip
    id = docker("image", "inspect", "-f", "{{.Id}}", "tools").removeprefix("sha256:")
    assert disk == {"type": "disk", "source": f"image:{id}", "path": "/x"}
    said = docker("rmi", "tools", status=1)
    assert f"container {box['Id'][:12]} is using its referenced image {id[:12]}" in said
    assert "cannot be forced" in docker("rmi", "-f", id, status=1)
    docker("image", "prune", "-af", "--filter", "label=purpose=tools")  # others share the daemon
    assert docker("image", "ls", "-q", "tools") == id[:12]
    docker("rmi", "-f", "tools")
    docker("restart", "-t", "0", "box")
    assert docker("exec", "box", "cat", "/x/foo") == "bar", "without a name it is still there"
    docker("rm", "-f", "box")
    assert id[:12] in docker("image", "prune", "-f")


def test_its_files_are_copied_while_the_container_does_not_run(docker: DockerClient, tmp_path: Path) -> None:
    docker("create", "--name", "box", *mounting(",image-subpath=sub"), "app", "true")
    docker("cp", "box:/x/new", str(tmp_path / "got"))
    assert (tmp_path / "got").read_text() == "new\n"
    assert "read-only" in docker("cp", str(tmp_path / "got"), "box:/x/other", status=1)
    assert docker("diff", "box") == ""


def test_it_comes_and_goes_while_the_container_runs(docker: DockerClient, isola: Cli) -> None:
    docker("run", "-d", "--name", "box", "app", "sleep", "1000")
    isola("config", "device", "add", "box", "tools", "disk", "source=image:docker.io/library/tools:latest", "path=/t")
    assert docker("exec", "box", "cat", "/t/foo") == "bar"
    isola("config", "device", "remove", "box", "tools")
    assert docker("exec", "box", "ls", "/t") == ""


def test_it_is_there_after_a_kill_of_the_daemon(docker: DockerClient, daemon: Daemon) -> None:
    docker("run", "-d", "--name", "box", *mounting(), "app", "sleep", "1000")
    daemon.kill()
    daemon.start()
    assert docker("exec", "box", "cat", "/x/foo") == "bar"
    assert "is using its referenced image" in docker("rmi", "tools", status=1)
    docker("restart", "-t", "0", "box")
    assert docker("exec", "box", "cat", "/x/foo") == "bar"
