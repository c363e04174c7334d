"""The daemon's directory: on a separate file system, as /var often is, on a full disk, and with any umask."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import ApiError, Daemon
from tiny_daemon import tiny_daemon

from isola.testing.images import tiny_image


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MiB that root of an instance may search."""
    place = Path(tempfile.mkdtemp(prefix="isola-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=711", "isola-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


@pytest.fixture
def daemon_on_it(small_disk: Path, tmp_path: Path) -> Iterator[Daemon]:
    with tiny_daemon(tmp_path, place=small_disk) as daemon:
        yield daemon


def test_commands_run(daemon_on_it: Daemon) -> None:
    daemon_on_it.launch("apart")
    assert daemon_on_it.exec("apart", "echo", "here") == (0, "here\n", "")


def test_an_upload_to_a_full_disk_is_refused_with_the_reason(daemon_on_it: Daemon, small_disk: Path) -> None:
    with (small_disk / "filling").open("wb", 0) as filling, pytest.raises(OSError, match="No space"):
        while True:
            filling.write(bytes(4096))
    with pytest.raises(ApiError, match="No space left") as refused:
        daemon_on_it.request("POST", "/1.0/images", bytes(2**20), headers={"Content-Type": "application/octet-stream"})
    assert refused.value.code == "storage_full"
    (small_disk / "filling").unlink()
    assert not list((daemon_on_it.directory / "images" / "scratch").iterdir())
    daemon_on_it.launch("later")


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_permissions_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    daemon = Daemon()
    daemon.log = tmp_path / "log"
    shutil.rmtree(daemon.directory)
    before = os.umask(mask)
    try:
        daemon.start()
        os.umask(before)
        daemon.import_image(Path(tiny_image(tmp_path)), "tiny")
        daemon.launch("here")
        assert stat.S_IMODE(daemon.directory.stat().st_mode) == 0o711
        files = [path for path in (daemon.directory / "run").rglob("*") if path.is_file() and not path.is_symlink()]
        assert files and not [path for path in files if path.stat().st_mode & 0o022]
    finally:
        os.umask(before)
        daemon.close()


def test_permissions_of_an_open_directory_are_restricted() -> None:
    """Users who can open it could lock it, which blocks the daemon; with write access they could replace the socket."""
    daemon = Daemon()
    daemon.directory.chmod(0o777)
    try:
        daemon.start()
        assert stat.S_IMODE(daemon.directory.stat().st_mode) == 0o711
        assert stat.S_IMODE((daemon.directory / "logs").stat().st_mode) == 0o700, "whatever has made it"
    finally:
        daemon.close()


def test_a_directory_of_another_user_is_refused() -> None:
    daemon = Daemon()
    os.chown(daemon.directory, 1234, 1234)
    try:
        with pytest.raises(AssertionError, match="belongs to user 1234"):
            daemon.start()
        assert not daemon.socket.exists()
    finally:
        os.chown(daemon.directory, 0, 0)
        daemon.close()
