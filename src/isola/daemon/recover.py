"""``isolad --recover``: continue after the database was lost, damaged or replaced, without changing the host."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from isola.daemon.copies import COPIES, LATEST
from isola.errors import HostFailure, InvalidInput, NotFound, SuspectState
from isola.state.intents import PREFIX
from isola.state.sqlite_file import DATABASE, MARK, PARTS, Mark, check


def recover(directory: Path, what: str, now: datetime) -> str:
    """Install a database that the next start accepts; returns what was done. The current one is moved aside.

    ``what`` is ``copy`` (the latest intact one), ``as-is``, ``empty`` or a file. Raises NotFound, SuspectState.
    """
    if what == "as-is":
        check(directory / DATABASE)
        kept = _set_aside(directory, now, move=False)
        _settle(directory)
        return f"The database is accepted as it is; a copy of it is in {kept}"
    if what == "empty":
        kept = _set_aside(directory, now, move=True)
        (directory / MARK).write_text(f"{0:020d}\n")
        return f"The next start begins without records; the previous files are in {kept}"
    source = _newest(directory) if what == "copy" else Path(what)
    check(source)
    content = source.read_bytes()
    kept = _set_aside(directory, now, move=True)
    _write(directory / DATABASE, content)
    _settle(directory)
    return f"{source} is restored; the previous files are in {kept}"


def _newest(directory: Path) -> Path:
    """The latest intact copy. Raises NotFound."""
    places = [directory / COPIES / LATEST, *sorted((directory / COPIES).glob("20*.db"), reverse=True)]
    for place in places:
        with suppress(SuspectState, HostFailure):
            check(place)
            return place
    raise NotFound(
        f"There is no intact copy in {directory / COPIES}",
        remedy="begin without records, and adopt what is on the host",
    )


def _set_aside(directory: Path, now: datetime, *, move: bool) -> Path:
    """Keep the current files, and the latest copy too, which is overwritten soon."""
    place = directory / COPIES / f"aside-{now:%Y-%m-%d-%H%M%S}"
    place.mkdir(mode=0o700, parents=True)
    for part in (*PARTS, MARK, f"{COPIES}/{LATEST}"):
        path = directory / part
        if path.exists():
            shutil.copy2(path, place / path.name)
            if move and part in PARTS:
                path.unlink()
    return place


def _settle(directory: Path) -> None:
    """Remove intents, which are outdated, and set the mark to the revision of the database."""
    path = directory / DATABASE
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            path.chmod(0o600)
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone():
                (directory / MARK).write_text(f"{0:020d}\n")  # all its content was in the WAL
                return
            database.execute("DELETE FROM entries WHERE key >= ? AND key < ?", (PREFIX, f"{PREFIX}\U0010ffff"))
            (revision,) = database.execute("SELECT revision FROM counter").fetchone()
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} cannot be used", evidence=str(error), remedy="use another copy") from error
    mark = Mark(directory)
    mark.open(revision)
    mark.close()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
