"""Who works on a thing, and who waits for it: first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from isola.errors import Busy
from isola.operations.operation import Operation

_LONGEST = 32
"""Operations that may wait for one thing."""
_GRACE = 10.0
"""Seconds that an urgent operation leaves to one that works on the thing, before it cancels it."""


class Turns:
    """Every lock has a queue of operations; one that is first in all of its queues may run.

    An operation joins all its queues at once, so that two never wait for each other. An urgent one passes those that
    wait, and cancels the one that runs: at once if that gives way, else after ``grace`` seconds.
    """

    def __init__(self) -> None:
        self.grace = _GRACE
        self._queues: dict[str, list[Operation]] = {}
        self._locks: dict[str, tuple[str, ...]] = {}
        """Locks by operation id."""

    def holder(self, lock: str) -> Operation | None:
        """The operation that holds the lock, or gets it next."""
        queue = self._queues.get(lock)
        return queue[0] if queue else None

    def locks(self) -> list[str]:
        """The locks that are held."""
        return list(self._queues)

    def check(self, locks: Sequence[str], *, wait: bool) -> None:
        """Raise Busy if it would have to wait and must not, or if too many wait already."""
        for lock in locks:
            queue = self._queues.get(lock, [])
            if queue and (not wait or len(queue) > _LONGEST):
                raise Busy(
                    f"Busy: {queue[0].description} is running",
                    evidence=f"operation {queue[0].id}" + (f", and {len(queue) - 1} wait for it" if wait else ""),
                    remedy="wait for it or cancel it",
                )

    def join(self, operation: Operation, locks: Sequence[str], *, urgent: bool = False) -> Operation | None:
        """Join the queues; returns the operation to wait for, or None if it may run at once."""
        self._locks[operation.id] = tuple(dict.fromkeys(locks))
        for lock in self._locks[operation.id]:
            queue = self._queues.setdefault(lock, [])
            if urgent and queue:
                queue.insert(1 + sum(1 for other in queue[1:] if other.urgent), operation)
                self._preempt(lock, queue[0])
            else:
                queue.append(operation)
        return self._ahead_of(operation)

    def leave(self, operation: Operation) -> list[Operation]:
        """It has ended, running or waiting; returns the operations that may run now."""
        first: dict[str, Operation] = {}
        for lock in self._locks.pop(operation.id, ()):
            queue = self._queues[lock]
            queue.remove(operation)
            if queue:
                first[queue[0].id] = queue[0]
                if any(other.urgent for other in queue[1:]):
                    self._preempt(lock, queue[0])
            else:
                del self._queues[lock]
        return [other for other in first.values() if self._ahead_of(other) is None]

    def _ahead_of(self, operation: Operation) -> Operation | None:
        queues = (self._queues[lock] for lock in self._locks[operation.id])
        return next((queue[0] for queue in queues if queue[0] is not operation), None)

    def _preempt(self, lock: str, holder: Operation) -> None:
        if holder.urgent:
            return
        if holder.gives_way:
            _cancel(holder)
        else:
            asyncio.get_running_loop().call_later(self.grace, self._cancel_slow, lock, holder)

    def _cancel_slow(self, lock: str, holder: Operation) -> None:
        if self.holder(lock) is holder and any(other.urgent for other in self._queues[lock][1:]):
            _cancel(holder)


def _cancel(operation: Operation) -> None:
    if operation.may_cancel:
        operation.cancel()
