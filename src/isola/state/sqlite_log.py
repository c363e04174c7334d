"""A log of the keys that each revision changed: for watchers that continue, and for those of other processes.

Values are not stored twice: a change that has been overwritten is skipped, since the later change follows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from isola.state.feed import too_old
from isola.state.store import Change

_TABLE = """
CREATE TABLE IF NOT EXISTS changes (
    revision INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, removed INTEGER NOT NULL,
    PRIMARY KEY (revision, position)
) WITHOUT ROWID
"""
_TRIMMED_EVERY = 256


def prepare(database: sqlite3.Connection) -> None:
    """Create the log, or reset it if a version without it has written to the database.

    ``counter.logged`` is the last revision in the log, ``counter.compacted`` the last that is no longer in it.
    """
    if _is_whole(database):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        if not _has_columns(database):  # another process may have made them meanwhile
            database.execute("ALTER TABLE counter ADD COLUMN logged INTEGER NOT NULL DEFAULT -1")
            database.execute("ALTER TABLE counter ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0")
        database.execute(_TABLE)
        if not _is_whole(database):
            database.execute("DELETE FROM changes")
            database.execute("UPDATE counter SET logged = revision, compacted = revision")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def note(database: sqlite3.Connection, revision: int, changes: Sequence[Change], kept: int) -> None:
    """Log the changes within their transaction; sometimes trim entries that are more than ``kept`` revisions old."""
    database.executemany(
        "INSERT INTO changes VALUES (?, ?, ?, ?)",
        [(revision, position, each.key, each.value is None) for position, each in enumerate(changes)],
    )
    if revision % min(_TRIMMED_EVERY, kept) == 0 and revision > kept:
        database.execute("DELETE FROM changes WHERE revision <= ?", (revision - kept,))
        database.execute("UPDATE counter SET compacted = max(compacted, ?)", (revision - kept,))


def since(database: sqlite3.Connection, revision: int) -> tuple[list[Change], int]:
    """The changes after a revision, and the revision up to which they are complete. Raises Compacted."""
    database.execute("BEGIN")
    try:
        now, compacted = database.execute("SELECT revision, compacted FROM counter").fetchone()
        if not compacted <= revision <= now:  # a higher one: the database was replaced by an older copy
            raise too_old()
        rows = database.execute(
            "SELECT changes.key, value, removed, changes.revision FROM changes"
            " LEFT JOIN entries ON entries.key = changes.key AND entries.revision = changes.revision"
            " WHERE changes.revision > ? ORDER BY changes.revision, position",
            (revision,),
        ).fetchall()
    finally:
        database.execute("COMMIT")
    return [Change(key, value, at) for key, value, removed, at in rows if removed or value is not None], now


def _has_columns(database: sqlite3.Connection) -> bool:
    return "logged" in {row[1] for row in database.execute("PRAGMA table_info(counter)")}


def _is_whole(database: sqlite3.Connection) -> bool:
    if not _has_columns(database):
        return False
    logged, revision = database.execute("SELECT logged, revision FROM counter").fetchone()
    made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone()
    return bool(made) and logged == revision
