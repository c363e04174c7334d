"""Fixtures for several areas."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from strike import Fate, end_tasks

from isola.testing.parts import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A running daemon in memory with one image, ``tiny``."""
    world = World(observer=Fate())
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()
