"""All operations of a daemon: started, found, listed, one mutating operation at a time per resource."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime

from isola.errors import Cancelled, IsolaError, NotFound
from isola.events import Events
from isola.model.caller import DAEMON, Caller
from isola.model.event import EventKind
from isola.model.reference import DEFAULT_PROJECT, Entity
from isola.operations.operation import Observer, Operation
from isola.operations.turns import Turns

_KEEP_SECONDS = 30
"""How long an operation that has ended is kept for clients that ask late, however many there are."""
_KEEP_BYTES = 32 * 2**20
"""What those may take together; beyond it the ones go first whose end a client has asked for."""
_BYTES_EACH = 4096
"""What one takes besides its metadata, roughly."""
log = logging.getLogger(__name__)


class Operations:
    """Starts operations and remembers them while they run and a short time after."""

    def __init__(
        self,
        events: Events,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        observer: Observer | None = None,
    ) -> None:
        self._events = events
        self._now = now
        self._new_id = new_id
        self._observer = observer
        self._all: dict[str, Operation] = {}
        self._ended: dict[str, int] = {}
        """Bytes of what has ended and no client has asked for yet, oldest first."""
        self._read: dict[str, int] = {}
        """Bytes of what has ended and was asked for, oldest question first."""
        self._kept = 0
        self._turns = Turns()

    def start(
        self,
        description: str,
        work: Callable[[Operation], Awaitable[object]],
        *,
        locks: Sequence[str] = (),
        resources: Sequence[Entity] = (),
        kind: str = "task",
        metadata: Mapping[str, object] | None = None,
        project: str | None = None,
        caller: Caller = DAEMON,
        wait: bool = True,
        urgent: bool = False,
        gives_way: bool = False,
    ) -> Operation:
        """Run ``work`` in the background. Each of ``locks`` (``Entity.lock``) admits one operation at a time.

        It belongs to ``project``, or else to that of the first of its ``resources``.

        The others wait for their turn, in the order in which they came; an ``urgent`` one is the next, and the one
        that works is cancelled for it: at once if it ``gives_way``, else after a while. Raises Busy naming the one
        that works, if ``wait`` is false or too many wait.
        """
        self._turns.check(locks, wait=wait or urgent)
        operation = Operation(
            id=self._new_id(),
            description=description,
            kind=kind,
            resources=resources,
            now=self._now,
            changed=self._publish,
            observer=self._observer,
            project=_project_of(resources) if project is None else project,
            caller=caller,
        )
        operation.metadata.update(metadata or {})
        operation.urgent, operation.gives_way = urgent, gives_way
        ahead = self._turns.join(operation, locks, urgent=urgent)
        self._all[operation.id] = operation
        operation.run(work, self._finished, ahead)
        return operation

    async def finish(self, operation: Operation) -> Operation:
        """Wait for the end and raise its error, for callers inside the daemon."""
        await operation.wait()
        if isinstance(operation.error, IsolaError):
            raise operation.error
        if isinstance(operation.error, asyncio.CancelledError):
            raise Cancelled(f"{operation.description} was cancelled; what it had done is undone")
        if operation.error is not None:
            raise IsolaError(
                f"{operation.description} failed", remedy=f"the daemon's log says why, at operation {operation.id}"
            )
        return operation

    def holder(self, lock: str) -> Operation | None:
        """The operation that holds a lock, if any."""
        return self._turns.holder(lock)

    def locked(self) -> list[str]:
        """The locks that are held now."""
        return self._turns.locks()

    def get(self, id: str) -> Operation:
        """Raises NotFound."""
        operation = self._all.get(id)
        if operation is None:
            raise NotFound(f"Operation {id!r} not found", remedy="it may have ended a while ago")
        return operation

    def find(self, id: str) -> Operation | None:
        return self._all.get(id)

    def mark_read(self, operation: Operation) -> None:
        """A client has read the operation; if it has ended, it is one of the first to be dropped."""
        size = self._ended.pop(operation.id, None) or self._read.pop(operation.id, None)
        if size is not None:
            self._read[operation.id] = size

    def __iter__(self) -> Iterator[Operation]:
        return iter(list(self._all.values()))

    async def close(self, grace: float = 10) -> None:
        """Cancel what can be cancelled and wait for all to end."""
        running = [operation for operation in self if not operation.status.final]
        for operation in running:
            if operation.may_cancel:
                operation.cancel()
        await asyncio.gather(*(operation.wait(grace) for operation in running))

    def _finished(self, operation: Operation) -> None:
        for nearer in self._turns.leave(operation):
            nearer.turn_has_come()
        if operation.error is not None and not isinstance(operation.error, IsolaError | asyncio.CancelledError):
            log.error(
                "%s failed unexpectedly, operation %s", operation.description, operation.id, exc_info=operation.error
            )
        for warning in operation.warnings:
            log.warning("%s: %s", operation.description, warning)
        asyncio.get_running_loop().call_later(_KEEP_SECONDS, self._forget, operation.id)
        size = _BYTES_EACH + len(str(operation.metadata))
        self._ended[operation.id] = size
        self._kept += size
        while self._kept > _KEEP_BYTES and len(self._read) + len(self._ended) > 1:
            self._forget(next(iter(self._read or self._ended)))

    def _forget(self, id: str) -> None:
        self._all.pop(id, None)
        self._kept -= self._ended.pop(id, 0) + self._read.pop(id, 0)

    def _publish(self, operation: Operation) -> None:
        if self._events.followed(EventKind.OPERATION):
            self._events.operation(operation.view())


def _project_of(resources: Sequence[Entity]) -> str:
    return resources[0].project if resources else DEFAULT_PROJECT
