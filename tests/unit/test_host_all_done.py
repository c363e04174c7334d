"""Several tasks run concurrently: none continues after the call has returned."""

import asyncio

import pytest

from isola.host.cancellation import all_done, both


async def test_a_failure_is_raised_when_all_have_ended() -> None:
    ended: list[str] = []

    async def slow() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("slow")

    async def failing(word: str) -> None:
        raise ValueError(word)

    with pytest.raises(ValueError, match="one"):
        await all_done(failing("one"), slow(), failing("two"))
    assert ended == ["slow"]


async def test_a_cancellation_is_raised_when_all_have_ended() -> None:
    ended: list[str] = []
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        ended.append("slow")

    async def caller() -> None:
        await all_done(slow(), slow())
        ended.append("caller")
        await asyncio.sleep(0)
        ended.append("too far")

    task = asyncio.ensure_future(caller())
    await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.001)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["slow", "slow", "caller"]


async def test_a_cancellation_cancels_both() -> None:
    ended: list[str] = []

    async def endless(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    task = asyncio.ensure_future(both(endless("one"), endless("two")))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["one", "two"]


async def test_the_results_of_both_or_the_first_error() -> None:
    async def one(result: int) -> int:
        await asyncio.sleep(0)
        if result < 0:
            raise ValueError(result)
        return result

    assert await both(one(1), one(2)) == (1, 2)
    for works, error in (((-1, 2), "-1"), ((1, -2), "-2"), ((-1, -2), "-1")):
        with pytest.raises(ValueError, match=error):
            await both(*map(one, works))
