"""The files of containers and images by the ``docker`` command: cp, diff, commit, export, save and load."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit import settled
from daemon import Daemon

DOCKER = shutil.which("docker")
Run = Callable[..., str]


@pytest.fixture
def docker(daemon: Daemon, tmp_path: Path) -> Run:
    assert DOCKER, "the docker command line is needed"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{daemon.directory}/docker.sock",
    }

    def run(*argv: str, status: int | None = 0, input: bytes | None = None) -> str:
        done = subprocess.run(
            [DOCKER, *argv], capture_output=True, timeout=120, check=False, env=environment, input=input
        )
        assert status in (None, done.returncode), f"docker {' '.join(argv)}: {done.stderr.decode()}"
        return (done.stderr if status else done.stdout).decode()

    return run


@pytest.fixture
def box(docker: Run) -> Iterator[str]:
    """A running container."""
    docker("run", "-d", "--name", "box", "tiny", "sleep", "1000")
    yield "box"
    docker("rm", "-f", "box")


def test_cp_both_ways_while_it_runs_and_when_it_is_stopped(docker: Run, box: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("hello\n")
    (tree / "link").symlink_to("sub/file")
    os.chmod(tree / "sub/file", 0o640)
    docker("exec", box, "mkdir", "-p", "/srv")
    docker("cp", str(tree), "box:/srv")
    assert docker("exec", box, "cat", "/srv/tree/link") == "hello\n"
    assert docker("exec", box, "stat", "-c", "%a", "/srv/tree/sub/file") == "640\n"
    docker("cp", f"{tree}/.", "box:/srv/tree")  # the content alone
    docker("exec", box, "sh", "-c", "echo more >>/srv/tree/sub/file; mkdir -p /a/b; ln -s /srv/tree /a/to")
    docker("cp", "box:/srv/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/file").read_text() == "hello\nmore\n"
    assert os.readlink(tmp_path / "back/link") == "sub/file"
    docker("cp", "-L", "box:/a/to", str(tmp_path / "followed"))
    assert (tmp_path / "followed/sub/file").exists()
    docker("cp", "box:/a/to/sub/file", str(tmp_path / "single"))
    assert (tmp_path / "single").read_text() == "hello\nmore\n"
    assert "Could not find the file /gone in container box" in docker("cp", "box:/gone", str(tmp_path), status=1)
    assert "directory" in docker("cp", str(tree / "sub/file"), "box:/gone/", status=1)
    docker("stop", "-t", "0", box)
    docker("cp", str(tree / "sub/file"), "box:/srv/late")
    docker("cp", "box:/srv/late", str(tmp_path / "late"))
    assert (tmp_path / "late").read_text() == "hello\n"


def test_diff_commit_and_run_again(docker: Run, box: str, daemon: Daemon) -> None:
    docker("exec", box, "sh", "-c", "echo x >/new; rm /etc/os-release; mkdir /dir; echo y >/dir/y")
    found = docker("diff", box).splitlines()
    assert {"A /new", "D /etc/os-release", "C /etc", "A /dir", "A /dir/y"} <= set(found)
    assert not [line for line in found if line.split()[1] in ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname")]
    id = docker("commit", "-p", "-m", "why", "-a", "me", "-c", "ENV A=1", "-c", 'CMD ["cat", "/new"]', box, "mine:2")
    assert id.startswith("sha256:")
    assert docker("exec", box, "cat", "/new") == "x\n"
    assert docker("run", "--rm", "mine:2") == "x\n"
    assert docker("run", "--rm", "mine:2", "sh", "-c", "echo $A; ls /etc/os-release; cat /dir/y", status=0).split() == [
        "1", "y",
    ]  # fmt: skip
    daemon.run("DELETE", f"/1.0/images/{id.strip().removeprefix('sha256:')}")
    docker("rm", "-f", box)
    assert not settled(daemon)
    docker("run", "-d", "--name", "box", "tiny", "sleep", "1000")


def test_export_save_and_load(docker: Run, box: str, daemon: Daemon, tmp_path: Path) -> None:
    docker("exec", box, "sh", "-c", "echo x >/new")
    docker("export", "-o", str(tmp_path / "root.tar"), box)
    with tarfile.open(tmp_path / "root.tar") as archive:
        names = set(archive.getnames())
        assert {"new", "etc/os-release"} <= names
        assert archive.getmember("new").uid == 0
    id = docker("commit", box, "saved:1").strip().removeprefix("sha256:")
    docker("save", "-o", str(tmp_path / "saved.tar"), "saved:1")
    daemon.run("DELETE", f"/1.0/images/{id}")
    assert "Loaded image: saved:1" in docker("load", "-i", str(tmp_path / "saved.tar"))
    assert docker("run", "--rm", "saved:1", "cat", "/new") == "x\n"
    assert "Loaded image" in docker("load", input=(tmp_path / "saved.tar").read_bytes())
    daemon.run("DELETE", f"/1.0/images/{id}")
    broken = io.BytesIO((tmp_path / "saved.tar").read_bytes()[:200_000]).getvalue()
    assert "truncated" in docker("load", input=broken, status=1)


def test_a_root_file_system_is_imported(docker: Run, box: str, daemon: Daemon, tmp_path: Path) -> None:
    docker("export", "-o", str(tmp_path / "root.tar"), box)
    root = (tmp_path / "root.tar").read_bytes()
    id = docker("import", "-c", "ENV A=1", "-m", "mine", "-", "made:1", input=root).strip()
    assert id.startswith("sha256:")
    assert docker("run", "--rm", "made:1", "sh", "-c", "echo $A") == "1\n"
    docker("rmi", "made:1")
    assert docker("import", str(tmp_path / "root.tar")).startswith("sha256:")
    docker("image", "prune", "-f")


def test_cp_into_volumes_and_binds_of_a_stopped_container(docker: Run, tmp_path: Path) -> None:
    bind, file = tmp_path / "bind", tmp_path / "file"
    bind.mkdir()
    file.write_text("copied\n")
    (tmp_path / "secret").write_text("of the host\n")
    (bind / "link").symlink_to(tmp_path)
    tmp_path.chmod(0o755)
    mounts = ("-v", "cpvol:/vol", "-v", f"{bind}:/bind", "-v", f"{bind}:/fixed:ro")
    docker("create", "--name", "still", *mounts, "tiny", "cat", "/vol/sub/file", "/bind/file")
    try:
        docker("cp", str(file), "still:/bind")
        (tmp_path / "sub").mkdir()
        shutil.copy(file, tmp_path / "sub/file")
        docker("cp", str(tmp_path / "sub"), "still:/vol")
        assert (bind / "file").read_text() == "copied\n"
        assert "marked read-only" in docker("cp", str(file), "still:/fixed/x", status=1)
        assert "Could not find the file /bind/link/secret" in docker("cp", "still:/bind/link/secret", "-", status=1)
        docker("cp", "still:/vol", str(tmp_path / "back"))
        assert (tmp_path / "back/sub/file").read_text() == "copied\n"
        assert docker("start", "-a", "still") == "copied\ncopied\n"
    finally:
        docker("rm", "-f", "still")
        docker("volume", "rm", "cpvol")


def test_cp_does_not_leave_a_container_that_swaps_its_directories(docker: Run, tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.mkdir()
    (victim / "secret").write_text("of the host\n")
    file.write_text("x")
    swap = f"rm -rf d; mkdir d; rm -rf d; ln -s {victim} d; rm d; ln -s {'../' * 12}{str(victim)[1:]} d; rm d"
    begin = f"mkdir -p /swap {victim}; echo inside >{victim}/secret; cd /swap; while :; do {swap}; done"
    docker("run", "-d", "--name", "swapping", "tiny", "sh", "-c", begin)
    try:
        for _ in range(15):
            for argv in (("cp", str(file), "swapping:/swap/d/"), ("cp", "swapping:/swap/d/secret", "-")):
                assert "of the host" not in docker(*argv, status=None)
        assert os.listdir(victim) == ["secret"]
    finally:
        docker("rm", "-f", "swapping")


def test_the_working_directory_is_made_with_the_container_and_within_it(docker: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    docker(
        "run", "--name", "links", "tiny", "sh", "-c", f"ln -s {'../' * 12}{str(out)[1:]} /up; ln -s {out} /out; : >/f"
    )
    wanted = {"w1": "/made/here", "w2": "/up/x", "w3": "/out/x", "w4": "/f/x"}
    try:
        docker("commit", "links", "links:1")
        for name, cwd in wanted.items():
            docker("create", "--name", name, "-w", cwd, "-u", "1000", "links:1", "pwd")
        assert docker("diff", "w1").splitlines() == ["A /made", "A /made/here"]
        assert docker("start", "-a", "w1") == "/made/here\n"
        assert list(out.iterdir()) == []
    finally:
        docker("rm", "-f", "links", *wanted)
        docker("rmi", "-f", "links:1")


def test_files_of_names_are_seen_in_an_etc_that_is_mounted(docker: Run, tmp_path: Path) -> None:
    etc, own = tmp_path / "etc", tmp_path / "own"
    etc.mkdir()
    own.write_text("127.0.0.9 mine\n")
    for path, mode in ((tmp_path, 0o755), (etc, 0o777), (own, 0o644)):
        path.chmod(mode)
    inside = "cat /etc/hostname; grep -c localhost /etc/hosts; cat /etc/resolv.conf >&2; echo x >/etc/x"
    given = ("run", "--rm", "--hostname", "named")
    assert docker(*given, "-v", f"{etc}:/etc", "tiny", "sh", "-c", inside) == "named\n2\n"
    assert sorted((path.name, path.read_text()) for path in etc.iterdir()) == [
        ("hostname", ""), ("hosts", ""), ("resolv.conf", ""), ("x", "x\n"),
    ]  # fmt: skip
    assert (
        docker(*given, "-v", f"{etc}:/etc:ro", "-v", f"{own}:/etc/hosts", "tiny", "cat", "/etc/hosts")
        == own.read_text()
    )
    victim = tmp_path / "victim"
    for name, target in (("hosts", str(victim)), ("hostname", f"{'../' * 12}made/by/link")):
        (etc / name).unlink()
        (etc / name).symlink_to(target)
    inside = "cat /etc/hostname /made/by/link; grep -c localhost /etc/hosts"
    assert docker(*given, "-v", f"{etc}:/etc", "tiny", "sh", "-c", inside) == "named\nnamed\n2\n"
    assert not victim.exists()
    assert docker(*given, "--read-only", "tiny", "sh", "-c", "! echo x >>/etc/hosts; cat /etc/hostname") == "named\n"
