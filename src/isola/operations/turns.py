"""Who works on a thing, and who waits for it: first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from isola.errors import Busy
from isola.operations.operation import Operation

_LINE = 32
"""Operations that may wait for one thing."""
_GRACE = 10.0
"""Seconds that an urgent operation leaves to one that works on the thing, before it cancels it."""


class Turns:
    """Every lock has a line of operations; the first in all the lines it stands in may work.

    An operation joins all its lines at once, so that two never wait for each other. An urgent one passes those that
    wait, and cancels the one that works: at once where that gives way, after a while where it does not.
    """

    def __init__(self) -> None:
        self.grace = _GRACE
        self._lines: dict[str, list[Operation]] = {}
        self._locks: dict[str, tuple[str, ...]] = {}
        """Locks by operation id."""

    def holder(self, lock: str) -> Operation | None:
        """Who works on it, or is the next to."""
        line = self._lines.get(lock)
        return line[0] if line else None

    def locks(self) -> list[str]:
        """All that is worked on."""
        return list(self._lines)

    def check(self, locks: Sequence[str], *, wait: bool) -> None:
        """Raise Busy where one would have to wait and may not, or where too many wait already."""
        for lock in locks:
            line = self._lines.get(lock, [])
            if line and (not wait or len(line) > _LINE):
                raise Busy(
                    f"Busy: {line[0].description} is running",
                    evidence=f"operation {line[0].id}" + (f", and {len(line) - 1} wait for it" if wait else ""),
                    remedy="wait for it or cancel it",
                )

    def join(self, operation: Operation, locks: Sequence[str], *, urgent: bool = False) -> Operation | None:
        """Stand in line; returns the one to wait for, or None where the turn has come."""
        self._locks[operation.id] = tuple(dict.fromkeys(locks))
        for lock in self._locks[operation.id]:
            line = self._lines.setdefault(lock, [])
            if urgent and line:
                line.insert(1 + sum(1 for other in line[1:] if other.urgent), operation)
                self._hurry(lock, line[0])
            else:
                line.append(operation)
        return self._ahead_of(operation)

    def leave(self, operation: Operation) -> list[Operation]:
        """It has ended, working or waiting; returns those whose turn has come by that."""
        nearer: dict[str, Operation] = {}
        for lock in self._locks.pop(operation.id, ()):
            line = self._lines[lock]
            line.remove(operation)
            if line:
                nearer[line[0].id] = line[0]
                if any(other.urgent for other in line[1:]):
                    self._hurry(lock, line[0])
            else:
                del self._lines[lock]
        return [other for other in nearer.values() if self._ahead_of(other) is None]

    def _ahead_of(self, operation: Operation) -> Operation | None:
        lines = (self._lines[lock] for lock in self._locks[operation.id])
        return next((line[0] for line in lines if line[0] is not operation), None)

    def _hurry(self, lock: str, holder: Operation) -> None:
        if holder.urgent:
            return
        if holder.gives_way:
            _cancel(holder)
        else:
            asyncio.get_running_loop().call_later(self.grace, self._cancel_slow, lock, holder)

    def _cancel_slow(self, lock: str, holder: Operation) -> None:
        if self.holder(lock) is holder and any(other.urgent for other in self._lines[lock][1:]):
            _cancel(holder)


def _cancel(operation: Operation) -> None:
    if operation.may_cancel:
        operation.cancel()
