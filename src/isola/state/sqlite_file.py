"""The database as a file: whether it can be trusted, before anything is written to it, and a copy in one piece."""

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
"""Holds the number of the last change that the directory has seen: what an older database does not know."""
PARTS = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
SCHEMA_VERSION = 1
_USED = ("pools", "images")
"""Made right after the database: where they are, a database was."""
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_JOURNAL_MODE = slice(18, 20)
"""In the header of a database: 2 stands for a write-ahead log, which a copy does not bring along."""
_WAYS = (
    "go on with the newest whole copy, with a copy of yours, with this state as it is, or with none; what is in no "
    "record stays on the host and can be adopted"
)


class Mark:
    """The number of the last change, beside the database. Not synced: it may lag behind, never run ahead."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / MARK
        self._descriptor = -1

    def read(self) -> int | None:
        """The number, or None where there is none."""
        with suppress(OSError, ValueError):
            return int(self._path.read_text())
        return None

    def open(self, revision: int) -> None:
        """Be ready to ``note``; the number stands there already where it can be written at all."""
        with suppress(OSError):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if self.read() != revision:
                self.note(revision)

    def note(self, revision: int) -> None:
        """Written over in place, so that it needs no room."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.pwrite(self._descriptor, f"{revision:020d}\n".encode(), 0)

    def close(self) -> None:
        """Fine when it is not open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def require_sound(directory: Path) -> None:
    """Look without changing anything. Raises SuspectState for a lost, damaged or older database."""
    path, noted = directory / DATABASE, Mark(directory).read()
    if not path.exists() or path.stat().st_size == 0:
        if noted or (noted is None and any((directory / name).exists() for name in _USED)):
            raise SuspectState(f"The state of {directory} is lost: {path} is missing or empty", remedy=_WAYS)
        return
    revision = check(path)
    if noted is not None and revision < noted:
        raise SuspectState(
            f"{path} is older than what it belongs to",
            evidence=f"it ends with change {revision}, the last one here was {noted}",
            remedy=_WAYS,
        )


def check(path: Path) -> int:
    """The number of the last change in a database that is whole. Raises SuspectState, HostFailure."""
    try:
        # Read only: nothing is moved from the log into the database, whatever is found.
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
                raise SuspectState(f"{path} is damaged", evidence=f"the record {key} is not as written", remedy=_WAYS)
    (revision,) = database.execute("SELECT revision FROM counter").fetchone()
    return int(revision)


def image(database: sqlite3.Connection) -> bytes:
    """The whole database as one file that needs no other."""
    data = bytearray(database.serialize())
    data[_JOURNAL_MODE] = b"\1\1"
    return bytes(data)
