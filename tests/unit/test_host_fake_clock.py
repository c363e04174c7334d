"""The clock that a test moves."""

import asyncio

from isola.testing.clock import FakeClock


async def test_sleepers_wake_in_order_each_at_its_time() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(name, seconds)) for name, seconds in (("b", 2), ("a", 1), ("c", 3))]
    await clock.advance(2.5)
    assert woken == [("a", 1), ("b", 2)]
    assert clock.sleepers == 1
    await clock.advance(10)
    assert woken[-1] == ("c", 3)
    assert clock.monotonic() == 12.5
    await asyncio.gather(*tasks)


async def test_a_repeated_sleep_ends_again() -> None:
    clock, ticks = FakeClock(), []

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await clock.advance(3)
    assert ticks == [1, 2, 3]
    task.cancel()


async def test_a_cancelled_sleep_is_removed() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert clock.sleepers == 0
    await clock.advance(10)


def test_random_values_are_reproducible() -> None:
    assert FakeClock().token(4) == FakeClock().token(4)
