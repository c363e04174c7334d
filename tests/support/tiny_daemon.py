"""A daemon with the image ``tiny``, for the duration of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from daemon import Daemon

from isola.testing.images import tiny_image


@contextmanager
def tiny_daemon(
    scratch: Path,
    *,
    dhcp: bool = False,
    faults: bool = False,
    place: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """A separate daemon, removed at the end; the image is created in ``scratch``."""
    daemon = Daemon(faults=faults, place=place, environment=environment)
    try:
        daemon.start()
        daemon.import_image(tiny_image(scratch, dhcp=dhcp), "tiny")
        yield daemon
    finally:
        daemon.close()
