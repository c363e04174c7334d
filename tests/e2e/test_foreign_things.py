"""What an administrator has put into a pool survives restarts, reconciliation, and taking the daemon down and up."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import ApiError, Daemon

POOLS = {"btrfs": {"size": "512MiB"}, "dir": {}, "overlay": {}}


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()


@pytest.mark.parametrize("driver", POOLS)
def test_they_survive(daemon: Daemon, driver: str) -> None:
    daemon.run("POST", "/1.0/storage-pools", {"name": "own", "driver": driver, "config": POOLS[driver]})
    (volumes,) = (daemon.directory / "pools" / "own").rglob("volumes")
    foreign = [volumes / "foreign", volumes / "0123456789abcdef", volumes.parent / "foreign"]
    for place in foreign:
        make(place, subvolume=driver == "btrfs")
    daemon.kill()
    daemon.start()
    daemon.idle()
    assert [read(place) for place in foreign] == ["precious"] * 3
    daemon.stop(instances=True)
    daemon.start()
    daemon.idle()
    assert [read(place) for place in foreign] == ["precious"] * 3
    with pytest.raises(ApiError, match="unknown instance foreign"):
        daemon.run("DELETE", "/1.0/storage-pools/own")
    daemon.stop()
    for place in foreign:
        shutil.rmtree(place)
    daemon.start()
    daemon.run("DELETE", "/1.0/storage-pools/own")


def make(place: Path, *, subvolume: bool) -> None:
    if subvolume:
        subprocess.run(["btrfs", "subvolume", "create", str(place)], check=True, capture_output=True)
    else:
        place.mkdir()
    (place / "deep").mkdir()
    (place / "deep" / "file").write_text("precious")


def read(place: Path) -> str:
    return (place / "deep" / "file").read_text()
