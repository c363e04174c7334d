"""``isola project``, and the project that other commands work in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served_daemon import ServedDaemon

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def isola(tmp_path: Path) -> Iterator[Run]:
    with ServedDaemon(tmp_path) as daemon:
        environment = {
            "PATH": os.environ["PATH"],
            "ISOLA_DIR": str(daemon.directory),
            "ISOLA_CONF": str(tmp_path / "conf"),
            "LANG": "C.UTF-8",
        }

        def run(*arguments: str, status: int = 0, **given: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "isola.cli.main", *arguments]
            done = subprocess.run(
                command, capture_output=True, timeout=120, env=environment | given, check=False, text=True
            )
            assert done.returncode == status, done
            return done

        yield run


def names(isola: Run, *arguments: str) -> list[tuple[str, str]]:
    """Project and name of the listed objects."""
    return [(item["project"], item["name"]) for item in json.loads(isola(*arguments, "-f", "json").stdout)]


def test_the_lifecycle_of_a_project(isola: Run) -> None:
    isola("project", "create", "blue", "limits.instances=3", "--description", "ours")
    assert "blue" in isola("project", "list").stdout and "default (current)" in isola("project", "list").stdout
    assert isola("project", "get", "blue", "limits.instances").stdout == "3\n"
    isola("project", "set", "blue", "limits.memory=1GiB", "user.owner=me")
    isola("project", "unset", "blue", "user.owner")
    shown = isola("project", "show", "blue").stdout
    assert "limits.memory: 1GiB" in shown and "user.owner" not in shown and "description: ours" in shown
    assert "1GiB" in isola("project", "info", "blue").stdout.replace("1.00GiB", "1GiB").replace("1.0GiB", "1GiB")
    isola("project", "rename", "blue", "green")
    isola("project", "delete", "green")
    assert "green" not in isola("project", "list").stdout
    assert "default" in isola("project", "delete", "default", status=1).stderr


def test_instances_can_be_created_in_a_new_project(isola: Run) -> None:
    assert "root (pool default)" in isola("project", "create", "blue").stderr
    isola("create", "--empty", "web", "--project", "blue")
    isola("delete", "web", "--project", "blue")
    isola("project", "delete", "blue")
    usual = json.loads(isola("profile", "show", "default", "-f", "json").stdout)["devices"]
    isola("network", "create", "lab")
    isola("storage", "create", "fast", "dir")
    isola("project", "create", "green", "--network", "lab", "--storage", "fast")
    devices = json.loads(isola("profile", "show", "default", "--project", "green", "-f", "json").stdout)["devices"]
    assert devices["eth0"]["network"] == "lab" and devices["root"]["pool"] == "fast"
    assert "is created" in isola("project", "create", "red", "--empty-profile").stderr
    bare = isola("create", "--empty", "web", "--project", "red", status=1).stderr
    assert "root disk" in bare and "pool" in bare and "use the profile" not in bare
    isola("project", "create", "shared", "features.profiles=false")
    assert json.loads(isola("profile", "show", "default", "-f", "json").stdout)["devices"] == usual
    isola("project", "create", "apart", "features.networks=true")
    devices = json.loads(isola("profile", "show", "default", "--project", "apart", "-f", "json").stdout)["devices"]
    assert list(devices) == ["root"]
    assert "nope" in isola("project", "create", "wrong", "--storage", "nope", status=1).stderr
    assert "nope" in isola("project", "create", "wrong", "--network", "nope", status=1).stderr
    assert "wrong" not in isola("project", "list").stdout


def test_a_project_is_deleted_by_force_with_its_contents(isola: Run) -> None:
    for project in ("blue", "green"):
        isola("project", "create", project)
        isola("create", "--empty", "web", "--project", project)
        isola("snapshot", "create", "web", "--project", project)
        isola("storage", "volume", "create", "default/data", "--project", project)
        isola("profile", "create", "small", "--project", project)
    assert "not empty" in isola("project", "delete", "blue", status=1).stderr
    isola("project", "delete", "blue", "--force")
    assert "blue" not in isola("project", "list").stdout
    assert [project for project, _ in names(isola, "list", "-A")] == ["green"]
    assert "default" in isola("project", "delete", "default", "--force", status=1).stderr
    assert [project for project, _ in names(isola, "list", "-A")] == ["green"]


def test_commands_use_the_given_or_the_stored_project(isola: Run) -> None:
    isola("project", "create", "blue", "-c", "features.images=false", "-c", "features.profiles=false")
    isola("create", "tiny", "one")
    isola("create", "tiny", "one", "--project", "blue")
    assert names(isola, "list") == [("default", "one")]
    assert names(isola, "list", "--project", "blue") == [("blue", "one")]
    assert sorted(names(isola, "list", "--all-projects")) == [("blue", "one"), ("default", "one")]
    assert "PROJECT" in isola("list", "-A").stdout
    isola("project", "switch", "blue")
    assert isola("project", "get-current").stdout == "blue\n"
    assert names(isola, "list") == [("blue", "one")]
    assert names(isola, "list", "--project", "default") == [("default", "one")]
    isola("delete", "one")
    assert sorted(names(isola, "list", "-A")) == [("default", "one")]
    isola("project", "switch", "red", status=1)
    isola("project", "switch", "default")
    assert names(isola, "list") == [("default", "one")]


def test_projects_and_their_keys_are_completed(isola: Run) -> None:
    isola("project", "create", "blue")
    assert "blue" in isola("__complete", "project", "show", "bl").stdout.split()
    assert "limits.instances" in isola("__complete", "project", "set", "blue", "limits.inst").stdout
    assert "blue" in isola("__complete", "list", "--project", "b").stdout.split()
