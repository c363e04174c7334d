"""State in one SQLite file: the embedded default. Write-ahead log, synced at every commit."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isola.errors import Compacted, HostFailure, IsolaError, PreconditionFailed, SuspectState
from isola.host import inotify
from isola.host.cancellation import finish
from isola.host.clock import Clock
from isola.host.exhaustion import host_refused
from isola.state import sqlite_log
from isola.state.feed import Feed
from isola.state.reserve import Reserve
from isola.state.sqlite_file import DATABASE, MARK, Mark, image, require_sound
from isola.state.store import Change, Check, Delete, Entry, Expect, Lease, Snapshot, Step, Store

_SCHEMA = """
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, lease TEXT) WITHOUT ROWID;
CREATE TABLE leases (id TEXT PRIMARY KEY, ttl REAL NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (revision INTEGER NOT NULL);
CREATE INDEX entries_lease ON entries (lease) WHERE lease IS NOT NULL;
INSERT INTO counter VALUES (0);
PRAGMA user_version = 1;
"""
_RESERVE_SECONDS = 10.0
_TOGETHER = 32
"""Most commits in one transaction."""
_GATHERED_FOR = 0.2
"""Seconds in which further writes are collected after the first. Most are our own, of which watchers know already."""
_LATE = 1.0
"""Seconds after the last write until one more check: a commit becomes visible some time after it is in the WAL."""
_OTHERWISE_EVERY = 1.0
"""Polling interval in seconds if inotify is not available."""
_FULL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
log = logging.getLogger(__name__)
_SUMS = """
CREATE TABLE IF NOT EXISTS sums (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID
"""
"""Checksums of values, since SQLite detects only damage to its own structure. Valid for the same revision only."""


@dataclass(frozen=True, slots=True)
class _Done:
    revision: int
    changes: Sequence[Change]


class SqliteStore(Store):
    """All calls run on a dedicated thread, in order; the event loop never waits for the disk."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._path = directory / DATABASE
        self._mark = Mark(directory)
        self._reserve = Reserve(directory)
        self._reserve_tried = 0.0
        self._left_open: sqlite3.Connection | None = None
        self._clock = clock
        self._database: sqlite3.Connection | None = None
        self._feeds: set[Feed] = set()
        self._waiting: deque[tuple[Sequence[Step], asyncio.Future[int]]] = deque()
        """Commits that have not begun."""
        self._seen = 0
        """The last revision that watchers have received; used on the store's own thread."""
        self._others = 0
        """SQLite's ``data_version``, which changes with every commit of another process."""
        self._following: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._leased = asyncio.Event()
        """Set while there may be leases, so that a store without leases never wakes up."""

    async def open(self) -> None:
        """Open or create the file. Raises SuspectState without a change if it is lost, damaged or outdated."""
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        await self._call(self._connect)
        if await self._call(lambda db: db.execute("SELECT 1 FROM leases LIMIT 1")):
            self._leased.set()
        self._reaper = asyncio.create_task(self._reap(), name="expire leases")

    async def close(self) -> None:
        """Flush and close."""
        for task in (self._reaper, self._following):
            if task is not None:
                task.cancel()
        if self._late is not None:
            self._late.cancel()
        self._following = None
        await self._call(self._disconnect)
        self._thread.shutdown()

    async def get(self, key: str) -> Entry | None:
        rows = await self._call(lambda db: db.execute("SELECT key, value, revision FROM entries WHERE key = ?", (key,)))
        return Entry(*rows[0]) if rows else None

    async def snapshot(self, prefix: str) -> Snapshot:
        """All entries below a prefix; one statement sees one state of the database."""
        (revision, *_), *rows = await self._call(
            lambda db: db.execute(
                "SELECT revision, '', NULL FROM counter UNION ALL SELECT * FROM"
                " (SELECT revision, key, value FROM entries WHERE key >= ? AND key < ? ORDER BY key)",
                (prefix, prefix + "\U0010ffff"),
            )
        )
        return Snapshot(revision, [Entry(key, value, at) for at, key, value in rows])

    async def commit(self, *steps: Step) -> int:
        """All or nothing, synced."""
        done: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append((steps, done))
        self._thread.submit(self._commit_waiting)
        # A cancelled caller must know whether its write took place, so the commit is finished first.
        return await finish(done)

    async def watch(self, prefix: str, since: int | None = None) -> AsyncIterator[Change]:
        """First the changes in the log, then new ones; a change that is in both is reported once."""
        feed = Feed(prefix, self.changes_kept)
        self._feeds.add(feed)  # before the log is read, so that no change is missed in between
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="follow other writers")
        try:
            past, known = await self._loop.run_in_executor(self._thread, self._past, since)
            for change in past:
                if change.key.startswith(prefix):
                    yield change
            while True:
                if (change := await feed.next()).revision > known:
                    yield change
        finally:
            self._feeds.discard(feed)

    async def lease(self, ttl: float) -> Lease:
        """A new lease."""
        lease = Lease(self._clock.token(8), ttl)
        expires = self._clock.now().timestamp() + ttl
        await self._call(lambda db: db.execute("INSERT INTO leases VALUES (?, ?, ?)", (lease.id, ttl, expires)))
        self._leased.set()
        return lease

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease that has not lapsed."""
        now = self._clock.now().timestamp()
        rows = await self._call(
            lambda db: db.execute(
                "UPDATE leases SET expires = ? WHERE id = ? AND expires > ? RETURNING id",
                (now + lease.ttl, lease.id, now),
            )
        )
        return bool(rows)

    async def revoke(self, lease: Lease) -> None:
        """End a lease and remove its keys."""
        await self._drop_leases(lambda db: [lease.id])

    async def copy(self) -> bytes:
        """The database as one file."""
        return await self._loop.run_in_executor(self._thread, lambda: image(self._open_database()))

    # --- below: on the store's own thread -----------------------------------------------------------------------

    def _connect(self, _: sqlite3.Connection | None) -> sqlite3.Cursor:
        while True:
            try:
                return self._connect_now()
            except (HostFailure, sqlite3.Error) as error:
                # SQLite needs space for the WAL and its index even to read a database, and the disk may be full.
                if isinstance(error, SuspectState) or not self._reserve.release():
                    raise

    def _connect_now(self) -> sqlite3.Cursor:
        require_sound(self._directory)
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._path.chmod(0o600)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        database.execute(_SUMS)
        sqlite_log.prepare(database)
        (revision,) = database.execute("SELECT revision FROM counter").fetchone()
        self._mark.open(revision)
        self._seen = revision
        self._database = database
        self._keep_reserve()
        return database.execute("SELECT 1")

    def _disconnect(self, database: sqlite3.Connection) -> sqlite3.Cursor:
        if not self._reserve.whole:
            # Keep the WAL: its space would be used by others, and the next start could not create one.
            cursor = database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            cursor.fetchall()
            self._left_open = database
        else:
            cursor = database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()
            database.close()
        self._mark.close()
        self._database = None
        return cursor

    def _keep_reserve(self) -> None:
        """Restore the reserve; until there is space, checkpoint so that the WAL is reused from its beginning."""
        if self._reserve.whole:
            return
        if (now := self._clock.monotonic()) - self._reserve_tried >= _RESERVE_SECONDS or not self._reserve_tried:
            self._reserve_tried = now
            self._reserve.make()
        if not self._reserve.whole:
            with suppress(sqlite3.Error):
                self._open_database().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _commit_waiting(self) -> None:
        """All commits that wait, in one transaction: most of the cost of a commit is the sync at its end."""
        waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
        if not waiting:
            return  # an earlier call has done it
        try:
            results = self._commit_all([steps for steps, _ in waiting])
        except Exception as error:
            results = [error] if len(waiting) == 1 else [self._result(steps) for steps, _ in waiting]
        futures = [done for _, done in waiting]
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(_settle, futures, results)

    def _result(self, steps: Sequence[Step]) -> int | Exception:
        try:
            return self._commit(steps)
        except Exception as error:
            return error

    def _commit(self, steps: Sequence[Step]) -> int:
        (result,) = self._commit_all([steps])
        if isinstance(result, Exception):
            raise result
        return result

    def _commit_all(self, commits: Sequence[Sequence[Step]]) -> list[int | Exception]:
        """The revision or the error of each. Raises HostFailure, after which none has taken place."""
        while True:
            try:
                results = self._commit_now(commits)
                break
            except HostFailure as error:
                full = getattr(error.__cause__, "sqlite_errorname", "").startswith(_FULL)
                if not full or not self._reserve.release():
                    raise
        try:
            self._report([result for result in results if isinstance(result, _Done)])
            self._keep_reserve()
        except Exception:
            # The commits succeeded: a failure to report them must not look like theirs, or make callers repeat them.
            log.exception("A commit could not be reported to watchers yet")
        return [result.revision if isinstance(result, _Done) else result for result in results]

    def _report(self, done: Sequence[_Done]) -> None:
        """Report own commits to watchers. After a failure, the next commit or look at others reports them, too."""
        if done and done[0].revision == self._seen + 1:
            self._seen = done[-1].revision
            self._tell([change for each in done for change in each.changes])
        elif done:
            self._catch_up()

    def _catch_up(self) -> None:
        """Report the commits of other processes to watchers, in order."""
        try:
            changes, self._seen = sqlite_log.since(self._open_database(), self._seen)
            self._tell(changes)
        except Compacted:
            self._seen = self._revision()
            for feed in tuple(self._feeds):
                self._loop.call_soon_threadsafe(feed.overrun)

    def _look_for_others(self) -> None:
        """Cheap if no other process has committed: SQLite compares a number in shared memory."""
        (others,) = self._open_database().execute("PRAGMA data_version").fetchone()
        if others != self._others:
            self._others = others
            self._catch_up()

    def _past(self, since: int | None) -> tuple[list[Change], int]:
        if since is None:
            return [], self._revision()
        return sqlite_log.since(self._open_database(), since)

    def _revision(self) -> int:
        (revision,) = self._open_database().execute("SELECT revision FROM counter").fetchone()
        return int(revision)

    def _tell(self, changes: Sequence[Change]) -> None:
        """Called on the thread that commits, so that changes stay in order."""
        if self._feeds and changes:
            self._loop.call_soon_threadsafe(self._tell_feeds, changes)

    def _commit_now(self, commits: Sequence[Sequence[Step]]) -> list[_Done | Exception]:
        database = self._open_database()
        database.execute("BEGIN IMMEDIATE")
        try:
            write = self._write if len(commits) == 1 else self._write_apart
            results = [write(database, steps) for steps in commits]
            database.execute("COMMIT")
            if revisions := [result.revision for result in results if isinstance(result, _Done)]:
                self._mark.note(revisions[-1])
        except BaseException as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise host_refused("The state could not be written", error) from error
            raise
        return results

    def _write_apart(self, database: sqlite3.Connection, steps: Sequence[Step]) -> _Done | Exception:
        """One of several commits in a transaction: a condition that is not met undoes only this one."""
        database.execute("SAVEPOINT one")
        try:
            return self._write(database, steps)
        except PreconditionFailed as error:
            database.execute("ROLLBACK TO one")
            return error
        finally:
            if database.in_transaction:
                database.execute("RELEASE one")

    def _write(self, database: sqlite3.Connection, steps: Sequence[Step]) -> _Done:
        (revision,) = database.execute(
            "UPDATE counter SET revision = revision + 1, logged = revision + 1 RETURNING revision"
        ).fetchone()
        changes = [change for step in steps if (change := self._apply(database, step, revision)) is not None]
        sqlite_log.note(database, revision, changes, self.changes_kept)
        return _Done(revision, changes)

    def _apply(self, database: sqlite3.Connection, step: Step, revision: int) -> Change | None:
        if isinstance(step, Check):
            row = database.execute("SELECT revision FROM entries WHERE key = ?", (step.key,)).fetchone()
            if (row[0] if row else 0) != step.revision:
                raise PreconditionFailed(f"{step.key} has changed meanwhile", remedy="read it again and retry")
            return None
        if isinstance(step, Expect):
            end = step.prefix + "\U0010ffff"
            query = "SELECT 1 FROM entries WHERE key >= ? AND key < ? LIMIT 1"
            if (database.execute(query, (step.prefix, end)).fetchone() is not None) != step.some:
                raise PreconditionFailed(f"{step.prefix} has changed meanwhile", remedy="read it again and retry")
            return None
        if isinstance(step, Delete):
            gone = database.execute("DELETE FROM entries WHERE key = ?", (step.key,)).rowcount
            database.execute("DELETE FROM sums WHERE key = ?", (step.key,))
            return Change(step.key, None, revision) if gone else None
        if step.lease and not database.execute("SELECT 1 FROM leases WHERE id = ?", (step.lease,)).fetchone():
            raise PreconditionFailed("The lease has lapsed", remedy="take a new one")
        database.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", (step.key, step.value, revision, step.lease)
        )
        database.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", (step.key, revision, zlib.crc32(step.value)))
        return Change(step.key, step.value, revision)

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise HostFailure("The state store is closed")
        return self._database

    # --- below: on the event loop -------------------------------------------------------------------------------

    async def _call(self, query: Callable[..., sqlite3.Cursor]) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            try:
                cursor = query(self._database)
                return cursor.fetchall() if self._database is not None else []
            except sqlite3.Error as error:
                raise HostFailure(f"The state in {self._path} cannot be used", evidence=str(error)) from error

        return await self._loop.run_in_executor(self._thread, run)

    async def _drop_leases(self, which: Callable[[sqlite3.Connection], Sequence[str]]) -> None:
        def drop() -> None:
            database = self._open_database()
            for id in which(database):
                keys = [row[0] for row in database.execute("SELECT key FROM entries WHERE lease = ?", (id,))]
                self._commit([Delete(key) for key in keys])
                database.execute("DELETE FROM leases WHERE id = ?", (id,))

        await self._loop.run_in_executor(self._thread, drop)

    async def _reap(self) -> None:
        """Remove the keys of expired leases, every second while there are leases."""
        while await self._leased.wait():
            await self._clock.sleep(1)
            now = self._clock.now().timestamp()
            await self._drop_leases(
                lambda db, now=now: [  # type: ignore[misc]
                    row[0] for row in db.execute("SELECT id FROM leases WHERE expires <= ?", (now,))
                ]
            )

    async def _follow(self) -> None:
        """While there are watchers: wait by inotify for writes to the files, by this process or others.

        The WAL is written before a commit is visible, the mark after it. A writer that is killed in between
        does not write the mark, hence the late check.
        """
        while True:
            try:
                async with aclosing(inotify.changes(self._path.with_name(f"{DATABASE}-wal"), MARK)) as written:
                    async for _ in written:
                        await self._clock.sleep(_GATHERED_FOR)
                        await self._loop.run_in_executor(self._thread, self._look_for_others)
                        self._look_late()
            except IsolaError as error:
                log.info("Changes by other processes are polled once a second: %s", error)
            except sqlite3.Error as error:
                log.warning("Changes by other processes could not be read: %s", error)
            await self._clock.sleep(_OTHERWISE_EVERY)

    def _look_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self._loop.call_later(_LATE, self._thread.submit, self._look_if_possible)

    def _look_if_possible(self) -> None:
        with suppress(IsolaError, sqlite3.Error):
            self._look_for_others()

    def _tell_feeds(self, changes: Sequence[Change]) -> None:
        for feed in self._feeds:
            for change in changes:
                feed.tell(change)


def _settle(futures: Sequence[asyncio.Future[int]], results: Sequence[int | Exception]) -> None:
    for done, result in zip(futures, results, strict=True):
        if done.done():
            continue
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)


DRIVER = SqliteStore
