"""``isola warning`` as typed, against a daemon in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from served_daemon import ServedDaemon

from isola.model.reference import Entity, Kind, Ref
from isola.model.warning import WarningType

ISOLA = [sys.executable, "-m", "isola.cli.main", "warning"]
WEB = Entity.of(Kind.INSTANCE, Ref("default", "web1"))


class Isola:
    def __init__(self, daemon: ServedDaemon) -> None:
        self.daemon = daemon
        self._environment = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(daemon.directory), "LANG": "C.UTF-8"}

    def __call__(self, *argv: str, status: int = 0) -> str:
        done = subprocess.run(
            [*ISOLA, *argv], capture_output=True, timeout=120, env=self._environment, check=False, text=True
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    def ids(self, *more: str) -> list[str]:
        return [row.split(",")[0] for row in self("list", "--format", "csv", *more).splitlines()]

    def warn(self, *types: WarningType) -> None:
        async def report() -> None:
            warnings = self.daemon.world.parts.services.warnings
            for type in types:
                warnings.report(type, WEB, f"as a test says of {type.name}")
            await warnings.settled()

        self.daemon.do(report())


@pytest.fixture
def isola(tmp_path: Path) -> Iterator[Isola]:
    with ServedDaemon(tmp_path) as daemon:
        yield Isola(daemon)


def test_they_are_listed_shown_acknowledged_and_deleted(isola: Isola) -> None:
    assert isola.ids() == []
    isola.warn(WarningType.AUTOSTART_FAILURE, WarningType.INSTANCE_BROKEN)
    table = isola("list")
    assert "Instance cleanup failed" in table and "web1" in table and "as a test says" in table
    one, other = isola.ids()
    shown = yaml.safe_load(isola("show", one))
    assert shown["uuid"] == one and shown["entity_url"] == "/1.0/instances/web1"
    isola("acknowledge", one[:8])
    assert isola.ids() == [other] and sorted(isola.ids("--all")) == sorted([one, other])
    isola("delete", other[:8])
    assert isola.ids("--all") == [one]
    isola("delete", "--all")
    assert isola.ids("--all") == []


def test_invalid_arguments_of_warning_are_refused(isola: Isola) -> None:
    isola.warn(WarningType.AUTOSTART_FAILURE)
    assert "not found" in isola("show", "nope", status=1)
    assert "Either the id" in isola("delete", status=2)
    assert "Either the id" in isola("delete", "--all", "x", status=2)
    assert len(isola.ids()) == 1
