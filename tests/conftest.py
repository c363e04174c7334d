"""Hooks of every run."""

from __future__ import annotations

from leftovers import place, remove_leftovers


def pytest_sessionstart() -> None:
    """What killed runs left must not fail this one."""
    remove_leftovers(place())
