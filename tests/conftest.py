"""Hooks of every run."""

from __future__ import annotations

import pytest
from leftovers import place, remove_claims, remove_leftovers


def pytest_sessionstart() -> None:
    """What killed runs left must not fail this one."""
    remove_leftovers(place())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """What daemons that were never asked to go have claimed on the host."""
    remove_claims(place())
