"""Fixtures of tests with real effects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from netns import Netns, fresh_namespace


@pytest.fixture
def netns() -> Iterator[Netns]:
    """A network namespace of the test's own: the test and all it starts live in it. Ask for it first."""
    with fresh_namespace() as namespace:
        yield namespace
