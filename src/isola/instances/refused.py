"""System calls and ports that instances were refused: each is told once as an event, and counted in a warning."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from isola.errors import IsolaError, Unsupported
from isola.host.refusals import Refusal
from isola.instances.context import Context
from isola.model.system_calls import NAMES
from isola.model.warning import WarningType
from isola.runtimes import Guest

MOST = 32
"""Different calls and programs that are told apart for an instance."""
PAUSE = 1.0
"""Seconds in which refusals are gathered before they are written."""
PORTS_PAUSE = 2.0
"""Seconds between looks at refused ports."""
log = logging.getLogger(__name__)
_What = tuple[str, str]
"""Name of the call, and the program; or what was tried with a port, and the port."""
_BIND, _CONNECT = "listening on", "connecting to"
_PORTS = (_BIND, _CONNECT)


class Refused:
    """What has been refused since the start of the daemon."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seen: dict[str, Counter[_What]] = {}
        self._fresh: dict[str, Counter[_What]] = {}
        self._owners: dict[int, str] = {}
        self._end: Callable[[], None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._ports: dict[str, tuple[object, Counter[str]]] = {}
        """The guest, and how often it had been refused each port when it was last looked at."""

    async def open(self) -> None:
        """Listen, if this host can tell."""
        self._looking = asyncio.get_running_loop().create_task(self._look(), name="look for refused ports")
        try:
            self._end = await self._context.host.refusals.listen(self._note)
        except Unsupported as error:
            log.info("%s", error)

    def close(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None
        for task in (self._writing, self._looking):
            if task is not None:
                task.cancel()

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

    async def _look(self) -> None:
        """The kernel counts refused ports and reports none of them."""
        while True:
            await asyncio.sleep(PORTS_PAUSE)  # in real time: a clock that skips pauses would never let it rest
            self.look()

    def look(self) -> None:
        for gone in self._ports.keys() - self._context.live.keys():
            del self._ports[gone]
        for id, live in list(self._context.live.items()):
            if (live.limits.listens, live.limits.connects) != (None, None):
                with suppress(IsolaError):  # it has just ended
                    self._look_at(id, live.guest)

    def _look_at(self, id: str, guest: Guest) -> None:
        counted = Counter(guest.refused_ports())
        known, before = self._ports.get(id, (guest, Counter[str]()))
        # Counting begins at zero with each run.
        same = known is guest and all(counted[what] >= count for what, count in before.items())
        fresh = counted - before if same else counted
        self._ports[id] = guest, counted
        if fresh:
            self._tell(id, Counter({_port(what): count for what, count in fresh.items()}))

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
                log.warning("Instance %s was refused %s", instance.ref, _spoken(what))
                if what[0] in _PORTS:
                    self._context.tell("port-refused", instance.ref, call=what[0], port=what[1])
                else:
                    self._context.tell("call-refused", instance.ref, call=what[0], program=what[1])
            if what in seen or len(seen) < MOST:
                seen[what] += count
        text = "; ".join(f"{_spoken(what)}, {_times(count)}" for what, count in seen.most_common())
        self._context.warnings.report(WarningType.CALLS_REFUSED, instance.entity, text)


def _port(text: str) -> _What:
    kind, _, port = text.partition(" ")
    return {"listen": _BIND, "connect": _CONNECT}[kind], port


def _spoken(what: _What) -> str:
    return f"{what[0]} {what[1]}" if what[0] in _PORTS else f"{what[0]} of {what[1]}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
