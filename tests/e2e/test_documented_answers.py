"""Responses of a real daemon, compared with the API description at all levels."""

from __future__ import annotations

from daemon import Daemon
from documented import TABLES, below, deviations, recursive


def test_answers_have_the_documented_fields(daemon: Daemon, instance: str) -> None:
    volumes = "/1.0/storage-pools/default/volumes/custom"
    daemon.run("POST", f"/1.0/instances/{instance}/snapshots", {"name": "s1"})
    daemon.run("POST", volumes, {"name": "data"})
    try:
        daemon.run("POST", f"{volumes}/data/snapshots", {"name": "s1"})
        for path, table in (TABLES | below(instance, "isolabr0", "data")).items():
            assert not set(deviations(daemon.get(recursive(path)), table, path))
    finally:
        daemon.run("DELETE", f"{volumes}/data")
