"""Transfer of files and images, also hostile ones."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_tree import GuestTree
from raw_server import RawServer, reply
from served_daemon import ServedDaemon
from tars import member, packed, tar

from isola.model.reference import Ref

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ServedDaemon]:
    (tmp_path / "daemon").mkdir()
    with ServedDaemon(tmp_path / "daemon") as daemon:
        daemon.create("web1")
        daemon.tree("web1").clear()
        yield daemon


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def isola(daemon: ServedDaemon, here: Path) -> Run:
    def run(*arguments: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[bytes]:
        options = {"stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        variables = os.environ | {"ISOLA_DIR": str(daemon.directory)}
        argv = [sys.executable, "-m", "isola.cli.main", *arguments]
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            argv, capture_output=True, timeout=120, cwd=here, env=variables, check=False, **options
        )
        assert done.returncode == status, done.stderr
        return done

    return run


def tree(daemon: ServedDaemon) -> GuestTree:
    return daemon.tree("web1")


def test_push_keeps_modes_and_sets_owners(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    (here / "run.sh").write_text("#!/bin/sh\n")
    (here / "run.sh").chmod(0o750)
    isola("file", "push", "run.sh", "web1/run")
    assert tree(daemon)["/run"] == {"kind": "file", "data": b"#!/bin/sh\n", "uid": "0", "gid": "0", "mode": "0750"}
    isola("file", "push", "run.sh", "web1/srv/", "-p", "--uid", "33", "--gid", "34", "--mode", "0600")
    assert tree(daemon)["/srv"]["kind"] == "directory"
    assert tree(daemon)["/srv/run.sh"] | {"data": b""} == {
        "kind": "file",
        "data": b"",
        "uid": "33",
        "gid": "34",
        "mode": "0600",
    }
    tree(daemon)["/etc"] = {"kind": "directory"}
    isola("file", "push", "-", "web1/etc/motd", input=b"hello\n" * 50_000)
    assert tree(daemon)["/etc/motd"]["data"] == b"hello\n" * 50_000


def test_a_directory_is_pushed_and_pulled_unchanged(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    site = here / "site"
    (site / "img").mkdir(parents=True)
    (site / "index.html").write_text("hi")
    (site / "img" / "a.png").write_bytes(bytes(range(256)) * 1000)
    (site / "latest").symlink_to("img/a.png")
    os.mkfifo(site / "pipe")
    assert b"site is a directory" in isola("file", "push", "site", "web1/srv", status=2).stderr
    assert b"Skipped" in isola("file", "push", "-r", "site", "web1/srv").stderr
    assert tree(daemon)["/srv/latest"]["data"] == b"img/a.png"
    isola("file", "pull", "-r", "web1/srv", "back")
    assert (here / "back" / "img" / "a.png").read_bytes() == (site / "img" / "a.png").read_bytes()
    assert (here / "back" / "latest").readlink() == Path("img/a.png")
    assert sorted(os.listdir(here / "back")) == ["img", "index.html", "latest"]
    assert isola("file", "pull", "web1/srv/index.html", "-").stdout == b"hi"
    isola("file", "delete", "-r", "web1/srv")
    assert list(tree(daemon)) == ["/"]


LINKS: dict[str, dict[str, Any]] = {
    "/etc": {"kind": "directory"},
    "/etc/os-release": {"kind": "symlink", "data": b"../usr/lib/os-release"},
    "/etc/again": {"kind": "symlink", "data": b"os-release"},
    "/usr": {"kind": "directory"},
    "/usr/lib": {"kind": "directory"},
    "/usr/lib/os-release": {"kind": "file", "data": b"NAME=Tiny\n", "mode": "0640"},
    "/lib": {"kind": "symlink", "data": b"/usr/lib"},
    "/ring": {"kind": "symlink", "data": b"ring"},
    "/astray": {"kind": "symlink", "data": b"/no/where"},
}


@pytest.mark.parametrize("path", ["etc/os-release", "etc/again", "usr/lib/os-release"])
def test_a_given_symlink_is_followed_inside(isola: Run, daemon: ServedDaemon, here: Path, path: str) -> None:
    tree(daemon).update(LINKS)
    assert isola("file", "show", f"web1/{path}").stdout == b"NAME=Tiny\n"
    assert isola("file", "pull", f"web1/{path}", "-").stdout == b"NAME=Tiny\n"
    isola("file", "pull", f"web1/{path}", ".")
    found = here / os.path.basename(path)
    assert not found.is_symlink() and found.read_bytes() == b"NAME=Tiny\n"
    assert stat.S_IMODE(found.stat().st_mode) == 0o640


def test_a_symlink_to_a_directory_is_followed(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    tree(daemon).update(LINKS)
    assert isola("file", "show", "web1/lib").stdout == b"os-release\n"
    assert b"lib is a directory" in isola("file", "pull", "web1/lib", ".", status=2).stderr
    (here / "new").write_text("x")
    isola("file", "push", "new", "web1/lib")
    assert tree(daemon)["/lib/new"]["data"] == b"x" and tree(daemon)["/lib"]["kind"] == "symlink"


def test_a_dangling_symlink_is_an_error(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    tree(daemon).update(LINKS)
    assert b"/no/where" in isola("file", "show", "web1/astray", status=1).stderr
    assert b"too many symbolic links" in isola("file", "pull", "web1/ring", ".", status=1).stderr
    assert not os.listdir(here)


def test_a_missing_directory_is_named_with_a_remedy(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    (here / "f").write_text("x")
    for arguments in (("push", "f", "web1/srv/www/f"), ("push", "f", "web1/srv/www/"), ("mkdir", "web1/srv/www/img")):
        stderr = isola("file", *arguments, status=1).stderr
        assert b"no directory /srv/www" in stderr and b"create it with -p" in stderr
        assert list(tree(daemon)) == ["/"]
    assert b"-p" not in isola("file", "push", "f", "none/srv/www/f", status=1).stderr
    isola("file", "push", "-p", "f", "web1/srv/www/f")
    isola("file", "mkdir", "web1/srv/own")
    assert {tree(daemon)[path]["mode"] for path in ("/srv", "/srv/www", "/srv/own")} == {"0755"}


def test_a_pulled_symlink_does_not_redirect_a_later_pull(
    isola: Run, daemon: ServedDaemon, here: Path, tmp_path: Path
) -> None:
    """First a symlink is pulled, then it is a directory inside: the second pull must not follow the local link."""
    victim = tmp_path / "victim"
    victim.mkdir()
    tree(daemon)["/d"] = {"kind": "directory", "names": ["x"]}
    tree(daemon)["/d/x"] = {"kind": "symlink", "data": str(victim).encode()}
    isola("file", "pull", "-r", "web1/d", ".")
    tree(daemon)["/d/x"] = {"kind": "directory", "names": ["passwd"]}
    tree(daemon)["/d/x/passwd"] = {"kind": "file", "data": b"root::0:0:::"}
    isola("file", "pull", "-r", "web1/d", ".", status=1)
    assert os.listdir(victim) == []


def test_a_pulled_file_replaces_a_link_and_never_writes_through_it(
    isola: Run, daemon: ServedDaemon, here: Path
) -> None:
    (here / "precious").write_text("keep me")
    (here / "hosts").symlink_to("precious")
    tree(daemon)["/etc"] = {"kind": "directory"}
    tree(daemon)["/etc/hosts"] = {"kind": "file", "data": b"new", "mode": "4755"}
    isola("file", "pull", "web1/etc/hosts", ".")
    assert (here / "precious").read_text() == "keep me"
    assert (here / "hosts").read_text() == "new"
    assert stat.S_IMODE((here / "hosts").lstat().st_mode) == 0o755
    assert sorted(os.listdir(here)) == ["hosts", "precious"]


def test_names_that_lead_out_of_the_directory_are_left_out(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    tree(daemon)["/d"] = {"kind": "directory", "names": ["../../escape", "..", "/etc/x", "fine"]}
    tree(daemon)["/d/fine"] = {"kind": "file", "data": b"fine"}
    isola("file", "pull", "-r", "web1/d", "copy")
    assert os.listdir(here / "copy") == ["fine"]
    assert os.listdir(here) == ["copy"]


def test_unreadable_files_do_not_end_a_copy(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    tree(daemon)["/d"] = {"kind": "directory", "names": ["a-gone\x1b[31m", "b-there"]}
    tree(daemon)["/d/b-there"] = {"kind": "file", "data": b"fine"}
    done = isola("file", "pull", "-r", "web1/d", "copy")
    assert os.listdir(here / "copy") == ["b-there"]
    assert b"Skipped: /d/a-gone" in done.stderr and b"\x1b" not in done.stderr
    isola("file", "pull", "-r", "web1/nothing", "copy", status=1)


def test_files_are_shown_edited_and_directories_made(isola: Run, daemon: ServedDaemon) -> None:
    isola("file", "mkdir", "-p", "web1/srv/www", "--mode", "0700")
    assert tree(daemon)["/srv/www"]["mode"] == "0700"
    isola("file", "edit", "web1/srv/www/a", input=b"", status=1)
    tree(daemon)["/srv/www/a"] = {"kind": "file", "data": b"old"}
    isola("file", "edit", "web1/srv/www/a", input=b"new\xff")
    assert tree(daemon)["/srv/www/a"]["data"] == b"new\xff"
    assert isola("file", "show", "web1/srv/www").stdout == b"a\n"


DESCRIPTION = member("metadata.yaml", b'{"architecture": "x86_64", "creation_date": 1700000000}')
PARTS = [packed(tar(each), "gzip") for each in (DESCRIPTION, member("sbin/init", bytes(range(256)) * 2000))]
WHOLE = packed(tar(DESCRIPTION, member("rootfs/sbin/init", bytes(range(256)) * 2000)), "gzip")


def imported(daemon: ServedDaemon, parts: int) -> str:
    """The fingerprint of the image that was imported from so many files, and is not ``tiny``."""
    images = daemon.world.parts.services.images
    tiny = images.alias(Ref.default("tiny")).target
    (found,) = (
        each.fingerprint for each in images if each.fingerprint != tiny and len(images.export(each.ref)) == parts
    )
    return found


def test_images_are_imported_and_exported(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    (here / "image.tar.gz").write_bytes(WHOLE)
    isola("image", "import", "image.tar.gz")
    whole = imported(daemon, 1)
    assert b"Written to debian12.tar.gz" in isola("image", "export", whole[:12], "debian12").stderr
    assert (here / "debian12.tar.gz").read_bytes() == WHOLE
    (here / "out").mkdir()
    isola("image", "export", whole, "out")
    assert [path.read_bytes() for path in (here / "out").iterdir()] == [WHOLE]
    assert isola("image", "export", whole, "-").stdout == WHOLE


def test_a_split_image_is_imported_and_exported(isola: Run, daemon: ServedDaemon, here: Path) -> None:
    for name, data in zip(("meta.tar", "root.tar.gz"), PARTS, strict=True):
        (here / name).write_bytes(data)
    isola("image", "import", "meta.tar", "root.tar.gz")
    split = imported(daemon, 2)
    assert split == hashlib.sha256(b"".join(PARTS)).hexdigest()
    (here / "out").mkdir()
    isola("image", "export", split, "out")
    assert sorted(path.read_bytes() for path in (here / "out").iterdir()) == sorted(PARTS)
    assert b"two files" in isola("image", "export", split, "-", status=1).stderr


NO_ALIAS = reply(b'{"type":"error","error":"none","error_code":404,"metadata":{"code":"not_found"}}', status="404 X")


def exported(tmp_path: Path, here: Path, *answers: bytes) -> None:
    """``isola image export abc out`` from a server with these responses."""
    (tmp_path / "hostile").mkdir()
    RawServer(tmp_path / "hostile", *answers)
    (here / "out").mkdir()
    argv = [sys.executable, "-m", "isola.cli.main", "image", "export", "abc", "out"]
    variables = os.environ | {"ISOLA_DIR": str(tmp_path / "hostile")}
    done = subprocess.run(argv, capture_output=True, timeout=120, cwd=here, env=variables, check=False)
    assert done.returncode == 0, done.stderr


def test_an_export_stays_in_its_directory_whatever_name_the_server_sends(tmp_path: Path, here: Path) -> None:
    name = "Content-Disposition: attachment; filename=/etc/image.tar.gz"
    exported(tmp_path, here, NO_ALIAS, reply(b"i" * 500_000, name, "Content-Type: application/octet-stream"))
    assert (here / "out" / "image.tar.gz").read_bytes() == b"i" * 500_000
    assert os.listdir(here / "out") == ["image.tar.gz"]


def test_both_files_of_an_export_stay_in_their_directory(tmp_path: Path, here: Path) -> None:
    boundary = "frontier"
    parts = (("metadata", "meta.tar.xz", b"m" * 9), ("rootfs", "../../rootfs.img", b"\r\n--" * 99999))
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, file, data in parts
    )
    body += f"--{boundary}--\r\n".encode()
    exported(tmp_path, here, NO_ALIAS, reply(body, f"Content-Type: multipart/form-data; boundary={boundary}"))
    assert (here / "out" / "rootfs.img").read_bytes() == b"\r\n--" * 99999
    assert (here / "out" / "meta.tar.xz").read_bytes() == b"m" * 9
    assert os.listdir(here) == ["out"]


def test_an_image_is_built_and_found(isola: Run, daemon: ServedDaemon) -> None:
    assert b"Image debian/12 is ready" in isola("image", "build", "debian/12").stderr
    fingerprint = daemon.world.parts.services.images.alias(Ref.default("debian/12")).target
    assert isola("image", "list", "-f", "csv").stdout.startswith(f"debian/12,{fingerprint[:12]},".encode())
