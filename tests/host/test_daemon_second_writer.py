"""A running daemon, and another process that writes to its database: each sees the changes of the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from daemon import ApiError, Daemon
from waiting import until

from isola.daemon.records import Records
from isola.errors import PreconditionFailed
from isola.host.clock import LinuxClock
from isola.model.profile import Profile
from isola.model.reference import Ref
from isola.state.drivers.sqlite import SqliteStore

T = TypeVar("T")
_WEB = Ref.default("web")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()


def from_beside(daemon: Daemon, work: Callable[[Records], Awaitable[T]]) -> T:
    """Run code of a second daemon over the same state, in this process."""

    async def run() -> T:
        store = SqliteStore(daemon.directory, LinuxClock())
        await store.open()
        try:
            return await work(await Records.load(store))
        finally:
            await store.close()

    return asyncio.run(run())


def described(daemon: Daemon, text: str) -> float:
    """Seconds within which the daemon shows it."""
    begun = time.monotonic()
    while time.monotonic() - begun < 60:
        if any(each["description"] == text for each in daemon.get("/1.0/profiles?recursion=1")):
            return time.monotonic() - begun
        time.sleep(0.01)
    raise AssertionError("it does not come")


def test_the_daemon_shows_writes_of_another_process(daemon: Daemon) -> None:
    from_beside(daemon, lambda records: records.profiles.add(_WEB, Profile("web", description="from beside")))
    assert described(daemon, "from beside") < 30
    daemon.run("PATCH", "/1.0/profiles/web", {"description": "by the daemon"})

    async def seen(records: Records) -> str:
        return records.profiles.get(_WEB).description

    assert from_beside(daemon, seen) == "by the daemon"


def test_outdated_writes_are_refused_in_both_processes(daemon: Daemon) -> None:
    daemon.run("POST", "/1.0/profiles", {"name": "web", "description": "1"})
    _, headers = daemon.answer("/1.0/profiles/web")

    async def between(records: Records) -> None:
        held = records.profiles.read(_WEB)
        daemon.run("PATCH", "/1.0/profiles/web", {"description": "2"})
        with pytest.raises(PreconditionFailed):
            await records.profiles.put(_WEB, Profile("web", description="decided on 1"), at=held.revision)
        await records.profiles.put(_WEB, Profile("web", description="3"), at=records.profiles.revision(_WEB))

    from_beside(daemon, between)
    with pytest.raises(ApiError) as refused:
        daemon.run("PUT", "/1.0/profiles/web", {"description": "4"}, headers={"If-Match": headers["ETag"]})
    assert refused.value.status == 412
    until(lambda: daemon.get("/1.0/profiles/web")["description"] == "3")
