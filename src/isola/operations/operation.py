"""One operation: ``pending -> running -> success | failure``, or ``cancelling -> cancelled``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, TypeVar

from isola.errors import AlreadyExists, Cancelled, IsolaError, WrongState
from isola.host.cancellation import absorb, deliver, finish
from isola.host.exhaustion import spent
from isola.model.caller import DAEMON, Caller
from isola.model.operation import OperationStatus, OperationView, StepView
from isola.model.reference import DEFAULT_PROJECT, Entity
from isola.operations.rollback import Rollback, Undo

T = TypeVar("T")
_PROGRESS_INTERVAL = 0.1
"""Seconds between two events about steps; changes of the status and the metadata are published at once."""
_CODES: dict[type[BaseException], str] = {asyncio.CancelledError: Cancelled.code}


class Observer(Protocol):
    """Called at every point of an operation. The daemon's own does nothing; tests fail, cancel or kill there."""

    async def reached(self, operation: Operation, point: str) -> None:
        """``point`` is ``<effect>: before``, ``<effect>: after``, ``commit: before`` or ``commit: after``."""
        ...


@dataclass(slots=True)
class Step(AbstractContextManager["Step"]):
    """A named stretch of work with progress; nested by use inside another ``with op.step``."""

    operation: Operation
    name: str
    total: int | None = None
    unit: str = ""
    done: int = 0
    depth: int = 0
    finished: bool = False

    def advance(self, amount: int = 1) -> None:
        """Add to what is done."""
        self.done += amount
        self.operation.progressed()

    def reach(self, done: int, total: int | None = None) -> None:
        """Set what is done, and the total where it became known."""
        self.done = done
        if total is not None:
            self.total = total
        self.operation.progressed()

    def __enter__(self) -> Step:
        self.operation.entered(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finished = error is None
        self.operation.left(self)

    def view(self) -> StepView:
        """An immutable picture."""
        return StepView(self.name, self.done, self.total, self.unit, self.finished, self.depth)


class Operation:
    """Passed to the work as ``op``, which declares steps, inverses and the point of no return."""

    def __init__(
        self,
        *,
        id: str,
        description: str,
        kind: str,
        resources: Iterable[Entity],
        now: Callable[[], datetime],
        changed: Callable[[Operation], None],
        observer: Observer | None = None,
        project: str = DEFAULT_PROJECT,
        caller: Caller = DAEMON,
    ) -> None:
        self.id = id
        self.description = description
        self.kind = kind
        self.resources = tuple(resources)
        self.project = project
        self.caller = caller
        """Who asked for it; the daemon itself where no one did."""
        self.status = OperationStatus.PENDING
        self.metadata: dict[str, object] = {}
        self.error: BaseException | None = None
        self.warnings: list[str] = []
        self.created_at = self.updated_at = now()
        self._now = now
        self._changed = changed
        self._observer = observer
        self._rollback = Rollback()
        self._if_undo_fails: list[Callable[[str], None]] = []
        self._steps: list[Step] = []
        self._open: list[Step] = []
        self._committed = False
        self._task: asyncio.Task[None] | None = None
        self._done = asyncio.Event()
        self._published = 0.0
        self._later: asyncio.TimerHandle | None = None
        """Publishes what has changed since the last event."""
        self._turn: asyncio.Future[None] | None = None
        self.urgent = False
        """Whether it passes those that wait."""
        self.gives_way = False
        """Whether an urgent one cancels it at once."""
        self.waited = False
        """Whether it had to wait for its turn: what it was asked for may have been done meanwhile."""

    # --- what the work uses -------------------------------------------------------------------------------------

    def step(self, name: str, total: int | None = None, unit: str = "") -> Step:
        """A named stretch of work: ``with op.step("Unpack image", total=size, unit="bytes") as step``."""
        return Step(self, name, total, unit)

    def on_rollback(self, name: str, undo: Undo) -> None:
        """Push the idempotent inverse of what comes next. After ``commit`` nothing is undone any more."""
        if not self._committed:
            self._rollback.push(name, undo)

    def if_undo_fails(self, report: Callable[[str], None]) -> None:
        """Tell ``report`` what could not be undone, if it comes to that before the next ``commit``."""
        self._if_undo_fails.append(report)

    async def effect(
        self,
        name: str,
        do: Callable[[], Awaitable[T]],
        *,
        undo: Undo | None = None,
        look: Callable[[], Awaitable[bool]] | None = None,
    ) -> T:
        """Look, push, do: make sure that nothing exists yet, push the inverse, act.

        ``look`` returns whether the thing exists already; then AlreadyExists is raised and nothing is undone.
        """
        await self.point(f"{name}: before")
        if look is not None and await look():
            raise AlreadyExists(f"Cannot {name[:1].lower()}{name[1:]}: it already exists")
        if undo is not None:
            self.on_rollback(name, undo)
        result = await do()
        await self.point(f"{name}: after")
        return result

    async def commit(self, record: Callable[[], Awaitable[object]] | None = None) -> None:
        """The point of no return: ``record`` makes the result durable; from here on all is finished, not undone."""
        await self.point("commit: before")
        if record is not None:
            await finish(record())
        self._committed = True
        self._rollback.forget()
        self._if_undo_fails.clear()
        await absorb()
        if self.status is OperationStatus.CANCELLING:
            self._set(OperationStatus.RUNNING)
        await self.point("commit: after")

    def reopen(self) -> None:
        """Begin a second stage after a commit: it has a rollback and a point of no return of its own."""
        self._committed = False

    async def point(self, name: str) -> None:
        """A place where a cancellation is let through, and where the observer may look."""
        if self._observer is not None:
            await self._observer.reached(self, name)
        if not self._committed:
            await deliver()

    async def undo_all(self) -> None:
        """Undo what was pushed; what could not be undone is added to ``warnings``."""
        failed = await self._rollback.run()
        self.warnings += failed
        for report in self._if_undo_fails if failed else ():
            report("; ".join(failed))

    @property
    def committed(self) -> bool:
        """Whether the point of no return has passed."""
        return self._committed

    def update_metadata(self, **values: object) -> None:
        """Add to what the client sees as the operation's metadata."""
        self.metadata.update(values)
        self._touch()

    # --- what the doors use -------------------------------------------------------------------------------------

    @property
    def may_cancel(self) -> bool:
        """Whether ``cancel`` would be accepted now."""
        return not self.status.final and not self._committed and self.status is not OperationStatus.CANCELLING

    def cancel(self) -> None:
        """Ask it to stop and undo. Raises WrongState when it is too late."""
        if self.status is OperationStatus.CANCELLING:
            return
        if not self.may_cancel:
            raise WrongState(f"Operation {self.id} can no longer be cancelled")
        begun = self.status is OperationStatus.RUNNING
        self._set(OperationStatus.CANCELLING)
        # A task that is cancelled before its first step never runs at all, not even to say that it has ended:
        # where the work has not begun, it looks at the status when it does.
        if self._task is not None and begun:
            self._task.cancel()
        self.turn_has_come()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False when the time ran out first."""
        try:
            async with asyncio.timeout(timeout):
                await self._done.wait()
        except TimeoutError:
            return False
        return True

    def view(self) -> OperationView:
        """An immutable picture."""
        error = self.error
        return OperationView(
            id=self.id,
            kind=self.kind,
            description=self.description,
            status=self.status,
            created_at=self.created_at,
            updated_at=self.updated_at,
            resources=self.resources,
            metadata=dict(self.metadata),
            steps=tuple(step.view() for step in self._steps),
            may_cancel=self.may_cancel,
            error=self._text_for_clients(),
            error_code="" if error is None else getattr(error, "code", _CODES.get(type(error), "internal")),
            problem=error if isinstance(error, IsolaError) else None,
            project=self.project,
            caller=self.caller,
        )

    def _text_for_clients(self) -> str:
        """The error as a client may read it; what was not foreseen stands in the log only."""
        if self.error is None:
            return ""
        if isinstance(self.error, asyncio.CancelledError):
            return "Cancelled"
        if isinstance(self.error, IsolaError):
            return str(self.error)
        return f"Internal error: the daemon's log says what happened, at operation {self.id}"

    # --- what Operations and Step use ---------------------------------------------------------------------------

    def run(
        self,
        work: Callable[[Operation], Awaitable[object]],
        finished: Callable[[Operation], None],
        ahead: Operation | None = None,
    ) -> None:
        """Start the work as a task, once its turn has come if another is ``ahead``; ``finished`` is called last."""
        if ahead is not None:
            self.waited = True
            self._turn = asyncio.get_running_loop().create_future()
            self.metadata["waiting_for"] = ahead.id
            self.entered(Step(self, f"Wait for: {ahead.description}"))
        self._task = asyncio.get_running_loop().create_task(self._run(work, finished), name=self.description)

    async def _run(self, work: Callable[[Operation], Awaitable[object]], finished: Callable[[Operation], None]) -> None:
        end = OperationStatus.SUCCESS
        try:
            await self._wait_for_turn()
            if self.status is OperationStatus.CANCELLING:
                raise asyncio.CancelledError
            self._set(OperationStatus.RUNNING)
            await work(self)
        except asyncio.CancelledError as error:
            self.error, end = error, OperationStatus.CANCELLED
        except Exception as error:
            self.error, end = spent(error) or error, OperationStatus.FAILURE
        if self.error is not None:
            await finish(asyncio.ensure_future(self.undo_all()))  # begun at once: no second cancellation prevents it
        finished(self)
        self._release()
        self._set(end)
        self._done.set()

    def turn_has_come(self) -> None:
        """No operation is ahead any more, or it is cancelled while it waits."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def _wait_for_turn(self) -> None:
        if self._turn is not None:
            await self._turn
            self.metadata.pop("waiting_for", None)
            self._open[0].finished = True
            self.left(self._open[0])

    def _release(self) -> None:
        """It is remembered for a while: without what the work held."""
        self._rollback.forget()
        error: BaseException | None = self.error
        seen: set[int] = set()  # tasks that raise the same error may have made a ring of the contexts
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None  # it has been logged; the frames would keep all that stood in them
            error = error.__cause__ or error.__context__

    def entered(self, step: Step) -> None:
        """A step begins."""
        step.depth = len(self._open)
        self._steps.append(step)
        self._open.append(step)
        self.progressed()

    def left(self, step: Step) -> None:
        """A step has ended."""
        if step in self._open:
            self._open.remove(step)
        self.progressed()

    def progressed(self) -> None:
        """Steps have changed. Published at most ten times a second, the last change included."""
        if self._later is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._published + _PROGRESS_INTERVAL - loop.time()
        if wait > 0:
            self._later = loop.call_later(wait, self._touch)
        else:
            self._touch()

    def _set(self, status: OperationStatus) -> None:
        self.status = status
        self._touch()

    def _touch(self) -> None:
        self._published = asyncio.get_running_loop().time()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self.updated_at = self._now()
        self._changed(self)
