"""Builds by the docker command's classic builder: what images contain, the cache, mounts, hostile contexts."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from application_image import import_application
from daemon import Daemon, Json
from image_files import files_of


class Docker:
    """Debian's docker command with our socket, without BuildKit."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self.daemon = daemon
        self.place = place
        self.env = {
            **os.environ,
            "DOCKER_HOST": f"unix://{daemon.directory}/docker.sock",
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CONFIG": str(place / "config"),
        }

    def __call__(self, *arguments: str, status: int = 0, **options: object) -> str:
        done = subprocess.run(
            ["docker", *arguments], env=self.env, check=False, capture_output=True, text=True, timeout=120, **options
        )  # type: ignore[call-overload]
        assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
        return str(done.stdout + done.stderr)

    def build(self, dockerfile: str, *arguments: str, status: int = 0, **files: str | bytes) -> str:
        """In a context of these files; ``__`` in a name is a slash, ``_DOT_`` a dot."""
        context = self.place / "context"
        subprocess.run(["rm", "-rf", str(context)], check=True)
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            path = context / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self("build", "-t", "built", *arguments, str(context), status=status)

    def build_stream(self, archive: bytes, *arguments: str, status: int = 0) -> str:
        """From a tar stream, which the daemon gets as it is."""
        done = subprocess.run(
            ["docker", "build", "-t", "built", *arguments, "-"],
            env=self.env, input=archive, check=False, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return (done.stdout + done.stderr).decode()

    def image(self, name: str = "docker.io/library/built:latest") -> Json:
        """As the native API shows it."""
        alias = self.daemon.get(f"/1.0/images/aliases/{name.replace('/', '%2F')}")
        found: Json = self.daemon.get(f"/1.0/images/{alias['target']}")
        return found

    def files(self) -> dict[str, bytes]:
        """All regular files in the image, by their paths."""
        return files_of(self.daemon, "docker.io/library/built:latest")

    def left(self) -> Mapping[str, object]:
        """What a build may not leave."""
        builds = self.daemon.directory / "builds"
        return {
            "instances": self.daemon.get("/1.0/instances"),
            "places": sorted(path.name for path in builds.iterdir() if path.name != "cache"),
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if f"{builds}/" in line],
        }


NOTHING: Mapping[str, object] = {"instances": [], "places": [], "mounts": []}


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    daemon = Daemon()
    try:
        daemon.start()
        import_application(daemon, "docker.io/library/app:latest")
        yield Docker(daemon, tmp_path_factory.mktemp("docker"))
    finally:
        daemon.close()


@pytest.fixture(autouse=True)
def nothing_left(docker: Docker) -> Iterator[None]:
    yield
    assert docker.left() == NOTHING


def test_steps_layers_and_configuration(docker: Docker) -> None:
    said = docker.build(
        'FROM app\nARG V=1\nENV A=$V B="x y"\nWORKDIR /w\nCOPY f.txt sub/\nRUN echo $A$V > made && id -u > who\n'
        'LABEL l=v\nEXPOSE 80\nUSER www\nENTRYPOINT ["cat"]\nCMD ["made"]\n',
        "--label", "given=1", "--build-arg", "V=2", f_DOT_txt="content\n",
    )  # fmt: skip
    assert "Step 1/12 : FROM app" in said and "Step 12/12 : LABEL given=1" in said
    assert "Successfully tagged built:latest" in said
    files = docker.files()
    assert files["/w/sub/f.txt"] == b"content\n" and files["/w/made"] == b"22\n" and files["/w/who"] == b"0\n"


def test_a_second_build_comes_from_the_cache_and_is_the_same_image(docker: Docker) -> None:
    text = "FROM app\nCOPY a /a\nRUN date +%N > /moment; cat /a\nENV x=1\n"
    first = docker.build(text, a="1")
    image = docker.image()["fingerprint"]
    (docker.place / "context" / "a").touch()
    again = docker("build", "-t", "built", str(docker.place / "context"))
    assert again.count("Using cache") == 3 and "Using cache" not in first
    assert docker.image()["fingerprint"] == image
    assert "Using cache" not in docker.build(text, "--no-cache", a="1")
    changed = docker.build(text, a="2")
    assert "Using cache" not in changed and docker.image()["fingerprint"] != image


def test_stages_and_targets(docker: Docker) -> None:
    text = (
        "FROM app AS one\nRUN echo 1 > /one\nFROM app AS two\nRUN echo 2 > /two\n"
        "FROM app AS unused\nRUN false\nFROM scratch\nCOPY --from=one /one /\nCOPY --from=1 /two /dir/\n"
        "COPY --from=app /etc/passwd /passwd\n"
    )
    said = docker.build(text)
    assert "Step 1/8" in said and "unused" not in said
    files = docker.files()
    assert (files["/one"], files["/dir/two"]) == (b"1\n", b"2\n") and files["/passwd"].startswith(b"root:")
    assert "RUN echo 2" not in docker.build(text, "--target", "one")


def test_heredocs(docker: Docker) -> None:
    docker.build(
        "FROM app\nARG x=1\nRUN <<EOF\necho a > /a\nfor i in 1 2; do echo $i; done > /b\nEOF\n"
        "COPY <<one <<'two' /h/\n$x\none\n$x\ntwo\nRUN cat <<A > /c\n$((1+1))\nA\n"
        "RUN <<S\n#!/bin/sh -e\necho script > /d\nS\n"
    )
    files = docker.files()
    assert [files[f"/{name}"] for name in "abcd"] == [b"a\n", b"1\n2\n", b"2\n", b"script\n"]
    assert (files["/h/one"], files["/h/two"]) == (b"1\n", b"$x\n")


def test_a_cache_mount_is_kept_between_builds_and_in_no_image(docker: Docker) -> None:
    text = "FROM app\nRUN --mount=type=cache,target=/kept echo x >> /kept/lines; cat /kept/lines > /seen\n"
    docker.build(text, "--no-cache")
    docker.build(text, "--no-cache")
    files = docker.files()
    assert files["/seen"] == b"x\nx\n" and "/kept/lines" not in files


def test_bind_and_tmpfs_mounts(docker: Docker) -> None:
    docker.build(
        "FROM app AS one\nRUN echo 1 > /f\nFROM app\n"
        "RUN --mount=target=/ctx cat /ctx/a > /a\n"
        "RUN --mount=from=one,source=/f,target=/g cat /g > /b\n"
        "RUN --mount=source=d,target=/d,rw echo x > /d/new; cat /d/* > /c\n"
        "RUN --mount=type=tmpfs,target=/t,size=8m echo y > /t/y && cat /t/y > /e\n",
        a="A", d__f="F",
    )  # fmt: skip
    files = docker.files()
    assert (files["/a"], files["/b"], files["/c"], files["/e"]) == (b"A", b"1\n", b"Fx\n", b"y\n")
    assert not {"/ctx/a", "/g", "/d/new", "/t/y"} & set(files)


def test_ignored_files_stay_away(docker: Docker) -> None:
    docker.build(
        "FROM app\nCOPY . /all/\n", keep="1", drop="2", d__x="3", d__keep="4",
        _DOT_dockerignore="drop\nd\n!d/keep\nDockerfile\n.dockerignore\n",
    )  # fmt: skip
    assert sorted(name for name in docker.files() if name.startswith("/all/")) == ["/all/d/keep", "/all/keep"]


def test_archives_are_unpacked_by_add_only(docker: Docker) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("in/file")
        info.size, info.uid = 1, 7
        archive.addfile(info, io.BytesIO(b"f"))
    docker.build("FROM app\nADD a.tgz plain /x/\nCOPY a.tgz /y/\n", a_DOT_tgz=buffer.getvalue(), plain="p")
    files = docker.files()
    assert (files["/x/in/file"], files["/x/plain"], files["/y/a.tgz"]) == (b"f", b"p", buffer.getvalue())


def test_triggers_of_a_base(docker: Docker) -> None:
    docker.build("FROM app\nONBUILD COPY t /t\nONBUILD RUN cat /t > /u\n", "-t", "base")
    said = docker.build("FROM base\nRUN cat /u > /v\n", t="T")
    assert "# Executing build trigger : COPY t /t" in said
    assert docker.files()["/v"] == b"T"


def test_the_same_source_date_gives_the_same_image(docker: Docker) -> None:
    text = "FROM scratch\nCOPY a /a\nWORKDIR /w\nENV x=1\n"
    found = set()
    for _ in range(2):
        docker.build(text, "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000", a="1")
        found.add(docker.image()["fingerprint"])
    assert len(found) == 1 and docker.image()["created_at"].startswith("2001-09-09")


def test_a_failing_program_fails_the_build(docker: Docker) -> None:
    said = docker.build("FROM app\nRUN echo before; exit 3\nRUN echo after\n", status=3)
    assert "returned a non-zero code: 3" in said and "before" in said and "Step 3" not in said


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM app\nFOO x\n", "dockerfile parse error on line 2: unknown instruction: FOO"),
        ("", "the Dockerfile cannot be empty"),
        ("FROM app\nCOPY missing /\n", "file not found in build context or excluded by .dockerignore"),
        ("FROM app\nCOPY --chown=missing Dockerfile /\n", "can't find user missing"),
        ("FROM app\nRUN --mount=type=ssh,required true\n", "unset ssh forward key default"),
        ("FROM app\nRUN --mount=type=secret,id=s,required true\n", "secret s: not found"),
        ("FROM app\nRUN --network=host true\n", "network of the host is not allowed"),
        ("FROM app\nRUN --security=insecure true\n", "insecure is not allowed"),
        ("FROM app\nADD http://127.0.0.1:1/x /\n", "127.0.0.1"),
    ],
)
def test_what_cannot_be_built(docker: Docker, dockerfile: str, message: str) -> None:
    assert message in docker.build(dockerfile, status=1)


def packed(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for each in members:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
                continue
            info = tarfile.TarInfo(each[0])
            info.size = len(each[1])
            archive.addfile(info, io.BytesIO(each[1]))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 3
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../../outside", b"x")], "leads out of its root"),
        ([special("d", tarfile.SYMTYPE, "/etc"), ("d/outside", b"x")], "leads out"),
        ([special("d", tarfile.SYMTYPE, "../.."), ("d/outside", b"x")], "leads out"),
        ([special("h", tarfile.LNKTYPE, "/etc/passwd")], "h"),
        ([special("Dockerfile", tarfile.SYMTYPE, "/etc/passwd")], "Cannot locate specified Dockerfile"),
    ],
)
def test_hostile_contexts_are_refused(
    docker: Docker, members: list[tarfile.TarInfo | tuple[str, bytes]], message: str
) -> None:
    named = {each.name if isinstance(each, tarfile.TarInfo) else each[0] for each in members}
    dockerfile = [] if "Dockerfile" in named else [("Dockerfile", b"FROM app\nCOPY . /all\n")]
    assert message in docker.build_stream(packed(*dockerfile, *members), status=1)
    assert not Path("/outside").exists() and not Path("/etc/outside").exists()


def test_links_of_a_context_lead_nowhere(docker: Docker) -> None:
    dockerfile = ("Dockerfile", b"FROM app\nCOPY l /l\n")
    assert "file does not exist" in docker.build_stream(
        packed(dockerfile, special("l", tarfile.SYMTYPE, "/etc/hostname")), status=1
    )
    bound = ("Dockerfile", b"FROM app\nRUN --mount=source=l,target=/m cat /m/passwd\n")
    said = docker.build_stream(packed(bound, special("l", tarfile.SYMTYPE, "/etc")), status=1)
    assert "file does not exist" in said and "root:x" not in said


def test_a_bomb_is_refused(docker: Docker) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 40 << 30
    head = packed(("Dockerfile", b"FROM app\n"))[:1024] + info.tobuf()
    bomb = gzip.compress(head) + gzip.compress(bytes(1 << 20)) * 8000
    assert docker.build_stream(bomb, status=1)


def test_pruning_removes_what_is_kept(docker: Docker) -> None:
    text = "FROM app\nRUN echo pruned > /p\n"
    docker.build(text)
    assert "Using cache" in docker.build(text)
    kept = json.loads(docker("system", "df", "-v", "--format", "{{json .BuildCache}}"))
    [found] = [each for each in kept if each["Description"].endswith("echo pruned > /p")]
    assert (found["CacheType"], found["Shared"], int(found["UsageCount"]) >= 2) == ("regular", "true", True)
    docker("builder", "prune", "-af", "--filter", "type=exec.cachemount")
    assert "Using cache" in docker.build(text)
    docker("builder", "prune", "-af", "--filter", f"id={found['ID']}")
    assert found["ID"] not in docker("system", "df", "-v") and "Using cache" not in docker.build(text)
    assert "Total" in docker("builder", "prune", "-af")
    assert "Using cache" not in docker.build(text)


def waiting(docker: Docker, *, seconds: float = 120) -> subprocess.Popen[str]:
    """A build whose program runs until it is ended."""
    docker("builder", "prune", "-af")
    docker.build("FROM app\n")
    (docker.place / "context" / "Dockerfile").write_text(
        "FROM app AS other\nRUN sleep 600\nFROM app\nRUN echo one > /one\n"
        "RUN --mount=type=cache,target=/begun touch /begun/it; sleep 600\n"
        "COPY --from=other / /x\n"
    )
    process = subprocess.Popen(
        ["docker", "build", "-t", "never", str(docker.place / "context")],
        env=docker.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + seconds
    kept = docker.daemon.directory / "builds" / "cache"
    while not list(kept.glob("*/it")) or len(docker.daemon.get("/1.0/instances")) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process


def settled(docker: Docker, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while docker.left() != NOTHING and time.monotonic() < deadline:
        time.sleep(0.1)
    assert docker.left() == NOTHING
    assert [each for each in docker.daemon.get("/1.0/images/aliases") if "never" in each] == []


def test_a_client_that_goes_away_cancels_its_build(docker: Docker) -> None:
    process = waiting(docker)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    settled(docker)
    assert docker.daemon.get("/1.0/isola/unknown") == []


def test_a_killed_daemon_leaves_nothing_of_a_build(docker: Docker) -> None:
    process = waiting(docker)
    docker.daemon.kill()
    process.communicate(timeout=120)
    docker.daemon.start()
    settled(docker)
    assert docker.daemon.get("/1.0/isola/unknown") == []
    assert "Using cache" in docker.build("FROM app\nRUN echo one > /one\n"), "what was complete is kept"


def test_a_dockerfile_from_standard_input_beside_a_context(docker: Docker) -> None:
    docker.build("FROM app\n", f_DOT_txt="content\n")
    dockerfile = "FROM app\nCOPY f.txt /\nRUN grep -h first /etc/hosts > /hosts; ulimit -n > /limit; echo wrong >&2\n"
    options = ("--add-host", "first.example:192.0.2.1", "--add-host", "second:192.0.2.2", "--ulimit", "nofile=99:100")
    said = docker("build", "-t", "built", *options, "-f", "-", str(docker.place / "context"), input=dockerfile)
    assert "\x1b[91mwrong\n\x1b[0m" in said
    running = said.partition(" ---> Running in ")[2][:12]
    assert f" ---> Removed intermediate container {running}" in said
    files = docker.files()
    assert files["/f.txt"] == b"content\n" and files["/limit"] == b"99\n"
    assert files["/hosts"].split() == [b"192.0.2.1", b"first.example"]


def test_the_cache_of_given_images_only(docker: Docker) -> None:
    dockerfile = "FROM app\nCOPY f.txt /\nRUN echo made > /made\n"
    docker.build(dockerfile, f_DOT_txt="cached\n")
    assert docker.build(dockerfile, "--cache-from", "none", f_DOT_txt="cached\n").count("Using cache") == 0
    assert docker.build(dockerfile, "--cache-from", "built", f_DOT_txt="cached\n").count("Using cache") == 2


def _upgraded(daemon: Daemon, path: str) -> socket.socket:
    """A connection that has another protocol than HTTP after the upgrade."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(30)
    link.connect(str(daemon.directory / "docker.sock"))
    link.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += link.recv(1)
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n") and b"Upgrade: h2c\r\n" in head
    return link


def test_calls_that_are_not_offered_are_refused_frame_by_frame(docker: Docker) -> None:
    """As RFC 9113 says; what builds is in ``test_buildkit``."""
    ping, call = b"12345678", b"\x83\x86\x45\x01/"
    with _upgraded(docker.daemon, "/v1.50/grpc") as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4\0" + bytes(4))
        link.sendall(b"\0\0\x08\6\0" + bytes(4) + ping)
        link.sendall(bytes((0, 0, len(call), 1, 4, 0, 0, 0, 1)) + call)
        frames = [_frame(link) for _ in range(5)]
    assert [frame[:3] for frame in frames] == [(4, 0, 0), (4, 1, 0), (6, 1, 0), (1, 4, 1), (1, 5, 1)]
    assert frames[2][3] == ping
    assert frames[3][3] == b"\0\7:status\003200\0\x0ccontent-type\x10application/grpc"
    assert frames[4][3].startswith(b"\0\x0bgrpc-status\x0212\0\x0cgrpc-message")
    assert b"has a builder of its own" in frames[4][3]
    with _upgraded(docker.daemon, "/v1.50/grpc") as link:
        link.sendall(b"x" * 24)
        assert b"this is not HTTP/2" in link.recv(1000) and link.recv(1) == b""


def _frame(link: socket.socket) -> tuple[int, int, int, bytes]:
    head = link.recv(9, socket.MSG_WAITALL)
    size = int.from_bytes(head[:3], "big")
    payload = link.recv(size, socket.MSG_WAITALL) if size else b""
    return head[3], head[4], int.from_bytes(head[5:], "big"), payload
