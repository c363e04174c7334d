"""Operations: progress, rollback, cancellation, the point of no return."""

from __future__ import annotations

import asyncio
import errno
from datetime import UTC, datetime
from functools import partial
from itertools import count

import pytest
from heard import operation as operation_of

from isola.errors import AlreadyExists, Busy, Cancelled, Conflict, HostFailure, NotFound
from isola.events import Events
from isola.host.cancellation import finish
from isola.model.event import EventKind
from isola.model.operation import OperationStatus, OperationView
from isola.operations import Operation, Operations
from isola.testing.clock import FakeClock


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def operations() -> Operations:
    numbers = count(1)
    return Operations(Events(now), now=now, new_id=lambda: f"op-{next(numbers)}")


class Host:
    """Existing objects, and the order of creations and deletions."""

    def __init__(self) -> None:
        self.there: list[str] = []
        self.log: list[str] = []

    async def make(self, name: str) -> str:
        self.there.append(name)
        self.log.append(f"+{name}")
        return name

    async def drop(self, name: str) -> None:
        self.log.append(f"-{name}")
        if name in self.there:
            self.there.remove(name)

    async def has(self, name: str) -> bool:
        return name in self.there


async def effect(op: Operation, host: Host, name: str) -> None:
    await op.effect(f"make {name}", lambda: host.make(name), look=lambda: host.has(name), undo=lambda: host.drop(name))


async def test_success_keeps_the_effects(operations: Operations) -> None:
    host = Host()

    async def work(op: Operation) -> None:
        with op.step("Make", total=2, unit="items") as step:
            await effect(op, host, "a")
            step.advance()
            await effect(op, host, "b")
            step.advance()
        await op.commit()

    operation = operations.start("Making", work)
    assert await operation.wait(1)
    view = operation.view()
    assert view.status is OperationStatus.SUCCESS and view.status.code == 200
    assert host.there == ["a", "b"]
    assert [(step.name, step.done, step.total, step.finished) for step in view.steps] == [("Make", 2, 2, True)]


async def test_quick_steps_are_published_together_and_the_last_one_is_seen() -> None:
    clock = FakeClock()
    seen: list[list[str]] = []
    events = Events(clock.now)
    operations = Operations(events, now=clock.now, new_id=clock.uuid)
    subscription = events.follow([EventKind.OPERATION], None)

    async def work(op: Operation) -> None:
        for number in range(20):
            with op.step(f"Step {number}"):
                await asyncio.sleep(0)
        with op.step("Wait"):
            await asyncio.sleep(0.25)

    operation = operations.start("Making", work)
    await operation.wait(1)
    events.close()
    async for event in subscription:
        assert isinstance(event.content, OperationView)
        seen.append([step.name for step in event.content.steps if not step.finished])
    assert ["Wait"] in seen, "the step that takes long is shown while it runs"
    assert len(seen) <= 6, seen


async def test_failure_undoes_in_reverse_and_keeps_the_first_error(operations: Operations) -> None:
    host = Host()

    async def work(op: Operation) -> None:
        await effect(op, host, "a")
        await effect(op, host, "b")
        raise HostFailure("the disk is on fire")

    operation = operations.start("Making", work)
    await operation.wait(1)
    assert host.log == ["+a", "+b", "-b", "-a"]
    view = operation.view()
    assert (view.status, view.error, view.error_code) == (
        OperationStatus.FAILURE,
        "the disk is on fire",
        "host_failure",
    )


async def test_exhausted_resources_are_not_internal_errors(operations: Operations) -> None:
    async def work(op: Operation) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    operation = operations.start("Making", work)
    await operation.wait(1)
    assert isinstance(operation.error, HostFailure)
    assert "no file descriptors left" in operation.view().error and operation.error.remedy


async def test_an_effect_whose_object_exists_changes_nothing(operations: Operations) -> None:
    host = Host()
    await host.make("a")
    operation = operations.start("Making", lambda op: effect(op, host, "a"))
    await operation.wait(1)
    assert isinstance(operation.error, AlreadyExists)
    assert host.there == ["a"]


async def test_rollback_goes_on_past_failures_and_lists_them(operations: Operations) -> None:
    host = Host()

    async def stuck() -> None:
        raise HostFailure("it is stuck")

    async def work(op: Operation) -> None:
        await effect(op, host, "a")
        op.on_rollback("b", stuck)
        await effect(op, host, "c")
        raise NotFound("the reason")

    operation = operations.start("Making", work)
    await operation.wait(1)
    assert host.there == []
    assert operation.warnings == ["Could not undo b: it is stuck"]
    assert isinstance(operation.error, NotFound)


async def test_cancel_is_reported_only_after_rollback_which_cannot_be_cancelled(operations: Operations) -> None:
    host = Host()
    undoing, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        undoing.set()
        await go_on.wait()
        await host.drop("a")

    async def work(op: Operation) -> None:
        op.on_rollback("a", slow)
        await host.make("a")
        await asyncio.sleep(60)

    operation = operations.start("Making", work)
    await asyncio.sleep(0)
    operation.cancel()
    await undoing.wait()
    assert operation.status is OperationStatus.CANCELLING
    operation.cancel()
    assert operation._task is not None
    operation._task.cancel()
    assert not await operation.wait(0.02)
    go_on.set()
    assert await operation.wait(1)
    assert operation.status is OperationStatus.CANCELLED  # type: ignore[comparison-overlap]
    assert host.there == []


async def test_after_commit_nothing_is_undone_nor_cancelled(operations: Operations) -> None:
    host = Host()
    committed, go_on = asyncio.Event(), asyncio.Event()

    async def work(op: Operation) -> None:
        await effect(op, host, "a")
        await op.commit()
        committed.set()
        await go_on.wait()
        raise HostFailure("afterwards")

    operation = operations.start("Making", work)
    await committed.wait()
    assert not operation.may_cancel
    with pytest.raises(Conflict):
        operation.cancel()
    go_on.set()
    await operation.wait(1)
    assert operation.status is OperationStatus.FAILURE
    assert host.there == ["a"]


async def test_a_second_stage_is_undone_alone(operations: Operations) -> None:
    host = Host()

    async def work(op: Operation) -> None:
        await effect(op, host, "created")
        await op.commit()
        op.reopen()
        await effect(op, host, "started")
        raise HostFailure("it does not start")

    operation = operations.start("Launching", work)
    await operation.wait(1)
    assert host.there == ["created"]


async def test_a_cancel_while_the_record_is_written_lets_the_write_end(operations: Operations) -> None:
    host = Host()
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def record() -> None:
        writing.set()
        await go_on.wait()
        await host.make("record")

    async def work(op: Operation) -> None:
        await effect(op, host, "a")
        await op.commit(record)
        await asyncio.sleep(0)

    operation = operations.start("Making", work)
    await writing.wait()
    operation.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await operation.wait(1)
    assert host.there == ["a", "record"]
    assert operation.status is OperationStatus.SUCCESS


async def test_one_operation_per_resource_and_busy_names_the_holder(operations: Operations) -> None:
    go_on = asyncio.Event()

    async def work(op: Operation) -> None:
        await go_on.wait()

    first = operations.start("Stopping web1", work, locks=["instance/web1"])
    with pytest.raises(Busy, match=f"Stopping web1.*{first.id}"):
        operations.start("Starting web1", work, locks=["instance/web1"], wait=False)
    other = operations.start("Starting web2", work, locks=["instance/web2"])
    go_on.set()
    await asyncio.gather(first.wait(1), other.wait(1))
    again = operations.start("Starting web1", work, locks=["instance/web1"])
    assert await again.wait(1)


async def test_an_unexpected_error_is_a_failure_with_the_code_internal(operations: Operations) -> None:
    async def work(op: Operation) -> None:
        raise KeyError("oops")

    operation = operations.start("Failing", work)
    await operation.wait(1)
    assert operation.view().error_code == "internal"


async def test_events_report_every_status(operations: Operations) -> None:
    events = operations._events
    follower = events.follow([EventKind.OPERATION])
    seen: list[object] = []

    async def listen() -> None:
        async for event in follower:
            seen.append(operation_of(event).status.value)

    task = asyncio.create_task(listen())

    async def work(op: Operation) -> None:
        await asyncio.sleep(0)

    operation = operations.start("Making", work)
    await operation.wait(1)
    await asyncio.sleep(0.01)
    task.cancel()
    assert seen[0] == "Running" and seen[-1] == "Success"


async def test_a_cancellation_takes_effect_between_shielded_effects(operations: Operations) -> None:
    host = Host()

    async def work(op: Operation) -> None:
        for name in "abcdef":
            await op.effect(
                f"make {name}",
                partial(slowly, name),
                undo=partial(host.drop, name),
            )
            if name == "b":
                op.cancel()
        await op.commit()

    async def slowly(name: str) -> None:
        await finish(make(name))

    async def make(name: str) -> None:
        await asyncio.sleep(0.001)
        await host.make(name)

    operation = operations.start("Making", work)
    await operation.wait(1)
    assert operation.status is OperationStatus.CANCELLED
    assert host.there == [] and "+c" not in host.log


async def test_a_cancel_before_the_work_begins_ends_it_and_frees_its_locks(operations: Operations) -> None:
    host = Host()
    operation = operations.start("Making", lambda op: effect(op, host, "a"), locks=["instance/web1"])
    operation.cancel()
    assert await operation.wait(1)
    assert operation.status is OperationStatus.CANCELLED
    assert host.there == []
    assert operations.holder("instance/web1") is None


async def test_a_second_cancellation_does_not_prevent_the_rollback(operations: Operations) -> None:
    host = Host()

    async def work(op: Operation) -> None:
        await effect(op, host, "a")
        try:
            await asyncio.sleep(60)
        finally:
            assert op._task is not None
            op._task.cancel()

    operation = operations.start("Making", work)
    await asyncio.sleep(0.01)
    operation.cancel()
    assert await operation.wait(1)
    assert host.there == [] and operation.status is OperationStatus.CANCELLED


async def test_internal_waiters_get_cancelled(operations: Operations) -> None:
    async def work(op: Operation) -> None:
        await asyncio.sleep(60)

    operation = operations.start("Making", work)
    await asyncio.sleep(0)
    operation.cancel()
    with pytest.raises(Cancelled, match="Making was cancelled"):
        await operations.finish(operation)


async def ended(operations: Operations, number: int, size: int = 0) -> list[Operation]:
    async def work(op: Operation) -> None:
        op.update_metadata(output="x" * size)

    made = [operations.start(f"{each}", work) for each in range(number)]
    for operation in made:
        await operation.wait(5)
    return made


async def test_ended_operations_are_kept_for_a_time(operations: Operations) -> None:
    made = await ended(operations, 3000)
    assert all(operations.get(op.id) is op for op in made)


async def test_ended_operations_that_were_read_are_dropped_first(operations: Operations) -> None:
    first = await ended(operations, 4, 6 << 20)
    for operation in (first[2], first[1]):
        operations.mark_read(operation)
    (more,) = await ended(operations, 1, 12 << 20)
    assert {op.id for op in operations} == {first[0].id, first[1].id, first[3].id, more.id}
    (more,) = await ended(operations, 1, 12 << 20)
    assert {op.id for op in operations} == {first[3].id, more.id} or more.id in {op.id for op in operations}
    assert first[1].id not in {op.id for op in operations}


async def test_an_error_whose_contexts_form_a_ring_ends_its_operation(operations: Operations) -> None:
    first, second = HostFailure("first"), HostFailure("second")

    async def work(op: Operation) -> None:
        first.__context__, second.__context__ = second, first
        raise first

    operation = operations.start("Ring", work)
    await operation.wait()
    assert operation.error is first
