"""``isola storage volume`` as typed, against a daemon in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from served_daemon import ServedDaemon

Run = Callable[..., str]
ISOLA = [sys.executable, "-m", "isola.cli.main"]


@pytest.fixture
def isola(tmp_path: Path) -> Iterator[Run]:
    with ServedDaemon(tmp_path) as daemon:
        environment = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(daemon.directory), "LANG": "C.UTF-8"}

        def run(*argv: str, status: int = 0, input: str | None = None) -> str:
            done = subprocess.run(
                [*ISOLA, *argv], capture_output=True, timeout=120, env=environment, check=False, text=True, input=input
            )
            assert done.returncode == status, done.stderr
            return done.stdout if status == 0 else done.stderr

        yield run


def test_a_volume_and_its_snapshots(isola: Run) -> None:
    isola("storage", "create", "slow", "dir")
    isola("storage", "volume", "create", "default/data", "user.a=b", "--description", "mine")
    isola("storage", "volume", "set", "default/data", "snapshots.expiry=1d")
    assert isola("storage", "volume", "get", "default/data", "snapshots.expiry") == "1d\n"
    shown = yaml.safe_load(isola("storage", "volume", "show", "default/data"))
    assert shown["config"] == {"user.a": "b", "snapshots.expiry": "1d"}
    isola("storage", "volume", "edit", "default/data", input="description: ours\nconfig: {user.a: c}\n")
    isola("storage", "volume", "snapshot", "create", "default/data")
    isola("storage", "volume", "snapshot", "create", "default/data", "before", "--expires", "2040-01-01T00:00:00Z")
    listed = isola("storage", "volume", "snapshot", "list", "default/data")
    assert "snap0" in listed and "2040-01-01 00:00:00\n" in listed.replace(" \n", "\n")
    isola("storage", "volume", "snapshot", "rename", "default/data/snap0", "first")
    isola("storage", "volume", "snapshot", "restore", "default/data/first")
    assert "first" in isola("storage", "volume", "info", "default/data")
    described = json.loads(isola("storage", "volume", "info", "default/data", "--format", "json"))
    assert (described["name"], {each["name"] for each in described["snapshots"]}) == ("data", {"first", "before"})
    assert described["usage"]["used"] >= 0
    found = json.loads(isola("storage", "volume", "snapshot", "show", "default/data/first", "-f", "json"))
    assert found["name"] == "first"
    assert json.loads(isola("storage", "info", "slow", "-f", "json"))["driver"] == "dir"
    isola("storage", "volume", "copy", "default/data/first", "slow/then")
    isola("storage", "volume", "copy", "default/data", "slow/bare", "--volume-only")
    isola("storage", "volume", "move", "default/data", "slow/moved")
    isola("storage", "volume", "rename", "slow/moved", "final")
    names = [row.split(",")[2] for row in isola("storage", "volume", "list", "--format", "csv").splitlines()]
    assert names[-5:] == ["bare", "final", "final/before", "final/first", "then"]
    isola("storage", "volume", "snapshot", "delete", "slow/final/first")
    assert yaml.safe_load(isola("storage", "volume", "snapshot", "show", "slow/final/before"))["name"] == "before"
    isola("storage", "volume", "delete", "slow/final", "slow/bare", "slow/then")
    assert isola("storage", "volume", "list", "slow", "--format", "csv") == ""


def test_pool_and_volume_may_be_two_arguments(isola: Run) -> None:
    volume = ("storage", "volume")
    isola(*volume, "create", "default", "data", "user.a=b")
    assert isola(*volume, "get", "default", "data", "user.a") == "b\n"
    isola(*volume, "set", "default", "data", "user.a=c", "user.d=e")
    isola(*volume, "unset", "default", "data", "user.d")
    assert yaml.safe_load(isola(*volume, "show", "default", "data"))["config"] == {"user.a": "c"}
    isola(*volume, "snapshot", "create", "default", "data", "before")
    isola(*volume, "snapshot", "rename", "default", "data", "before", "first")
    assert yaml.safe_load(isola(*volume, "snapshot", "show", "default", "data/first"))["name"] == "first"
    isola(*volume, "snapshot", "restore", "default/data", "first")
    isola(*volume, "snapshot", "delete", "default", "data", "first")
    isola(*volume, "rename", "default", "data", "other")
    isola(*volume, "create", "default", "more")
    isola("create", "--empty", "web")
    isola(*volume, "attach", "default", "other", "web", "/srv")
    isola(*volume, "attach", "default", "more", "web", "more-of-it", "/more")
    devices = yaml.safe_load(isola("config", "device", "show", "web"))
    assert devices["other"]["path"] == "/srv" and devices["more-of-it"] == {
        "type": "disk", "pool": "default", "source": "more", "path": "/more",
    }  # fmt: skip
    assert "is expected" in isola(*volume, "attach", "default", "more", "web", "srv", status=2)
    assert "no device 'x'" in isola(*volume, "detach", "default", "more", "web", "x", status=1)
    assert yaml.safe_load(isola(*volume, "info", "default", "more"))["used by"] == ["instances/web"]
    isola(*volume, "detach", "default", "more", "web", "more-of-it")
    isola(*volume, "detach", "default", "other", "web")
    isola(*volume, "delete", "default", "other", "more")
    assert "custom" not in isola(*volume, "list", "default")


def test_a_disk_is_attached_without_a_path(isola: Run) -> None:
    volume = ("storage", "volume")
    isola(*volume, "create", "default", "disk", "size=8MiB", "--type", "block")
    isola("create", "--empty", "web")
    assert "no PATH" in isola(*volume, "attach", "default", "disk", "web", "/srv", status=2)
    refused = isola(*volume, "attach", "default", "disk", "web", status=1)  # this daemon has containers only
    assert "PATH" not in refused and "disk" in refused


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("create", "data"), "POOL/VOLUME is expected"),
        (("create", "none/data"), "not found"),
        (("create", "default/data", "size=1GiB"), "does not limit"),
        (("delete", "default/none"), "not found"),
        (("attach", "default/data", "web", "srv"), "not found"),
        (("snapshot", "show", "default/data"), "is expected"),
        (("copy", "a/b/c/d", "default/x"), "is expected"),
    ],
)
def test_invalid_arguments_are_refused(isola: Run, argv: tuple[str, ...], message: str) -> None:
    status = 2 if "is expected" in message else 1
    assert message in isola("storage", "volume", *argv, status=status)
