"""Slow work in one thread pool does not delay others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isola.host.files import LinuxFiles
from isola.host.threads import Work, in_long_thread, in_thread


@pytest.fixture(params=list(Work), ids=lambda work: work.value)
async def busy(request: pytest.FixtureRequest) -> AsyncIterator[Work]:
    """More endless work of this kind than there are threads for it."""
    gate = threading.Event()
    stuck = [asyncio.create_task(in_long_thread(request.param, gate.wait, 300)) for _ in range(20)]
    await asyncio.sleep(0)
    yield request.param
    gate.set()
    await asyncio.gather(*stuck)


async def test_other_work_continues(busy: Work) -> None:
    async with asyncio.timeout(60):
        for other in set(Work) - {busy}:
            await in_long_thread(other, bool)
        await in_thread(bool)


async def test_slow_space_queries_do_not_delay_deletions(busy: Work, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    files = LinuxFiles()
    async with asyncio.timeout(60):
        if busy is not Work.REMOVE:
            await files.remove_tree(tmp_path / "tree")
        (tmp_path / "file").touch()
        await files.remove_tree(tmp_path / "file")
        await files.remove_tree(tmp_path / "nothing")
        assert not (tmp_path / "file").exists()
        if busy is not Work.MEASURE:
            await files.disk_usage(tmp_path)
        if busy is not Work.COPY:
            await files.sync(tmp_path)


async def test_consecutive_calls_need_one_thread() -> None:
    await in_long_thread(Work.MEASURE, bool)
    before = threading.active_count()
    for _ in range(20):
        assert await in_long_thread(Work.MEASURE, int, "7") == 7
    assert threading.active_count() <= before  # threads of an earlier event loop may still be ending


async def test_a_cancelled_call_ends_before_its_caller() -> None:
    gate, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(300)
        ended.set()

    call = asyncio.create_task(in_thread(work))
    while not begun.is_set():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.001)
    call.cancel()
    await asyncio.sleep(0.01)
    assert not call.done()
    gate.set()
    await asyncio.wait([call])
    assert ended.is_set()


async def test_errors_of_calls_reach_their_callers() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "seven")


@pytest.mark.parametrize("cancellations", [1, 2])
async def test_a_cancellation_waits_for_the_result_and_is_raised_at_the_next_await(cancellations: int) -> None:
    gate, begun, seen = threading.Event(), threading.Event(), list[object]()

    def work() -> str:
        begun.set()
        gate.wait(300)
        return "result"

    async def caller() -> None:
        seen.append(await in_thread(work))
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    call = asyncio.create_task(caller())
    while not begun.is_set():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.001)
    for _ in range(cancellations):
        call.cancel()
        await asyncio.sleep(0)
    gate.set()
    await asyncio.wait([call])
    assert seen == ["result", "cancelled"]
    assert call.cancelled()


async def test_an_error_of_a_call_outlives_a_cancellation() -> None:
    gate, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(300)
        raise OSError("lost")

    call = asyncio.create_task(in_thread(work))
    while not begun.is_set():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.001)
    call.cancel()
    gate.set()
    with pytest.raises(OSError, match="lost"):
        await call
