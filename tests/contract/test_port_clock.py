"""The contract of clocks."""

import asyncio
import re
from datetime import UTC

import pytest

from isola.host.clock import Clock, LinuxClock
from isola.testing.clock import FakeClock


@pytest.fixture(params=["fake", "linux"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return FakeClock(skips=True) if request.param == "fake" else LinuxClock()


def test_now_is_aware_and_utc(clock: Clock) -> None:
    assert clock.now().tzinfo is UTC


async def test_sleep_moves_both_clocks_forward(clock: Clock) -> None:
    before, then = clock.monotonic(), clock.now()
    await clock.sleep(0.02)
    assert clock.monotonic() - before >= 0.019
    assert (clock.now() - then).total_seconds() >= 0.015


async def test_sleep_lets_others_run(clock: Clock) -> None:
    ran: list[str] = []
    task = asyncio.create_task(_note(ran))
    await clock.sleep(0.001)
    await task
    assert ran == ["yes"]


async def test_sleep_of_nothing_returns(clock: Clock) -> None:
    await asyncio.wait_for(clock.sleep(0), 60)


def test_tokens_differ_and_have_the_requested_size(clock: Clock) -> None:
    tokens = {clock.token(8) for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[0-9a-f]{16}", token) for token in tokens)


def test_uuids_differ_and_are_of_version_4(clock: Clock) -> None:
    uuids = {clock.uuid() for _ in range(100)}
    assert len(uuids) == 100
    shape = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(shape, uuid) for uuid in uuids)


async def _note(ran: list[str]) -> None:
    ran.append("yes")
