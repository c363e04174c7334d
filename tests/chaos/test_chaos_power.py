"""The power fails right after a response: acknowledged changes are on disk, deleted objects do not reappear."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from disk import Disk, disk, file_systems
from tiny_daemon import tiny_daemon

from isola.testing.images import tiny_image

SIZES = {"ext4": 96 << 20, "btrfs": 256 << 20}
ROUNDS = 4
CUSTOM = "/1.0/storage-pools/default/volumes/custom"
TEXT = "written before the snapshot\n" * 5000
WRITES = 2000
"""At most, until the database overwrites its log in place: from then on its sync writes nothing else to the disk."""


@pytest.fixture(scope="module", params=file_systems())
def power(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Disk, Daemon]]:
    """A daemon whose directory is on a disk with simulated power failures."""
    image = tmp_path_factory.mktemp("image")
    with disk(request.param, size=SIZES[request.param]) as own, tiny_daemon(image, place=own.mount) as daemon:
        begun = rounds(daemon)
        for number in range(WRITES):
            daemon.request("PATCH", "/1.0/profiles/default", {"description": f"{number}"})
            if rounds(daemon) > begun:
                break
        assert rounds(daemon) > begun
        yield own, daemon


def rounds(daemon: Daemon) -> int:
    """How often the log of the database was begun again from its start, as its header says."""
    with (daemon.directory / "isola.db-wal").open("rb") as log:
        return int.from_bytes(log.read(16)[12:], "big")


def kept(directory: Path) -> dict[str, dict[str, Any]]:
    """The records in a copy, by key."""
    database = sqlite3.connect(directory / "isola.db")
    try:
        rows = database.execute("SELECT key, value FROM entries").fetchall()
    finally:
        database.close()
    return {key: json.loads(value) for key, value in rows if not key.startswith(("/uses/", "/usable/"))}


def lost(own: Disk, daemon: Daemon) -> list[str]:
    """Objects in the records of a copy that are missing on its disk."""
    with own.after_power_failure() as mount:
        directory = mount / daemon.directory.name
        records = kept(directory)
        pool = directory / "pools" / "default"
        found = []
        for key, record in records.items():
            if key.startswith("/instances/"):
                volume = pool / "volumes" / record["id"]
                found += [f"{key}: {name}" for name in ("upper", "work") if not (volume / name).is_dir()]
                layers = [digest.removeprefix("sha256:") for digest in record["start"]["layers"]]
                found += [f"{key}: layer" for layer in layers if not (pool / "layers" / layer / "bin").is_dir()]
            if key.startswith("/images/"):
                blobs = [record["manifest"], *(layer["digest"] for layer in record["layers"])]
                places = [directory / "images" / "blobs" / "sha256" / blob.removeprefix("sha256:") for blob in blobs]
                found += [
                    f"{key}: {place.name[:8]}" for place in places if not (place.is_file() and place.stat().st_size)
                ]
            if key.startswith("/pools/") and not pool.is_dir():
                found.append(key)
            if key.startswith("/volumes/"):
                found += _missing(key, pool / "custom" / record["id"] / "data")
            if key.startswith("/volume-snapshots/"):
                found += _missing(key, pool / "custom" / record["volume"] / "snapshots" / record["id"])
            if key.startswith("/instance-snapshots/"):
                found += _missing(key, pool / "volumes" / record["instance"]["id"] / "snapshots" / record["id"])
        known = {record["id"] for key, record in records.items() if key.startswith(("/instances/", "/volumes/"))}
        for place in ("logs", "run", "pools/default/volumes", "pools/default/custom"):
            names = {path.name for path in (directory / place).glob("[0-9a-f]*") if len(path.name) == 16}
            found += [f"{place}/{name} belongs to nothing" for name in names - known]
        names = {key for key in records if key.startswith("/instances/")}
        return found + [
            f"{names} instead" for _ in range(names != {f"/instances/default/{name}" for name in present(daemon)})
        ]


def _missing(key: str, place: Path) -> list[str]:
    return [] if place.is_dir() else [f"{key}: {place.name}"]


def present(daemon: Daemon) -> set[str]:
    return {path.rpartition("/")[2] for path in daemon.get("/1.0/instances")}


def test_acknowledged_changes_are_on_disk(power: tuple[Disk, Daemon]) -> None:
    own, daemon = power
    for number in range(ROUNDS):
        source = {"type": "image", "alias": "tiny"}
        daemon.run("POST", "/1.0/instances", {"name": f"p{number}", "source": source, "start": number % 2 == 0})
        assert not lost(own, daemon), f"after {number + 1} launches"


def test_deleted_objects_do_not_reappear(power: tuple[Disk, Daemon]) -> None:
    own, daemon = power
    for number in range(2):
        daemon.launch(f"d{number}")
        daemon.exec(f"d{number}", "true")
    import os

    os.sync()
    for number in range(2):
        daemon.run("DELETE", f"/1.0/instances/d{number}?force=1")
        assert not lost(own, daemon)


def test_an_image_and_its_unpacked_layers(power: tuple[Disk, Daemon], tmp_path: Path) -> None:
    own, daemon = power
    daemon.import_image(tiny_image(tmp_path, "other"), "other")
    assert not lost(own, daemon)
    daemon.run("POST", "/1.0/instances", {"name": "other", "source": {"type": "image", "alias": "other"}})
    assert not lost(own, daemon)


def test_a_pool(power: tuple[Disk, Daemon]) -> None:
    own, daemon = power
    daemon.run("POST", "/1.0/storage-pools", {"name": "second", "driver": "overlay", "config": {}})
    with own.after_power_failure() as mount:
        directory = mount / daemon.directory.name
        assert "/pools/second" in kept(directory)
        assert (directory / "pools" / "second" / "volumes").is_dir()
    daemon.run("DELETE", "/1.0/storage-pools/second")


def in_pool(own: Disk, daemon: Daemon, prefix: str, *place: str) -> str:
    """A file of the first object with this prefix of its key, as it is after a power failure now."""
    with own.after_power_failure() as mount:
        directory = mount / daemon.directory.name
        record = next(record for key, record in sorted(kept(directory).items()) if key.startswith(prefix))
        return (directory / "pools/default" / "/".join(place).format(**record)).read_text()


def test_volumes_and_their_copies(power: tuple[Disk, Daemon]) -> None:
    own, daemon = power
    daemon.run("POST", CUSTOM, {"name": "v0"})
    assert not lost(own, daemon)
    written = next(path for path in (daemon.directory / "pools/default/custom").iterdir()) / "data" / "file"
    written.write_text(TEXT)
    daemon.run("POST", CUSTOM, {"name": "v1", "source": {"type": "copy", "name": "v0", "pool": "default"}})
    assert not lost(own, daemon)
    assert in_pool(own, daemon, "/volumes/default/custom/default/v1", "custom", "{id}", "data", "file") == TEXT
    daemon.run("DELETE", f"{CUSTOM}/v0")
    assert not lost(own, daemon)
    daemon.run("DELETE", f"{CUSTOM}/v1")
    assert not lost(own, daemon)


def test_snapshots_of_volumes(power: tuple[Disk, Daemon]) -> None:
    own, daemon = power
    daemon.run("POST", CUSTOM, {"name": "data"})
    file = next(path for path in (daemon.directory / "pools/default/custom").iterdir()) / "data" / "file"
    file.write_text(TEXT)
    daemon.run("POST", f"{CUSTOM}/data/snapshots", {"name": "s0"})
    assert not lost(own, daemon)
    kept_as = ("custom", "{volume}", "snapshots", "{id}", "file")
    assert in_pool(own, daemon, "/volume-snapshots/", *kept_as) == TEXT
    file.write_text("written after it")
    daemon.run("PUT", f"{CUSTOM}/data", {"restore": "s0"})
    assert in_pool(own, daemon, "/volumes/", "custom", "{id}", "data", "file") == TEXT
    daemon.run("DELETE", f"{CUSTOM}/data/snapshots/s0")
    daemon.run("DELETE", f"{CUSTOM}/data")
    assert not lost(own, daemon)


def test_snapshots_of_instances_and_images_made_of_them(power: tuple[Disk, Daemon]) -> None:
    own, daemon = power
    daemon.run("POST", "/1.0/instances", {"name": "s", "source": {"type": "image", "alias": "tiny"}})
    daemon.request("POST", "/1.0/instances/s/files?path=/file", TEXT.encode())
    daemon.run("POST", "/1.0/instances/s/snapshots", {"name": "s0"})
    assert not lost(own, daemon)
    kept_as = ("volumes", "{instance[id]}", "snapshots", "{id}", "file")
    assert in_pool(own, daemon, "/instance-snapshots/", *kept_as) == TEXT
    json_type = {"Content-Type": "application/json"}
    daemon.run("POST", "/1.0/images", {"source": {"type": "snapshot", "name": "s/s0"}}, headers=json_type)
    assert not lost(own, daemon)
    daemon.run("DELETE", "/1.0/instances/s")
    assert not lost(own, daemon)
