"""A daemon whose directory lies on a file system of its own, as /var often does; and what it does when that is full."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import ApiError, Daemon

from isola.testing.images import tiny_image


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MiB, where the root of an instance may pass."""
    place = Path(tempfile.mkdtemp(prefix="isola-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=711", "isola-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


@pytest.fixture
def daemon_on_it(small_disk: Path, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(place=small_disk)
    try:
        daemon.start()
        daemon.import_image(Path(tiny_image(tmp_path)), "tiny")
        yield daemon
    finally:
        daemon.close()


def test_commands_run(daemon_on_it: Daemon) -> None:
    daemon_on_it.launch("apart")
    assert daemon_on_it.exec("apart", "echo", "here") == (0, "here\n", "")


def test_an_upload_to_a_full_disk_is_refused_with_the_reason(daemon_on_it: Daemon, small_disk: Path) -> None:
    with (small_disk / "filling").open("wb", 0) as filling, pytest.raises(OSError, match="No space"):
        while True:
            filling.write(bytes(4096))
    with pytest.raises(ApiError, match="No space left") as refused:
        daemon_on_it.request("POST", "/1.0/images", bytes(2**20), headers={"Content-Type": "application/octet-stream"})
    assert refused.value.code == "host_failure"
    (small_disk / "filling").unlink()
    assert not list((daemon_on_it.directory / "images" / "scratch").iterdir())
    daemon_on_it.launch("later")
