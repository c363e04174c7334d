"""Dockerfiles and contexts that attack the host: nothing outside changes, and nothing is left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from application_image import import_application
from daemon import Connection, Daemon
from waiting import until

WITNESSES = [Path("/tmp") / f"isola-hostile-build-{number}" for number in range(3)]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    try:
        daemon.start()
        import_application(daemon, "docker.io/library/app:latest")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(autouse=True)
def nothing_left(daemon: Daemon) -> Iterator[None]:
    before = len(daemon.host_processes())
    yield
    assert daemon.get("/1.0/instances") == []
    assert [path.name for path in (daemon.directory / "builds").iterdir() if path.name != "cache"] == []
    until(lambda: len(daemon.host_processes()) <= before)
    assert not [path for path in WITNESSES if path.exists()]


def build(daemon: Daemon, dockerfile: str, *members: tarfile.TarInfo) -> str:
    """The messages of a build without the cache."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        archive.addfile(info, io.BytesIO(dockerfile.encode()))
        for member in members:
            archive.addfile(member)
    connection = Connection(daemon.directory / "docker.sock", 120)
    try:
        connection.request("POST", "/build?nocache=1", buffer.getvalue())
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_users_of_the_host_cannot_run_what_a_build_leaves_in_a_cache(daemon: Daemon) -> None:
    """It belongs to the host's root, and may have a set-user-id bit."""
    copied = "cp /bin/busybox /c/sh && busybox chmod 4755 /c/sh"
    said = build(daemon, f"FROM app\nRUN --mount=type=cache,id=x,target=/c busybox {copied}\n")
    assert "Successfully built" in said
    file = daemon.directory / "builds" / "cache" / hashlib.sha256(b"default/x").hexdigest() / "sh"
    assert file.stat().st_mode & 0o4000 and file.stat().st_uid == 0
    with pytest.raises(PermissionError):
        subprocess.run([str(file), "-c", "id"], user=65534, group=65534, extra_groups=[], check=False)


def test_no_project_decides_what_programs_of_another_have_done(daemon: Daemon) -> None:
    """The results of its own programs would be found in the cache by the builds of others."""
    config = {"features.images": "false", "features.profiles": "false"}
    daemon.request("POST", "/1.0/projects", {"name": "blue", "config": config})
    options = {"config": {"isola.hosts": "mirror.example=192.0.2.66"}}
    text = "FROM app\nRUN busybox cp /etc/hosts /kept\n"
    try:
        for project, more, cached in (("blue", options, 0), ("blue", options, 1), ("blue", {}, 0), ("default", {}, 0)):
            said = build_in(daemon, project, text, more)
            assert said.count('"type":"cached"') == cached and '"type":"image"' in said, said
    finally:
        daemon.request("DELETE", "/1.0/projects/blue")


def build_in(daemon: Daemon, project: str, dockerfile: str, options: Mapping[str, object]) -> str:
    """The events of a build by the other door."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        archive.addfile(info, io.BytesIO(dockerfile.encode()))
    connection = Connection(daemon.socket, 120)
    try:
        body = json.dumps(options).encode() + b"\n" + buffer.getvalue()
        connection.request("POST", f"/1.0/isola/builds?project={project}", body)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "line",
    [
        "COPY Dockerfile /l/isola-hostile-build-0",
        "WORKDIR /l/isola-hostile-build-1\nRUN touch here",
        "RUN --mount=type=cache,target=/l/isola-hostile-build-2 touch /l/isola-hostile-build-2/x",
        "RUN --mount=type=cache,id=../../../../../../tmp/isola-hostile-build-0,target=/c touch /c/x",
    ],
)
def test_links_of_the_image_and_ids_lead_nowhere(daemon: Daemon, line: str) -> None:
    said = build(daemon, f"FROM app\nRUN busybox ln -s ../../../../../../../../tmp /l\n{line}\n")
    assert "Successfully built" in said


@pytest.mark.parametrize("source", ["x", "d/shadow", "d/"])
def test_files_of_the_host_are_not_in_the_context(daemon: Daemon, source: str) -> None:
    members = (link("x", "/etc/shadow"), link("d", "../../../../../../../etc"))
    said = build(daemon, f"FROM app\nCOPY {source} /found/\nRUN cat /found/*\n", *members)
    assert "file does not exist" in said and "root:" not in said


@pytest.mark.parametrize(
    "program",
    [
        "sleep 100000 & true",
        "busybox setsid sh -c 'sleep 100000 & sleep 100000' & true",
        "i=0; while [ $i -lt 300 ]; do sleep 100000 & i=$((i+1)); done; true",
    ],
)
def test_processes_end_with_their_instruction(daemon: Daemon, program: str) -> None:
    assert "Successfully built" in build(daemon, f"FROM app\nRUN {program}\n")


def test_other_files_as_dockerfile_and_context(daemon: Daemon) -> None:
    fifo = tarfile.TarInfo("f")
    fifo.type = tarfile.FIFOTYPE
    device = tarfile.TarInfo("n")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    said = build(daemon, "FROM app\nCOPY . /c/\nRUN test ! -e /c/n && test -p /c/f\n", fifo, device)
    assert "Successfully built" in said
    assert os.path.exists("/dev/null")


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM app\n" + "ENV a=b\n" * 5000, "more than 4000 instructions"),
        ("FROM app\n#" + "x" * (5 << 20), "has more than 4194304 bytes"),
        (
            "FROM app\nARG a0=xxxxxxxx\n" + "".join(f"ARG a{n + 1}=${{a{n}}}${{a{n}}}\n" for n in range(40)),
            "a value has more than",
        ),
        ("FROM app\nENV a=" + "${b:-" * 5000 + "}" * 5000, "nested too deeply"),
        ("FROM app\nRUN <<EOF\n" + "x\n" * 100_000, "unterminated heredoc"),
        ("FROM app AS a\nCOPY --from=a / /\n", "refers to current build block"),
    ],
)
def test_bombs_in_a_dockerfile(daemon: Daemon, dockerfile: str, message: str) -> None:
    assert message in build(daemon, dockerfile)


@pytest.mark.parametrize(
    ("key", "value", "dockerfile", "message"),
    [
        ("time", "2", "FROM app\nRUN sleep 100\n", "The build took more than 2 seconds"),
        (
            "processes",
            "20",
            "FROM app\nRUN for i in $(busybox seq 30); do sleep 9 & done; wait\n",
            "fork",
        ),
        ("memory", "32MiB", "FROM app\nRUN busybox dd if=/dev/zero of=/dev/null bs=64M count=1\n", "code: 1"),
        ("layers", "2", "FROM app\nRUN touch /a\nRUN touch /b\n", "more than 2 layers"),
    ],
)
def test_what_a_build_may_take_is_a_setting(
    daemon: Daemon, key: str, value: str, dockerfile: str, message: str
) -> None:
    daemon.request("PATCH", "/1.0", {"config": {f"builds.limits.{key}": value}})
    try:
        assert message in build(daemon, dockerfile)
    finally:
        daemon.request("PATCH", "/1.0", {"config": {f"builds.limits.{key}": ""}})


@pytest.fixture
def small_limits(daemon: Daemon) -> Iterator[None]:
    limits = {"images.limits.bytes": "64MiB", "images.limits.entries": "1000"}
    daemon.request("PATCH", "/1.0", {"config": limits})
    yield
    daemon.request("PATCH", "/1.0", {"config": dict.fromkeys(limits, "")})


def archive(*sizes: int) -> bytes:
    """A compressed tar with files of zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as found:
        for number, size in enumerate(sizes):
            info = tarfile.TarInfo(f"d/{number}")
            info.size = size
            found.addfile(info, io.BytesIO(bytes(size)))
    return buffer.getvalue()


@pytest.fixture(params=[((100 << 20,), "too large when unpacked"), ((0,) * 2000, "too many")], ids=["large", "many"])
def bomb(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    """A compressed archive, and what is said of it."""
    sizes, message = request.param
    return archive(*sizes), message


def test_contexts_and_archives_of_a_build_have_the_limits_of_the_settings(
    daemon: Daemon, small_limits: None, bomb: tuple[bytes, str]
) -> None:
    packed, message = bomb
    info = tarfile.TarInfo("bomb.tar.gz")
    info.size = len(packed)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as context:
        dockerfile = tarfile.TarInfo("Dockerfile")
        dockerfile.size = len(text := b"FROM app\nADD bomb.tar.gz /b/\n")
        context.addfile(dockerfile, io.BytesIO(text))
        context.addfile(info, io.BytesIO(packed))
    for body in (packed, buffer.getvalue()):
        assert message in asked(daemon, "POST", "/build?nocache=1", body)[1]


def test_so_have_root_file_systems_and_what_is_copied_to_containers(
    daemon: Daemon, small_limits: None, bomb: tuple[bytes, str]
) -> None:
    packed, message = bomb
    assert message in asked(daemon, "POST", "/images/create?fromSrc=-&repo=bomb&tag=1", packed)[1]
    created = asked(daemon, "POST", "/containers/create?name=c1", b'{"Image":"app"}')
    assert created[0] == 201, created
    status, said = asked(daemon, "PUT", "/containers/c1/archive?path=/tmp", packed)
    assert asked(daemon, "DELETE", "/containers/c1")[0] == 204
    assert status in (400, 413) and message in said


def asked(daemon: Daemon, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    connection = Connection(daemon.directory / "docker.sock", 120)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
