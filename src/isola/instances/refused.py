"""System calls and ports that instances were refused: each is published once as an event, and counted in a warning."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from isola.errors import HostFailure, IsolaError, Unsupported
from isola.host.refusals import Refusal
from isola.instances.context import Context, Live
from isola.model.system_calls import NAMES
from isola.model.warning import WarningType
from isola.runtimes import Guest

MOST = 32
"""Different calls and programs that are distinguished for an instance."""
PAUSE = 1.0
"""Seconds in which refusals are gathered before they are written."""
LOOKS_PAUSE = 2.0
"""Seconds between looks at what is only counted."""
log = logging.getLogger(__name__)
_What = tuple[str, str]
"""Name of the call, and the program; or what was tried with a port, and the port."""
_BIND, _CONNECT = "listening on", "connecting to"
_PORTS = (_BIND, _CONNECT)
_PROGRAM = {"?": "a program"}


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
        self._counted: dict[str, tuple[Guest, Counter[_What]]] = {}
        """The guest, and how often it had been refused what when it was last looked at."""
        self._silent: dict[str, Guest] = {}
        """Those whose further calls are not reported, as the log says."""

    async def open(self) -> None:
        """Listen, if this host can tell."""
        self._looking = asyncio.get_running_loop().create_task(self._look(), name="look for what was refused")
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
        name = _named(refusal.call) if refusal.native else f"{refusal.call} of another machine"
        fresh = self._fresh.setdefault(id, Counter())
        what = (name, refusal.program or refusal.command)
        if what in fresh or len(fresh) < MOST:
            fresh[what] += 1
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="note refused calls")

    async def _look(self) -> None:
        """Ports by the kernel, calls by kernels of their own: they are counted and not reported."""
        while True:
            await asyncio.sleep(LOOKS_PAUSE)  # in real time: a clock that skips pauses would never let it rest
            await self.look()

    async def look(self) -> None:
        for gone in (self._counted.keys() | self._silent.keys()) - self._context.live.keys():
            self._counted.pop(gone, None)
            self._silent.pop(gone, None)
        for id, live in list(self._context.live.items()):
            await self.look_at(id, live)

    async def look_at(self, id: str, live: Live) -> None:
        """Also at the end of its run: what has ended soon after a refusal is never looked at again."""
        limited = (live.limits.listens, live.limits.connects) != (None, None)
        with suppress(IsolaError):  # it has just ended
            self._compare(id, live.guest, _of_ports(live.guest.refused_ports()) if limited else Counter())
        with suppress(IsolaError):
            try:
                self._compare(id, live.guest, _of_calls(await live.guest.refused_calls()))
            except HostFailure as error:
                self._unheard(id, live.guest, error)

    def _compare(self, id: str, guest: Guest, counted: Counter[_What]) -> None:
        if not counted:
            return
        known, before = self._counted.get(id, (guest, Counter[_What]()))
        # Counting begins at zero with each run, or when limits are set.
        same = known is guest and all(counted[what] >= before[what] for what in counted)
        fresh = counted - before if same else counted
        self._counted[id] = guest, Counter({**(before if known is guest else {}), **counted})
        if fresh:
            self._tell(id, fresh)

    def _unheard(self, id: str, guest: Guest, error: HostFailure) -> None:
        instance = self._context.by_id(id)
        if instance is not None and self._silent.get(id) is not guest:
            self._silent[id] = guest
            log.warning("Instance %s: %s", instance.ref, error)
            self._context.warnings.report(WarningType.CALLS_REFUSED, instance.entity, f"{error}: {error.remedy}")

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


def _named(call: int) -> str:
    return NAMES.get(call, str(call))


def _of_calls(counted: Mapping[tuple[int, str], int]) -> Counter[_What]:
    return Counter({(_named(call), _PROGRAM.get(by, by)): count for (call, by), count in counted.items()})


def _of_ports(counted: Mapping[str, int]) -> Counter[_What]:
    return Counter({_port(what): count for what, count in counted.items()})


def _port(text: str) -> _What:
    kind, _, port = text.partition(" ")
    return {"listen": _BIND, "connect": _CONNECT}[kind], port


def _spoken(what: _What) -> str:
    return f"{what[0]} {what[1]}" if what[0] in _PORTS else f"{what[0]} of {what[1]}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
