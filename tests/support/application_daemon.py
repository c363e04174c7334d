"""A daemon with the images ``tiny`` and ``app``, of which nothing may be left at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from application_image import import_application
from audit import settled
from daemon import Daemon
from tiny_daemon import tiny_daemon


@contextmanager
def application_daemon(scratch: Path) -> Iterator[Daemon]:
    """Its instances are deleted at the end."""
    with tiny_daemon(scratch) as daemon:
        import_application(daemon, "app")
        yield daemon
        for path in daemon.get("/1.0/instances"):
            daemon.run("DELETE", f"{path}?force=1")
        assert not settled(daemon)
