"""``isola build``: the context as it is sent, secrets, progress, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_image import import_application
from command import Cli
from daemon import Daemon
from image_files import files_of
from waiting import until

SECRET = b"a very secret thing\n"


@pytest.fixture(scope="module")
def isola() -> Iterator[Cli]:
    daemon = Daemon()
    try:
        daemon.start()
        import_application(daemon, "docker.io/library/app:latest")
        yield Cli(daemon)
    finally:
        daemon.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM app\nCOPY . /c/\nRUN cat /c/a > /out; echo said\n")
    (place / "a").write_text("A")
    return place


def test_an_image_is_built_and_runs(isola: Cli, context: Path) -> None:
    done = isola("build", str(context), "-t", "one:1", "--progress", "plain", "--label", "l=v")
    assert "[1/4] FROM app" in done.stderr and "said\n" in done.stderr and "is built: one:1" in done.stderr
    assert files_of(isola.daemon, "docker.io/library/one:1")["/out"] == b"A"
    again = isola("build", str(context), "-t", "one:1", "--label", "l=v")
    assert again.stderr.count("(from the cache)") == 3
    assert isola("build", "-q", str(context), "--label", "l=v").stdout.startswith("sha256:")


def test_the_result_as_files_and_as_an_archive(isola: Cli, context: Path, tmp_path: Path) -> None:
    before = isola("image", "list", "-q").stdout
    done = isola("build", str(context), "-o", str(tmp_path / "out"), "--iidfile", str(tmp_path / "id"))
    assert (tmp_path / "out/out").read_bytes() == b"A" and (tmp_path / "out/c/a").read_text() == "A"
    assert (tmp_path / "out/bin/sh").is_symlink() and (tmp_path / "id").read_text() == "" and "Error" not in done.stderr
    packed = isola("build", str(context), "-o", "-", text=False).stdout
    listed = subprocess.run(["tar", "-t"], input=packed, check=True, capture_output=True).stdout.decode()
    assert "c/a\n" in listed
    assert isola("image", "list", "-q").stdout == before, "no image is made"
    saved, digests = tmp_path / "saved.tar", tmp_path / "build.json"
    isola("build", str(context), "-t", "saved:1", "-o", f"type=oci,dest={saved}", "--metadata-file", str(digests))
    isola("image", "import", str(saved))
    assert json.loads(digests.read_text())["image.name"] == "saved:1"
    assert files_of(isola.daemon, "docker.io/library/saved:1")["/out"] == b"A"
    failed = isola("build", str(context), "-o", f"type=tar,dest={tmp_path}/none/x.tar", check=False)
    assert failed.returncode != 0 and "none/x.tar" in failed.stderr


def test_mistakes_are_shown_without_a_build(isola: Cli, context: Path) -> None:
    assert "Check complete, no warnings found" in isola("build", str(context), "--check").stderr
    (context / "Dockerfile").write_text("FROM nowhere.example/missing AS Base\nCMD run\n")
    found = isola("build", str(context), "--check", check=False)
    assert found.returncode == 1 and "StageNameCasing" in found.stderr and "CMD" in found.stderr
    assert "JSONArgsRecommended: JSON arguments recommended for CMD" in found.stderr and "(line 2)" in found.stderr
    (context / "Dockerfile").write_text("# check=error=true\nFROM app AS Base\n")
    refused = isola("build", str(context), check=False)
    assert refused.returncode == 1 and "lint violation found for rules: StageNameCasing" in refused.stderr


def test_what_the_ignore_file_names_is_not_sent(isola: Cli, context: Path) -> None:
    (context / "big").write_bytes(b"x" * (3 << 20))
    (context / "d").mkdir()
    (context / "d" / "keep").write_text("k")
    (context / "d" / "drop").write_text("d")
    (context / ".dockerignore").write_text("big\nd\n!d/keep\nDockerfile\n")
    isola("build", str(context), "-t", "two")
    found = files_of(isola.daemon, "docker.io/library/two:latest")
    assert sorted(name for name in found if name.startswith("/c/")) == ["/c/.dockerignore", "/c/a", "/c/d/keep"]


def test_a_dockerfile_outside_of_the_directory(isola: Cli, context: Path, tmp_path: Path) -> None:
    other = tmp_path / "Other"
    other.write_text("FROM app\nARG x\nRUN echo $x > /x\n")
    (tmp_path / "Other.dockerignore").write_text("*\n")
    isola("build", "-f", str(other), "--build-arg", "x=7", "-t", "three", str(context))
    assert files_of(isola.daemon, "docker.io/library/three:latest")["/x"] == b"7\n"


def test_further_contexts(isola: Cli, context: Path, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    lib.mkdir()
    (lib / "l").write_text("L")
    (context / "Dockerfile").write_text("FROM base\nCOPY --from=lib l /l\nRUN --mount=from=lib,target=/m cat /l /m/l\n")
    given = ("--build-context", f"lib={lib}", "--build-context", "base=docker-image://app")
    assert "LL" in isola("build", str(context), "--progress", "plain", *given).stderr
    assert "no directory" in isola("build", str(context), "--build-context", "lib=missing", check=False).stderr


def test_a_context_from_standard_input(isola: Cli, context: Path) -> None:
    packed = subprocess.run(["tar", "-C", str(context), "-cz", "."], check=True, capture_output=True).stdout
    isola("build", "-", "-t", "four", input=packed, text=False)
    assert files_of(isola.daemon, "docker.io/library/four:latest")["/c/a"] == b"A"


def test_secrets_are_seen_while_a_program_runs_and_are_nowhere_afterwards(isola: Cli, context: Path) -> None:
    (context.parent / "token").write_bytes(SECRET)
    (context / "Dockerfile").write_text(
        "FROM app\nRUN --mount=type=secret,id=t cat /run/secrets/t | wc -c > /size\n"
        "RUN --mount=type=secret,id=t,env=TOKEN --mount=type=secret,id=u,target=/root/u "
        'echo ${#TOKEN} > /length; cat /root/u > /other\nRUN test ! -s /run/secrets/t && test -z "$TOKEN"\n'
    )
    isola.env["U"] = "not so secret"
    token = f"id=t,src={context.parent / 'token'}"
    isola("build", str(context), "-t", "five", "--secret", token, "--secret", "id=u,env=U")
    found = files_of(isola.daemon, "docker.io/library/five:latest")
    assert (found["/size"], found["/length"], found["/other"]) == (b"20\n", b"20\n", b"not so secret")
    assert SECRET not in b"".join(found.values())
    kept = [*isola.daemon.directory.glob("isola.db*"), *(isola.daemon.directory / "builds").rglob("*")]
    kept += [*isola.daemon.directory.glob("logs/**/*"), *isola.daemon.directory.glob("run/**/*")]
    assert [path for path in kept if path.is_file() and SECRET.strip() in path.read_bytes()] == []


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of a real agent with one key."""
    path, key = tmp_path / "agent", tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the key", "-f", str(key)], check=True)
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        try:
            until(path.exists)
            subprocess.run(["ssh-add", "-q", str(key)], env={"SSH_AUTH_SOCK": str(path)}, check=True)
            yield path
        finally:
            process.terminate()


def test_programs_ask_the_agent_of_the_client(isola: Cli, context: Path, agent: Path) -> None:
    """By Debian's own programs; adding and removing keys is refused."""
    for program in ("ssh-add", "ssh-keygen"):
        _with_libraries(Path("/usr/bin", program), context / "root")
    shutil.copy(agent.parent / "key.pub", context / "root" / "key.pub")
    (context / "Dockerfile").write_text(
        "FROM app\nCOPY root /\nCOPY --chmod=600 root/key.pub /key.pub\n"
        "RUN --mount=type=ssh ssh-add -l > /list; echo $SSH_AUTH_SOCK > /where\n"
        "RUN --mount=type=ssh echo text > /text && ssh-keygen -q -Y sign -f /key.pub -n file /text\n"
        "RUN --mount=type=ssh,id=other,uid=33,mode=0666 ssh-add -l > /other; ssh-add -D > /removed 2>&1; true\n"
        "RUN --mount=type=ssh,id=missing test -z $SSH_AUTH_SOCK\nRUN test ! -e /run/buildkit\n"
    )
    isola.env["SSH_AUTH_SOCK"] = str(agent)
    isola("build", str(context), "-t", "six", "--ssh", "default", "--ssh", f"other={agent}")
    found = files_of(isola.daemon, "docker.io/library/six:latest")
    assert b"the key (ED25519)" in found["/list"] and found["/where"] == b"/run/buildkit/ssh_agent.0\n"
    assert found["/text.sig"].startswith(b"-----BEGIN SSH SIGNATURE-----") and b"the key" in found["/other"]
    assert b"Failed to remove all identities" in found["/removed"]
    kept = subprocess.run(["ssh-add", "-l"], env={"SSH_AUTH_SOCK": str(agent)}, check=True, capture_output=True)
    assert b"the key" in kept.stdout
    required = "FROM app\nRUN --mount=type=ssh,required true\n"
    (context / "Dockerfile").write_text(required)
    assert "unset ssh forward key default" in isola("build", str(context), check=False).stderr


def _with_libraries(program: Path, root: Path) -> None:
    """Copy a program and what it is linked with."""
    said = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout
    for path in (str(program), *(word for word in said.split() if word.startswith("/"))):
        target = root / path.lstrip("/").replace("usr/bin", "bin")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM app\nRUN echo why; exit 5\n", "returned a non-zero code: 5"),
        ("FROM app\nFOO\n", "dockerfile parse error on line 2: unknown instruction: FOO"),
        ("FROM app\nRUN --mount=type=secret,id=x,required true\n", "secret x: not found"),
    ],
)
def test_a_failed_build_says_why(isola: Cli, context: Path, dockerfile: str, message: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    done = isola("build", str(context), check=False)
    assert done.returncode == 1 and message in done.stderr
    assert isola.daemon.get("/1.0/instances") == []
    assert "why\n" in done.stderr or "why" not in dockerfile


def test_a_missing_directory_and_unknown_options(isola: Cli, context: Path) -> None:
    assert isola("build", "/nowhere", check=False).returncode == 1
    isola.env.pop("SSH_AUTH_SOCK", None)
    assert "start ssh-agent" in isola("build", str(context), "--ssh", "default", check=False).stderr
    key = f"default={context / 'a'}"
    assert "is not the socket of an agent" in isola("build", str(context), "--ssh", key, check=False).stderr
    assert "cannot" in isola("build", str(context), "--target", "nothing", check=False).stderr.replace(
        "could not", "cannot"
    )
