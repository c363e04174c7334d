"""Remains of earlier test runs among pytest's temporary directories."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isola.host.tags import TAGS

_KEPT = 3
"""Number of the newest directories that pytest keeps for inspection."""


def place() -> Path:
    """The directory in which pytest creates its directories."""
    return Path(os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir()) / f"pytest-of-{getpass.getuser()}"


def remove_leftovers(root: Path) -> None:
    """Remove unused directories; pytest's own removal is recursive, and fails on very deep trees of tests."""
    busy = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in list(_stale(root)):
        if not any(mount.startswith(f"{path}/") for mount in busy):  # anything may be mounted there
            subprocess.run(["rm", "-rf", "--one-file-system", "--", str(path)], check=False, capture_output=True)


def remove_claims(root: Path, tags: Path = TAGS) -> None:
    """Release the tags of daemons that this or ended runs started below ``root``, and remove the directory if empty."""
    for link in tags.iterdir() if tags.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            target = Path(os.readlink(link))
            if target.is_relative_to(root) and not _used_by_another(root / target.relative_to(root).parts[0]):
                link.unlink()
    with contextlib.suppress(OSError):
        tags.rmdir()


def _stale(root: Path) -> Iterator[Path]:
    yield from root.glob("garbage-*")
    numbers = [int(path.name[7:]) for path in root.glob("pytest-[0-9]*") if path.name[7:].isdigit()]
    for number in numbers:
        path = root / f"pytest-{number}"
        alive = _user_lives(path)
        if alive is False or (alive is None and number <= max(numbers) - _KEPT):
            yield path


def _user_lives(path: Path) -> bool | None:
    """Whether the run that created it still runs; None if it has ended cleanly, or has just started."""
    user = _user(path)
    return None if user is None else Path(f"/proc/{user}").exists()


def _used_by_another(path: Path) -> bool:
    return _user_lives(path) is True and _user(path) != os.getpid()


def _user(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((path / ".lock").read_text())
    return None
