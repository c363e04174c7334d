"""The database as a file: an integrity check before anything is written to it, and a consistent copy."""

from __future__ import annotations

import os
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from isola.errors import HostFailure, SuspectState

DATABASE = "isola.db"
MARK = "isola.revision"
"""File with the revision of the last change in this directory, by which an older database is detected."""
PARTS = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
SCHEMA_VERSION = 1
_USED = ("pools", "images")
"""Directories that are created right after the database: if they exist, there was a database."""
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_JOURNAL_MODE = slice(18, 20)
"""In the header of a database: 2 stands for a write-ahead log, which a copy does not include."""
_WAYS = (
    "continue with the newest intact copy, with your own copy, with this database as it is, or without records; "
    "objects without a record stay on the host and can be adopted"
)


class Mark:
    """The revision of the last change, in a file beside the database. Not synced: it may be too low, never too high."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / MARK
        self._descriptor = -1

    def read(self) -> int | None:
        """The revision, or None if there is no readable file."""
        with suppress(OSError, ValueError):
            return int(self._path.read_text())
        return None

    def open(self, revision: int) -> None:
        """Prepare for ``note``, and write the revision if the file can be written."""
        with suppress(OSError):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if self.read() != revision:
                self.note(revision)

    def note(self, revision: int) -> None:
        """Overwrite the number in place, so that no disk space is needed."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.pwrite(self._descriptor, f"{revision:020d}\n".encode(), 0)

    def close(self) -> None:
        """No effect if it is not open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def require_sound(directory: Path) -> None:
    """Check the database read-only. Raises SuspectState if it is lost, damaged or older than the mark."""
    path, noted = directory / DATABASE, Mark(directory).read()
    if not path.exists() or path.stat().st_size == 0:
        if noted or (noted is None and any((directory / name).exists() for name in _USED)):
            raise SuspectState(f"The state of {directory} is lost: {path} is missing or empty", remedy=_WAYS)
        return
    revision = check(path)
    if noted is not None and revision < noted:
        raise SuspectState(
            f"{path} is older than the directory that it belongs to",
            evidence=f"its last revision is {revision}, the last one here was {noted}",
            remedy=_WAYS,
        )


def check(path: Path) -> int:
    """The last revision of an intact database. Raises SuspectState, HostFailure."""
    try:
        # Read-only, so that no checkpoint of the WAL changes the database.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return _read(path, database)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(_DAMAGED):
            raise SuspectState(f"{path} is damaged", evidence=str(error), remedy=_WAYS) from error
        raise HostFailure(f"The state in {path} cannot be used", evidence=str(error)) from error


def _read(path: Path, database: sqlite3.Connection) -> int:
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise SuspectState(f"{path} is damaged", evidence=str(found), remedy=_WAYS)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise HostFailure(f"{path} was written by a newer Isola (schema {version})", remedy="upgrade this daemon")
    if version == 0:
        return 0
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'sums'").fetchone():
        rows = database.execute("SELECT key, value, sum FROM entries JOIN sums USING (key, revision)")
        for key, value, sum_ in rows:
            if zlib.crc32(value) != sum_:
                raise SuspectState(
                    f"{path} is damaged", evidence=f"the record {key} has a wrong checksum", remedy=_WAYS
                )
    (revision,) = database.execute("SELECT revision FROM counter").fetchone()
    return int(revision)


def image(database: sqlite3.Connection) -> bytes:
    """The whole database as one file that does not need a write-ahead log."""
    data = bytearray(database.serialize())
    data[_JOURNAL_MODE] = b"\1\1"
    return bytes(data)
