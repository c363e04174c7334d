"""All warnings of a daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from isola.errors import InvalidInput, IsolaError
from isola.events import Events
from isola.host.clock import Clock
from isola.model.caller import DAEMON, Caller
from isola.model.reference import Entity, Kind
from isola.model.warning import WarningRecord, WarningStatus, WarningType
from isola.state import Collection

_KEPT = timedelta(days=1)
"""How long resolved warnings are kept."""
_MOST = 1000
"""Maximum number of warnings; the oldest are removed first."""
_FIRST, _LONGEST = 1.0, 60.0
_MESSAGE_LIMIT = 2000
log = logging.getLogger(__name__)
_About = tuple[WarningType, Entity]


class Warnings:
    """Reporting one never fails and never waits: it is written in the background, with retries."""

    def __init__(self, records: Collection[WarningRecord], events: Events, clock: Clock) -> None:
        self._records = records
        self._events = events
        self._clock = clock
        self._pending: dict[_About, str | None] = {}
        """Pending writes, by type and object: the message, or None if it is resolved."""
        self._writer: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[WarningRecord]:
        """The latest first."""
        return iter(sorted(self._records, key=lambda each: (each.last_seen_at, each.id), reverse=True))

    def get(self, id: str) -> WarningRecord:
        """Raises NotFound."""
        return self._records.get(id)

    def report(self, type: WarningType, entity: Entity, message: str) -> None:
        """Report an occurrence; a known warning is counted once more."""
        self._later((type, entity), message[:_MESSAGE_LIMIT])

    def resolve(self, type: WarningType, entity: Entity) -> None:
        """Resolve it; no effect if it is unknown."""
        known = self._find((type, entity))
        if (type, entity) in self._pending or (known is not None and known.status is not WarningStatus.RESOLVED):
            self._later((type, entity), None)

    async def forget(self, entity: Entity) -> None:
        """Remove the warnings of a deleted object."""
        for about in [each for each in self._pending if each[1] == entity]:
            del self._pending[about]
        for known in [each for each in self._records if each.entity == entity]:
            await self._records.remove(known.id)

    async def mark(
        self, id: str, status: str, *, allow: Callable[[WarningRecord], object] = lambda found: None,
        caller: Caller = DAEMON,
    ) -> None:  # fmt: skip
        """Set it to acknowledged or new. Raises NotFound, InvalidInput, and the errors of ``allow``."""
        if status not in (WarningStatus.ACKNOWLEDGED, WarningStatus.NEW):
            raise InvalidInput(
                f"A warning cannot be set to {status[:40]!r}", field="status", remedy="use acknowledged or new"
            )

        def changed(found: WarningRecord) -> WarningRecord:
            allow(found)
            return replace(found, status=WarningStatus(status))

        await self._records.change(id, changed)
        self._tell("acknowledged" if status == WarningStatus.ACKNOWLEDGED else "reset", id, caller)

    async def delete(self, id: str, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound."""
        self._records.get(id)
        await self._records.remove(id)
        self._tell("deleted", id, caller)

    async def settled(self) -> None:
        """Wait until all reports are written."""
        if self._writer is not None:
            await asyncio.wait([self._writer])

    def close(self) -> None:
        """At the end of the daemon; reports that could not be written are in its log."""
        if self._writer is not None:
            self._writer.cancel()

    def _later(self, about: _About, message: str | None) -> None:
        self._pending.pop(about, None)
        self._pending[about] = message
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="write warnings")

    async def _write_all(self) -> None:
        pause = _FIRST
        while self._pending:
            about = next(iter(self._pending))
            message = self._pending.pop(about)
            try:
                await self._write(about, message)
                pause = _FIRST
            except IsolaError as error:
                log.warning("A warning cannot be recorded for now: %s", error)
                self._pending.setdefault(about, message)
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST)
        await self._prune()

    async def _write(self, about: _About, message: str | None) -> None:
        type, entity = about
        known, now = self._find(about), self._clock.now()
        if known is None and message is not None:
            made = WarningRecord(
                self._clock.uuid(),
                type.text,
                type.severity.value,
                message,
                entity.kind,
                entity.project,
                entity.names,
                first_seen_at=now,
                last_seen_at=now,
            )
            await self._records.add(made.id, made)
        elif known is not None and message is not None:
            await self._records.change(
                known.id, lambda found: _again(replace(found, message=message, last_seen_at=now))
            )
        elif known is not None:
            await self._records.change(known.id, lambda found: replace(found, status=WarningStatus.RESOLVED))

    async def _prune(self) -> None:
        """Remove old resolved warnings, and the oldest ones beyond the maximum."""
        before = self._clock.now() - _KEPT
        every = list(self)
        gone = [each for each in every if each.status is WarningStatus.RESOLVED and each.last_seen_at < before]
        gone += [each for each in every[_MOST:] if each not in gone]
        for each in gone:
            try:
                await self._records.remove(each.id)
            except IsolaError as error:
                log.warning("Warning %s cannot be removed yet: %s", each.id, error)

    def _find(self, about: _About) -> WarningRecord | None:
        type, entity = about
        return next((each for each in self._records if each.type == type.text and each.entity == entity), None)

    def _tell(self, verb: str, id: str, caller: Caller) -> None:
        self._events.lifecycle(f"warning-{verb}", Entity.of_host(Kind.WARNING, id), caller=caller)


def _again(found: WarningRecord) -> WarningRecord:
    status = WarningStatus.NEW if found.status is WarningStatus.RESOLVED else found.status
    return replace(found, count=found.count + 1, status=status)
