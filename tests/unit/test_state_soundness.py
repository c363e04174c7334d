"""A database that is lost, damaged or outdated is refused before anything is changed, and can be restored."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isola.daemon.copies import COPIES, LATEST, Copies
from isola.daemon.recover import recover
from isola.daemon.remedies import ways_out
from isola.errors import NotFound, SuspectState
from isola.host.linux import linux_host
from isola.state.drivers.sqlite import SqliteStore
from isola.state.intents import PREFIX
from isola.state.sqlite_file import MARK
from isola.testing.clock import FakeClock

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
KEPT = "/instances/early"
LATE = "/instances/late"


async def filled(directory: Path) -> None:
    """A directory whose daemon was killed, with a copy that lacks the last of its records."""
    live = directory.with_name(f"{directory.name}-live")
    live.mkdir()
    store = SqliteStore(live, FakeClock())
    await store.open()
    (live / "pools").mkdir()
    await store.put(KEPT, b'{"name": "early"}' + bytes(2000))
    await store.put(f"{PREFIX}abc", b"{}")
    await Copies(linux_host(), live, store).keep()
    for number in range(20):
        await store.put(LATE, b"%d" % number * 3000)
    shutil.copytree(live, directory, dirs_exist_ok=True)  # before it is closed, so the content of the log stays there
    await store.close()


def older(directory: Path) -> None:
    """An old copy of the file, restored by hand."""
    (directory / "isola.db").write_bytes((directory / COPIES / LATEST).read_bytes())
    deleted_log(directory)


def deleted_log(directory: Path) -> None:
    for part in ("-wal", "-shm"):
        (directory / f"isola.db{part}").unlink(missing_ok=True)


def cut_log(directory: Path) -> None:
    log = directory / "isola.db-wal"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])


def missing(directory: Path) -> None:
    (directory / "isola.db").unlink()


def missing_all(directory: Path) -> None:
    for path in directory.glob("isola.*"):
        path.unlink()


def empty(directory: Path) -> None:
    (directory / "isola.db").write_bytes(b"")
    deleted_log(directory)


def _settled(directory: Path) -> None:
    sqlite3.connect(directory / "isola.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()


def flipped_in_a_record(directory: Path) -> None:
    _settled(directory)
    path = directory / "isola.db"
    content = bytearray(path.read_bytes())
    content[content.index(b'"early"') + 2] ^= 1
    path.write_bytes(content)


def flipped_in_the_structure(directory: Path) -> None:
    _settled(directory)
    path = directory / "isola.db"
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096] ^= 0x40
    path.write_bytes(content)


def zeros(directory: Path) -> None:
    _settled(directory)
    (directory / "isola.db").write_bytes(bytes(8192))


DAMAGES = (
    older, deleted_log, cut_log, missing, missing_all, empty, flipped_in_a_record, flipped_in_the_structure, zeros,
)  # fmt: skip


def picture(directory: Path) -> dict[str, bytes]:
    """Content of the database files; reading leaves an empty log."""
    found = {path.name: path.read_bytes() for path in directory.glob("isola.*") if not path.name.endswith("-shm")}
    return {name: content for name, content in found.items() if content or not name.endswith("-wal")}


async def keys(directory: Path) -> set[str]:
    store = SqliteStore(directory, FakeClock())
    await store.open()
    try:
        return {entry.key for entry in await store.range("/")}
    finally:
        await store.close()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_database_is_refused_unchanged_and_can_be_restored(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    before = picture(tmp_path)
    for _ in range(2):
        with pytest.raises(SuspectState) as refused:
            await keys(tmp_path)
        assert "the newest intact copy" in refused.value.remedy
        assert "isolad --recover copy" in ways_out(refused.value)
    assert picture(tmp_path) == before
    told = recover(tmp_path, "copy", NOW)
    assert LATEST in told
    assert await keys(tmp_path) == {KEPT}, "intents in the copy do not cause removals"
    (aside,) = (tmp_path / COPIES).glob("aside-*")
    assert {name: content for name, content in picture(aside).items() if name in before} == before
    assert await keys(tmp_path) == {KEPT}


@pytest.mark.parametrize("damage", [older, deleted_log, cut_log])
async def test_an_older_state_can_be_accepted(damage: Callable[[Path], None], tmp_path: Path) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    recover(tmp_path, "as-is", NOW)
    assert not {key for key in await keys(tmp_path) if key.startswith(PREFIX)}


@pytest.mark.parametrize("damage", [flipped_in_a_record, flipped_in_the_structure, zeros])
async def test_a_damaged_one_cannot(damage: Callable[[Path], None], tmp_path: Path) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    with pytest.raises(SuspectState):
        recover(tmp_path, "as-is", NOW)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_daemon_can_start_without_records(damage: Callable[[Path], None], tmp_path: Path) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    recover(tmp_path, "empty", NOW)
    assert await keys(tmp_path) == set()
    assert await keys(tmp_path) == set()


async def test_a_damaged_copy_is_skipped(tmp_path: Path) -> None:
    await filled(tmp_path)
    (tmp_path / COPIES / "2029-12-31.db").write_bytes((tmp_path / COPIES / LATEST).read_bytes())
    (tmp_path / COPIES / LATEST).write_bytes(b"nonsense" * 1000)
    missing(tmp_path)
    assert "2029-12-31" in recover(tmp_path, "copy", NOW)
    (tmp_path / COPIES / "2029-12-31.db").unlink()
    with pytest.raises(NotFound) as nothing:
        recover(tmp_path, "copy", NOW.replace(second=6))
    assert "begin without records" in nothing.value.remedy


async def test_a_first_start_and_a_directory_of_an_earlier_version_are_accepted(tmp_path: Path) -> None:
    assert await keys(tmp_path) == set()
    (tmp_path / "pools").mkdir()
    (tmp_path / MARK).unlink()
    database = sqlite3.connect(tmp_path / "isola.db")
    database.executescript("DROP TABLE sums; INSERT INTO entries VALUES ('/a', x'00', 1, NULL)")
    database.commit()
    database.close()
    assert await keys(tmp_path) == {"/a"}


async def test_copies_are_kept_by_day_and_only_when_something_changed(tmp_path: Path) -> None:
    clock = FakeClock(skips=True)
    host = linux_host()
    store = SqliteStore(tmp_path, clock)
    await store.open()
    copies = Copies(type(host)(**{**{f: getattr(host, f) for f in host.__slots__}, "clock": clock}), tmp_path, store)
    for number in range(10):
        await store.put("/a", b"%d" % number)
        await copies.keep()
        before = (tmp_path / COPIES / LATEST).stat().st_ino
        await copies.keep()
        assert (tmp_path / COPIES / LATEST).stat().st_ino == before
        await clock.sleep(86400)
    await store.close()
    assert len(list((tmp_path / COPIES).iterdir())) == 8
