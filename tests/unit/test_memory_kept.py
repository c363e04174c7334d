"""Completed operations keep no references to connections, buffers or tasks."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from types import TracebackType

import pytest
from channels import Client, connect_all

from isola.doors.rest.connections import Channels, no_connections
from isola.errors import Conflict, HostFailure
from isola.events import Events
from isola.host.cancellation import finish
from isola.host.threads import in_thread
from isola.operations import Operation, Operations
from isola.testing.host import fake_host

COUNT = 30


class Burden:
    """Represents the memory used by a command."""


@pytest.fixture
def operations() -> Operations:
    clock = fake_host().clock
    return Operations(Events(clock.now), now=clock.now, new_id=clock.uuid)


async def _command(op: Operation, channels: Channels, burdens: weakref.WeakSet[Burden], *, fail: bool) -> None:
    burden = Burden()
    burdens.add(burden)
    op.on_rollback("leave", lambda: _undo(burden))
    try:
        for name in ("0", "1"):
            await channels.get(name)
        if fail:
            raise HostFailure("It failed")
        await op.commit()
    finally:
        channels.release()


async def _undo(_: Burden) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("fail", [False, True])
async def test_an_operation_that_has_ended_keeps_nothing_of_its_work(operations: Operations, fail: bool) -> None:
    burdens: weakref.WeakSet[Burden] = weakref.WeakSet()
    clients: weakref.WeakSet[Client] = weakref.WeakSet()
    connections = no_connections()
    kept = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(COUNT):
            channels = Channels(fake_host().clock, ["0", "1"])
            operation = operations.start("Execute", partial(_command, channels=channels, burdens=burdens, fail=fail))
            connections[operation] = channels
            for client in connect_all(channels).values():
                clients.add(client)
            del client
            await operation.wait()
            kept.append(operation)
        await asyncio.sleep(0)
        assert len(clients) == 0
        assert len(burdens) == 0
        assert all(operations.get(operation.id) is operation for operation in kept)
        assert all(connections[operation].secrets for operation in kept)
        with pytest.raises(Conflict):
            connect_all(connections[kept[-1]])
        ids = [operation.id for operation in kept]
        kept.clear()
        del operation
        for id in ids:
            operations._forget(id)
        assert len(connections) == 0, "secrets outlive their operation"
    finally:
        gc.enable()


async def test_dropped_operations_are_freed_at_once(operations: Operations) -> None:
    remembered: weakref.WeakSet[Operation] = weakref.WeakSet()
    for _ in range(300):
        operation = operations.start("Execute", lambda _: asyncio.sleep(0))
        remembered.add(operation)
        await operation.wait()
    del operation
    gc.collect()
    assert len(remembered) == len(list(operations))


def tracebacks() -> int:
    """Number of tracebacks, including those of earlier failed tests."""
    return sum(isinstance(found, TracebackType) for found in gc.get_objects())


async def test_a_failure_in_a_thread_leaves_no_cycle() -> None:
    def fail() -> None:
        raise OSError("no")

    async def fail_here() -> None:
        raise OSError("no")

    gc.collect()
    gc.disable()
    try:
        before = tracebacks()
        for _ in range(COUNT):
            for work in (lambda: in_thread(fail), lambda: finish(fail_here())):
                with pytest.raises(OSError, match="no") as caught:
                    await work()  # type: ignore[no-untyped-call]
                del caught
        assert tracebacks() - before < COUNT
    finally:
        gc.enable()
