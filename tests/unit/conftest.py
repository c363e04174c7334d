"""Fixtures for several areas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from rest_door import Stand, standing
from served_daemon import ServedDaemon
from strike import Fate, end_tasks

from isola.client import Client
from isola.testing.clock import FakeClock
from isola.testing.host import fake_host
from isola.testing.parts import HostedRuntime, World

settings.register_profile("isola", deadline=None)  # a busy machine is no fault
settings.load_profile("isola")


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A running daemon in memory with one image, ``tiny``; its parameter is the runtime, by default of containers."""
    world = World(observer=Fate(), engine=getattr(request, "param", HostedRuntime))
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()


@pytest.fixture
async def still() -> AsyncIterator[World]:
    """A world in which only tests advance the clock."""
    world = World(fake_host(granted=((1 << 20, 1 << 24),), clock=FakeClock()), observer=Fate())
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """The REST door of a daemon in memory."""
    async with standing() as made:
        yield made


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ServedDaemon]:
    """A daemon in memory behind a socket, for clients in other threads and processes."""
    with ServedDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: ServedDaemon) -> Iterator[Client]:
    """A client of that."""
    with Client(daemon.directory, timeout=20) as client:
        yield client
