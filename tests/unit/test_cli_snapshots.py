"""``isola snapshot`` and ``isola copy`` as typed, against a daemon in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
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

        def run(*argv: str, status: int = 0) -> str:
            done = subprocess.run(
                [*ISOLA, *argv], capture_output=True, timeout=120, env=environment, check=False, text=True
            )
            assert done.returncode == status, done.stderr
            return done.stdout if status == 0 else done.stderr

        run("create", "--empty", "web1", "-i", "container")
        yield run


def names(isola: Run) -> list[str]:
    return [row.split(",")[0] for row in isola("snapshot", "list", "web1", "--format", "csv").splitlines()]


def test_snapshots_of_an_instance(isola: Run) -> None:
    isola("config", "set", "web1", "user.mark=then")
    isola("snapshot", "create", "web1")
    isola("snapshot", "create", "web1", "before", "--expires", "2040-01-01T00:00:00Z")
    assert names(isola) == ["snap0", "before"] or sorted(names(isola)) == ["before", "snap0"]
    assert "2040-01-01" in isola("snapshot", "list", "web1")
    isola("snapshot", "rename", "web1", "snap0", "first")
    isola("snapshot", "expire", "web1", "first", "2041-01-01T00:00:00Z")
    shown = yaml.safe_load(isola("snapshot", "show", "web1", "first"))
    assert (shown["config"]["user.mark"], shown["stateful"]) == ("then", False)
    assert "2041" in str(shown["expires_at"])
    isola("snapshot", "expire", "web1", "first", "never")
    assert "2041" not in isola("snapshot", "show", "web1", "first")
    isola("config", "set", "web1", "user.mark=now")
    isola("snapshot", "restore", "web1", "first")
    assert isola("config", "get", "web1", "user.mark") == "then\n"
    isola("snapshot", "delete", "web1", "first", "before")
    assert names(isola) == []


def test_an_instance_is_copied_and_moved(isola: Run) -> None:
    isola("snapshot", "create", "web1")
    isola("copy", "web1", "web2", "-c", "user.mark=copied")
    isola("copy", "web1/snap0", "web3")
    isola("cp", "web1", "web4", "--instance-only")
    assert isola("config", "get", "web2", "user.mark") == "copied\n"
    assert "snap0" in isola("snapshot", "list", "web2")
    assert "snap0" not in isola("snapshot", "list", "web4")
    isola("move", "web4", "web5")
    assert {"web2", "web3", "web5"} <= set(isola("list", "--format", "csv", "-c", "n").split())


def test_an_instance_and_its_snapshot_may_be_one_argument(isola: Run) -> None:
    isola("snapshot", "create", "web1/one")
    isola("snapshot", "create", "web1/two")
    isola("snapshot", "rename", "web1/two", "web1/second")
    assert names(isola) == ["one", "second"]
    assert yaml.safe_load(isola("snapshot", "show", "web1/one"))["name"] == "one"
    isola("snapshot", "expire", "web1/one", "2041-01-01T00:00:00Z")
    assert "2041" in isola("snapshot", "show", "web1", "one")
    isola("snapshot", "restore", "local:web1/one")
    isola("snapshot", "delete", "web1/one", "web1/second")
    assert names(isola) == []


def test_verbs_of_instances_accept_snapshots_like_lxd_clients(isola: Run) -> None:
    isola("config", "set", "web1", "user.mark=then")
    isola("snapshot", "web1", "one")
    isola("snapshot", "web1")
    isola("config", "set", "web1", "user.mark=now")
    isola("restore", "web1", "one")
    assert isola("config", "get", "web1", "user.mark") == "then\n"
    assert yaml.safe_load(isola("info", "web1/one"))["name"] == "one"
    assert yaml.safe_load(isola("config", "show", "web1/one"))["config"]["user.mark"] == "then"
    assert isola("config", "get", "web1/one", "user.mark") == "then\n"
    isola("rename", "web1/one", "web1/first")
    isola("move", "web1/snap0", "second")
    assert names(isola) == ["first", "second"]
    isola("delete", "web1/first", "web1/second")
    assert names(isola) == [] and "web1" in isola("list")


def test_a_snapshot_expires_after_a_while_or_on_a_day(isola: Run) -> None:
    def until(name: str) -> datetime:
        return datetime.fromisoformat(str(yaml.safe_load(isola("snapshot", "show", "web1", name))["expires_at"]))

    before = datetime.now(UTC).replace(microsecond=0)
    isola("snapshot", "create", "web1", "one", "--expiry", "3d")
    assert before + timedelta(days=3) <= until("one") <= datetime.now(UTC) + timedelta(days=3)
    isola("snapshot", "expire", "web1", "one", "2w")
    assert before + timedelta(weeks=2) <= until("one") <= datetime.now(UTC) + timedelta(weeks=2)
    isola("snapshot", "expire", "web1", "one", "2040-01-01")
    assert until("one") == datetime(2040, 1, 1).astimezone(UTC)


def test_snapshots_are_completed(isola: Run) -> None:
    for name in ("before", "after"):
        isola("snapshot", "create", "web1", name)
    assert complete(isola, "snapshot", "restore", "web1", "be") == ["before"]
    assert sorted(complete(isola, "snapshot", "delete", "web1", "before", "")) == ["after", "before"]
    assert complete(isola, "snapshot", "show", "") == ["web1"]
    assert complete(isola, "snapshot", "show", "none", "") == []
    assert complete(isola, "copy", "we") == ["web1"]
    assert complete(isola, "copy", "web1/a") == ["web1/after"]


def complete(isola: Run, *argv: str) -> list[str]:
    return isola("__complete", "--", *argv).split()


def test_an_instance_is_moved_to_another_pool_and_project(isola: Run) -> None:
    isola("snapshot", "create", "web1")
    isola("storage", "create", "fast", "overlay")
    isola("project", "create", "blue", "features.profiles=false")
    isola("copy", "web1", "web2", "--storage", "fast")
    isola("copy", "web1/snap0", "web3", "--storage", "fast")
    isola("move", "web1", "web4", "--storage", "fast")
    isola("mv", "web2", "--to-project", "blue", "--instance-only")
    for name, *more in (("web2", "--project", "blue"), ("web3",), ("web4",)):
        shown = yaml.safe_load(isola("config", "show", name, *more))
        assert shown["devices"]["root"]["pool"] == "fast"
    assert "snap0" in isola("snapshot", "list", "web4")
    assert "snap0" not in isola("snapshot", "list", "web2", "--project", "blue")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("snapshot", "create", "none"), "not found"),
        (("snapshot", "create", "web1", "a/b"), "nvalid name"),
        (("snapshot", "create", "web1", "--expires", "2040-01-01T00:00:00Z", "--no-expiry"), "not both"),
        (("snapshot", "restore", "web1", "none"), "no snapshot"),
        (("snapshot", "create", "web1", "--expires", "soon"), "A time is expected"),
        (("config", "set", "web1/snap0", "user.a=b"), "is expected"),
        (("delete", "web1/none"), "no snapshot"),
        (("copy", "a/b/c", "web2"), "is expected"),
        (("copy", "web1", "web1"), "exists"),
        (("move", "web1"), "is expected"),
        (("move", "web1", "--storage", "none"), "not found"),
        (("move", "web1", "--to-project", "none"), "not found"),
    ],
)
def test_errors_are_shown(isola: Run, argv: tuple[str, ...], message: str) -> None:
    expected = 2 if "expected" in message or "both" in message else 1
    assert message in isola(*argv, status=expected)


def test_a_misspelt_verb_is_not_taken_for_an_instance(isola: Run) -> None:
    assert "did you mean restore" in isola("snapshot", "restor", "web1", status=2)
