"""Temporary files of killed test runs are removed, however deep their directories are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from leftovers import place, remove_claims

DEPTH = 3000


def _deep(path: Path) -> None:
    """A tree that is deeper than Python's recursion limit and the longest path."""
    path.mkdir(parents=True)
    here = os.open(path, os.O_DIRECTORY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_that_needs_a_directory(tmp_path: Path) -> None:
    assert tmp_path.is_dir()


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    garbage, killed, living = place() / "garbage-one", place() / "pytest-0", place() / "pytest-1"
    living.mkdir(parents=True)
    (living / ".lock").write_text(str(os.getpid()))
    try:
        _deep(garbage)
        _deep(killed)
        (killed / ".lock").write_text(str(ended.pid))
        run = subprocess.run(
            [sys.executable, "-m", "pytest", __file__, "-k", "needs_a_directory"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "RecursionError" not in run.stdout + run.stderr
        assert run.returncode == 0, run.stdout
        assert sorted(path.name for path in place().glob("*-*[0-9e]")) == ["pytest-1", "pytest-2"]
    finally:
        subprocess.run(["rm", "-rf", str(garbage), str(killed)], check=True)


def test_claims_of_test_daemons_are_released(tmp_path: Path) -> None:
    tags = tmp_path / "tags"
    tags.mkdir()
    (tags / "isola-0001").symlink_to(tmp_path / "tests" / "pytest-0" / "state")
    (tags / "isola-0002").symlink_to("/var/lib/isola")
    remove_claims(tmp_path / "tests", tags)
    assert [link.name for link in tags.iterdir()] == ["isola-0002"]
    (tags / "isola-0002").unlink()
    remove_claims(tmp_path / "tests", tags)
    assert not tags.exists()


def test_claims_of_a_concurrent_run_stay(tmp_path: Path) -> None:
    tags, root = tmp_path / "tags", tmp_path / "tests"
    tags.mkdir()
    for number, user in ((1, os.getppid()), (2, os.getpid())):
        (root / f"pytest-{number}").mkdir(parents=True)
        (root / f"pytest-{number}" / ".lock").write_text(str(user))
        (tags / f"isola-000{number}").symlink_to(root / f"pytest-{number}" / "test_it" / "state")
    remove_claims(root, tags)
    assert [link.name for link in tags.iterdir()] == ["isola-0001"]
