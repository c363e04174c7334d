"""The database is lost, damaged or outdated: nothing is changed, and the remedy in the message restores all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit import settled
from command import Cli
from daemon import Daemon
from tiny_daemon import tiny_daemon


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A separate daemon: one instance in an old copy of the database, two newer ones."""
    with tiny_daemon(tmp_path_factory.mktemp("image")) as daemon:
        daemon.launch("early")
        Cli(daemon)("admin", "backup-state", str(daemon.directory / "yesterday"))
        daemon.stop()
        daemon.start()  # the latest copy and the database without its log know the image, whichever case is the first
        daemon.launch("late", config={"user.note": "kept"})
        daemon.run("POST", "/1.0/instances", {"name": "quiet", "source": {"type": "image", "alias": "tiny"}})
        yield daemon


def older(directory: Path) -> None:
    deleted_log(directory)
    shutil.copy(directory / "yesterday", directory / "isola.db")


def deleted_log(directory: Path) -> None:
    for part in ("-wal", "-shm"):
        (directory / f"isola.db{part}").unlink(missing_ok=True)


def cut_log(directory: Path) -> None:
    log = directory / "isola.db-wal"
    os.truncate(log, log.stat().st_size * 2 // 3)


def missing(directory: Path) -> None:
    deleted_log(directory)
    (directory / "isola.db").unlink()


def flipped(directory: Path) -> None:
    import sqlite3

    sqlite3.connect(directory / "isola.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    content = bytearray((directory / "isola.db").read_bytes())
    place = content.index(b'"name":"late"')
    content[place + 8] ^= 2
    (directory / "isola.db").write_bytes(content)


def picture(daemon: Daemon) -> object:
    """Volumes, processes, mounted roots and links."""
    volumes = daemon.directory / "pools/default/volumes"
    return (
        sorted(path.name for path in volumes.iterdir()),
        sorted((pid, argv) for pid, argv in daemon.host_processes().items() if "conmon" in argv.split()[0]),
        daemon.mounts(),
        daemon.links(),
        sorted(path.name for path in (daemon.directory / "pools/default/layers").iterdir()),
        sorted(path.name for path in (daemon.directory / "images/blobs/sha256").iterdir()),
    )


def recover(daemon: Daemon, *what: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "isola.daemon.main", "--dir", str(daemon.directory), "--recover", *what],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("damage", "ways"),
    [
        (older, ["as-is"]),
        (older, ["copy"]),
        (deleted_log, ["copy"]),
        (cut_log, ["as-is"]),
        (missing, ["copy"]),
        (missing, ["yesterday"]),
        (missing, ["empty"]),
        (flipped, ["yesterday"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value.__name__,
)
def test_nothing_is_changed_and_everything_is_restored(
    damage: Callable[[Path], None], ways: list[str], own: Daemon
) -> None:
    own.idle()
    pids = {name: own.pid(name) for name in ("early", "late")}
    before = picture(own)
    for number in range(10):  # so that the log contains data
        own.request("PATCH", "/1.0/profiles/default", {"description": f"{number}"})
    own.kill()
    damage(own.directory)
    for _ in range(2):
        with pytest.raises(AssertionError, match="--recover"):
            own.start()
        assert own.process is not None and own.process.returncode == 2
    assert picture(own) == before
    recover(own, *(str(own.directory / way) if way == "yesterday" else way for way in ways))
    own.start()
    assert picture(own) == before
    isola = Cli(own)
    listed = json.loads(isola("admin", "unknown", "-f", "json").stdout)
    assert all(item["adoptable"] for item in listed if item["type"] == "instance")
    if any(item["type"] == "instance" for item in listed):
        assert "is not in the database; it is left alone" in isola("doctor", check=False).stdout
        isola("admin", "adopt", "--all")
    assert {name: own.pid(name) for name in ("early", "late")} == pids
    assert own.status("quiet") == "Stopped"
    assert own.get("/1.0/instances/late")["config"]["user.note"] == "kept"
    assert own.exec("late", "hostname")[:2] == (0, "late\n")
    assert picture(own)[:5] == before[:5]  # type: ignore[index]
    own.change("quiet", "start")
    own.change("quiet", "stop", force=True)
    if ways != ["empty"]:
        assert not settled(own)
    own.stop()
    own.start()
    assert {name: own.pid(name) for name in ("early", "late")} == pids


def test_unknown_objects_are_removed_on_request(own: Daemon) -> None:
    isola = Cli(own)
    own.kill()
    missing(own.directory)
    recover(own, "empty")
    own.start()
    isola("admin", "remove-unknown", "late", "image-content")
    isola("admin", "adopt", "early")
    assert own.exec("early", "true")[0] == 0
    assert [item["name"] for item in json.loads(isola("admin", "unknown", "-f", "json").stdout)] == ["quiet"]
    isola("admin", "adopt", "quiet", "--name", "silent")
    failed = isola("admin", "adopt", "nothing", check=False)
    assert failed.returncode == 1 and "isola admin unknown" in failed.stderr
    assert not settled(own)
