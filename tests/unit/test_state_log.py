"""The log of changes in SQLite, with older versions and other processes that do not write it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from isola.errors import Compacted
from isola.host.clock import LinuxClock
from isola.state import Store
from isola.state.drivers.sqlite import SqliteStore

_OF_01 = """
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, lease TEXT) WITHOUT ROWID;
CREATE TABLE leases (id TEXT PRIMARY KEY, ttl REAL NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (revision INTEGER NOT NULL);
INSERT INTO counter VALUES (7);
INSERT INTO entries VALUES ('/a', x'61', 7, NULL);
PRAGMA user_version = 1;
"""
_ANOTHER = """
import asyncio, sys
from pathlib import Path
from isola.host.clock import LinuxClock
from isola.state.drivers.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), LinuxClock())
    await store.open()
    for number in range(50):
        await store.put("/theirs/%d" % (number % 5), b"%d" % number)
    await store.close()

asyncio.run(main())
"""


async def opened(directory: Path) -> SqliteStore:
    store = SqliteStore(directory, LinuxClock())
    await store.open()
    return store


async def first(store: Store, since: int) -> tuple[str, bytes | None]:
    watch = store.watch("", since)
    async with asyncio.timeout(60):
        change = await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]
    return change.key, change.value


async def test_a_database_of_the_earlier_version_gets_a_log(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "isola.db")) as database:
        database.executescript(_OF_01)
    store = await opened(tmp_path)
    snapshot = await store.snapshot("")
    assert (snapshot.revision, [entry.key for entry in snapshot.entries]) == (7, ["/a"])
    await store.put("/b", b"b")
    assert await first(store, 7) == ("/b", b"b")
    with pytest.raises(Compacted):
        await first(store, 6)
    await store.close()


async def test_writes_of_a_version_without_a_log_are_noticed(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    before = await store.put("/a", b"1")
    await store.close()
    with closing(sqlite3.connect(tmp_path / "isola.db")) as database, database:
        database.execute("UPDATE counter SET revision = revision + 1")
        database.execute("UPDATE entries SET value = x'32', revision = revision + 1")
    store = await opened(tmp_path)
    with pytest.raises(Compacted):
        await first(store, before)
    later = await store.put("/b", b"b")
    assert await first(store, later - 1) == ("/b", b"b")
    await store.close()


async def test_a_second_process_writes_at_the_same_time(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    held: dict[str, bytes | None] = {}
    told: list[int] = []

    async def follow() -> None:
        async for change in store.watch("", 0):
            held[change.key] = change.value
            told.append(change.revision)

    following = asyncio.create_task(follow())
    another = await asyncio.create_subprocess_exec(sys.executable, "-c", _ANOTHER, str(tmp_path))
    for number in range(50):
        await store.put(f"/ours/{number % 5}", b"%d" % number)
        await asyncio.sleep(0.002)
    assert await another.wait() == 0
    await asyncio.sleep(0.5)
    assert held == {entry.key: entry.value for entry in await store.range("")}
    assert told == sorted(told) and len(held) == 10
    following.cancel()
    await store.close()


async def test_without_watchers_nothing_is_logged(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.put("/a", b"1")
    assert store._following is None
    await store.close()


async def test_a_commit_that_becomes_visible_late_is_reported(tmp_path: Path) -> None:
    """On a slow disk the log is written long before the commit is visible, and after a kill no notification follows."""
    store = await opened(tmp_path)
    before = (await store.snapshot("")).revision
    told = asyncio.create_task(first(store, before))
    await asyncio.sleep(0.2)
    look, begun = store._look_for_others, time.monotonic()

    def read_too_early() -> None:
        if time.monotonic() > begun + 0.5:
            look()

    store._look_for_others = read_too_early  # type: ignore[method-assign]
    with closing(sqlite3.connect(tmp_path / "isola.db")) as database, database:
        database.execute("INSERT INTO entries VALUES ('/late', x'61', ?, NULL)", (before + 1,))
        database.execute("INSERT INTO changes VALUES (?, 0, '/late', 0)", (before + 1,))
        database.execute("UPDATE counter SET revision = revision + 1, logged = revision + 1")
    assert await told == ("/late", b"a")
    await store.close()


async def test_commits_at_once_share_their_sync(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    database, statements = store._database, list[str]()
    assert database is not None
    database.set_trace_callback(statements.append)
    revisions = await asyncio.gather(*(store.put(f"/a{number}", b"x") for number in range(60)))
    database.set_trace_callback(None)
    assert len(set(revisions)) == 60
    assert statements.count("COMMIT") < 30
    await store.close()


class _Deaf(SqliteStore):
    """Cannot read the log of changes, but write it."""

    def _catch_up(self) -> None:
        raise sqlite3.OperationalError("disk I/O error")


async def test_a_commit_that_cannot_be_reported_is_a_success_and_not_repeated(tmp_path: Path) -> None:
    """Also for several that are committed together; watchers learn of them later."""
    store, other = _Deaf(tmp_path, LinuxClock()), await opened(tmp_path)
    await store.open()
    begun = await other.put("/theirs", b"1")  # so that the log is read after the next commit

    busy = threading.Event()
    store._thread.submit(busy.wait)
    writes = [asyncio.ensure_future(store.put(f"/{number}", b"x")) for number in range(3)]
    await asyncio.sleep(0)
    busy.set()
    assert await asyncio.gather(*writes) == [begun + 1, begun + 2, begun + 3]
    assert (await store.snapshot("")).revision == begun + 3
    watch = other.watch("/", begun)
    async with asyncio.timeout(60):
        assert [(await anext(watch)).key for _ in range(3)] == ["/0", "/1", "/2"]
    await watch.aclose()  # type: ignore[attr-defined]
    await other.close()
    await store.close()
