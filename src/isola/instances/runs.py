"""Verbs of running instances that take effect at once and change no record."""

from __future__ import annotations

from collections.abc import Sequence

from isola.host import Host
from isola.host.threads import in_thread
from isola.instances import stop as stop_verb
from isola.instances import top as top_verb
from isola.instances.context import Context
from isola.instances.running import require_live
from isola.model.caller import DAEMON, Caller
from isola.model.health import Health
from isola.model.reference import Ref
from isola.model.stats import ProcessTable, Stats
from isola.runtimes import Guest


class Runs:
    """All raise NotFound, and WrongState if the instance does not run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def signal(self, ref: Ref, signum: int, *, caller: Caller = DAEMON) -> None:
        """To its first process. To kill it, stop it by force: that also ends what its other processes begin.

        Raises Unsupported.
        """
        await stop_verb.send(self._context, self._context.records.get(ref), signum, caller)

    async def processes(self, ref: Ref, arguments: Sequence[str] = ()) -> ProcessTable:
        """As the host's ``ps`` shows them, with these options. Raises InvalidInput, Unsupported."""
        return await top_verb.processes(self._context, self._context.records.get(ref), arguments)

    def health(self, ref: Ref) -> Health | None:
        """Of its last run since the start of the daemon; None if it is not checked."""
        return self._context.health.get(self._context.records.get(ref).id)

    async def stats(self, ref: Ref) -> Stats:
        """What it uses now."""
        host, live = self._context.host, require_live(self._context, self._context.records.get(ref))
        return await in_thread(lambda: _stats(host, live.guest))


def _stats(host: Host, guest: Guest) -> Stats:
    memory = host.system.memory_total
    network = tuple(each for each in guest.interfaces() if each.name != "lo")
    cpus = len(host.system.cpus())
    return Stats(host.clock.now(), guest.stats(), network, host.system.cpu_time_ns(), cpus, memory)
