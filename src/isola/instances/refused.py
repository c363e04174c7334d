"""System calls that instances were refused: each is told once as an event, and counted in a warning."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from isola.errors import Unsupported
from isola.host.refusals import Refusal
from isola.instances.context import Context
from isola.model.system_calls import NAMES
from isola.model.warning import WarningType

MOST = 32
"""Different calls and programs that are told apart for an instance."""
PAUSE = 1.0
"""Seconds in which refusals are gathered before they are written."""
log = logging.getLogger(__name__)
_What = tuple[str, str]
"""Name of the call, and the program."""


class Refused:
    """What has been refused since the start of the daemon."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seen: dict[str, Counter[_What]] = {}
        self._fresh: dict[str, Counter[_What]] = {}
        self._owners: dict[int, str] = {}
        self._end: Callable[[], None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen, if this host can tell."""
        try:
            self._end = await self._context.host.refusals.listen(self._note)
        except Unsupported as error:
            log.info("%s", error)

    def close(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None
        if self._writing is not None:
            self._writing.cancel()

    def _note(self, refusal: Refusal) -> None:
        id = self._owner(refusal.uid)
        if not id:
            return
        name = NAMES.get(refusal.call, str(refusal.call)) if refusal.native else f"{refusal.call} of another machine"
        fresh = self._fresh.setdefault(id, Counter())
        what = (name, refusal.program or refusal.command)
        if what in fresh or len(fresh) < MOST:
            fresh[what] += 1
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="note refused calls")

    def _owner(self, uid: int) -> str:
        """The id of the running instance with this id of the host; empty if there is none."""
        if uid not in self._owners:
            found = (
                each.id for each in self._context.records if each.id in self._context.live and each.idmap.holds(uid)
            )
            self._owners[uid] = next(found, "")
        return self._owners[uid]

    async def _write(self) -> None:
        while self._fresh:
            await self._context.host.clock.sleep(PAUSE)
            fresh, self._fresh = self._fresh, {}
            self._owners.clear()
            for id, found in fresh.items():
                self._tell(id, found)

    def _tell(self, id: str, found: Counter[_What]) -> None:
        instance = self._context.by_id(id)
        if instance is None:
            self._seen.pop(id, None)
            return
        seen = self._seen.setdefault(id, Counter())
        for what, count in found.items():
            if what not in seen and len(seen) < MOST:
                call, program = what
                log.warning("Instance %s was refused the system call %s of %s", instance.ref, call, program)
                self._context.tell("call-refused", instance.ref, call=call, program=program)
            if what in seen or len(seen) < MOST:
                seen[what] += count
        text = "; ".join(f"{call} of {program}, {_times(count)}" for (call, program), count in seen.most_common())
        self._context.warnings.report(WarningType.CALLS_REFUSED, instance.entity, text)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
