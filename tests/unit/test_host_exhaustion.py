"""What an error of the system means, by its number."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from isola.errors import CommandFailed, HostFailure, StorageFull
from isola.host.exhaustion import host_refused, reports_full_disk, spent, storing


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EMFILE, HostFailure),
        (errno.ENOMEM, HostFailure),
        (errno.EIO, None),
    ],
)
def test_spent(number: int, kind: type[HostFailure] | None) -> None:
    found = spent(OSError(number, "why"))
    assert (type(found) if found else None) is kind
    assert found is None or found.remedy


def test_a_refused_effect() -> None:
    full = host_refused("Cannot write", OSError(errno.ENOSPC, "No space left on device"))
    assert (type(full), full.message, full.evidence) == (
        StorageFull, "Cannot write", "[Errno 28] No space left on device"
    )  # fmt: skip
    assert full.remedy and full.code == "storage_full"
    assert type(host_refused("Cannot write", OSError(errno.EIO, "Input/output error"))) is HostFailure
    assert type(host_refused("Cannot write", sqlite3.OperationalError("locked"))) is HostFailure


def test_a_full_database() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("CREATE TABLE one AS SELECT zeroblob(100000)")
    assert type(host_refused("The state could not be written", caught.value)) is StorageFull


def test_a_program_that_has_filled_the_disk() -> None:
    with pytest.raises(StorageFull, match="No space left") as full, storing():
        raise CommandFailed(["mkfs.ext4"], 1, "mkfs.ext4: No space left on device while writing out")
    assert full.value.code == "storage_full" and full.value.remedy
    with pytest.raises(CommandFailed), storing():
        raise CommandFailed(["mkfs.ext4"], 1, "mkfs.ext4: Permission denied")


def test_what_programs_say() -> None:
    assert reports_full_disk("cp: error writing '/x': No space left on device")
    assert reports_full_disk("write: Disk quota exceeded") and not reports_full_disk("Permission denied")
