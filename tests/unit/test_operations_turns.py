"""Operations on the same resource: order, waiting, and forced ones that go first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from isola.errors import Busy
from isola.events import Events
from isola.model.operation import OperationStatus
from isola.operations import Operation, Operations


def now() -> datetime:
    return datetime.now(UTC)


class Bench:
    """Operations whose start and end are controlled by the test."""

    def __init__(self) -> None:
        numbers = count(1)
        self.operations = Operations(Events(now), now=now, new_id=lambda: f"op-{next(numbers)}")
        self.begun: list[str] = []
        self._go_on: dict[str, asyncio.Event] = {}

    def start(self, name: str, *locks: str, **how: Any) -> Operation:
        self._go_on[name] = asyncio.Event()

        async def work(op: Operation) -> None:
            self.begun.append(name)
            await self._go_on[name].wait()

        return self.operations.start(name, work, locks=locks, **how)

    async def end(self, name: str) -> None:
        self._go_on[name].set()
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_first_come_first_served(bench: Bench) -> None:
    made = [bench.start(name, "x") for name in "abc"]
    await settled()
    assert bench.begun == ["a"] and [op.status for op in made[1:]] == [OperationStatus.PENDING] * 2
    for name in "abc":
        await bench.end(name)
    assert bench.begun == ["a", "b", "c"] and {op.status for op in made} == {OperationStatus.SUCCESS}
    assert bench.operations.holder("x") is None


async def test_the_wait_is_shown(bench: Bench) -> None:
    first, second = bench.start("a", "x"), bench.start("b", "x")
    await settled()
    view = second.view()
    assert view.metadata["waiting_for"] == first.id and [step.name for step in view.steps] == ["Wait for: a"]
    await bench.end("a")
    view = second.view()
    assert "waiting_for" not in view.metadata and view.steps[0].finished and second.waited and not first.waited
    await bench.end("b")


async def test_several_locks_are_taken_without_deadlock(bench: Bench) -> None:
    bench.start("ab", "a", "b")
    bench.start("bc", "b", "c")
    bench.start("ca", "c", "a")
    bench.start("d", "d")
    await settled()
    assert bench.begun == ["ab", "d"]
    for name, begun in (("ab", "bc"), ("bc", "ca")):
        await bench.end(name)
        assert bench.begun[-1] == begun
    await bench.end("ca")


async def test_a_waiting_operation_can_be_cancelled_without_blocking_others(bench: Bench) -> None:
    bench.start("a", "x")
    second, third = bench.start("b", "x", "y"), bench.start("c", "y")
    await settled()
    second.cancel()
    await settled()
    assert second.status is OperationStatus.CANCELLED and bench.begun == ["a", "c"]
    await bench.end("a")
    await bench.end("c")
    assert third.status is OperationStatus.SUCCESS and bench.begun == ["a", "c"]


async def test_the_queue_is_limited(bench: Bench) -> None:
    made = [bench.start(f"{number}", "x") for number in range(33)]
    with pytest.raises(Busy, match=f"0 is running.*{made[0].id}.*32 wait"):
        bench.start("more", "x")
    await bench.operations.close(1)
    assert all(op.status is OperationStatus.CANCELLED for op in made)


async def test_a_forced_operation_goes_first_and_cancels_others(bench: Bench) -> None:
    first = bench.start("a", "x", gives_way=True)
    await settled()
    bench.start("b", "x")
    bench.start("c", "x", urgent=True)
    bench.start("d", "x", urgent=True)
    await settled()
    assert first.status is OperationStatus.CANCELLED and bench.begun == ["a", "c"]
    for name in "cdb":
        await bench.end(name)
    assert bench.begun == ["a", "c", "d", "b"]


async def test_a_forced_operation_waits_for_those_that_cannot_be_cancelled(bench: Bench) -> None:
    first = bench.start("a", "x")
    await settled()
    bench.operations._turns.grace = 0.05
    urgent = bench.start("b", "x", urgent=True)
    await settled()
    assert first.status is OperationStatus.RUNNING
    await first.wait(2)
    await settled()
    assert first.status is OperationStatus.CANCELLED and urgent.status is OperationStatus.RUNNING  # type: ignore[comparison-overlap]
    await bench.end("b")


async def test_a_lock_that_is_named_twice_is_taken_once(bench: Bench) -> None:
    """For example when an instance is refreshed from itself, or renamed to its own name."""
    first = bench.start("first", "a")
    twice = bench.start("twice", "a", "a")
    last = bench.start("last", "a")
    for name in ("first", "twice", "last"):
        await bench.end(name)
    assert {each.status for each in (first, twice, last)} == {OperationStatus.SUCCESS}
    assert bench.operations.locked() == []
