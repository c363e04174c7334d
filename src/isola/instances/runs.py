"""Verbs of running instances that take effect at once and change no record."""

from __future__ import annotations

from isola.instances import stop as stop_verb
from isola.instances.context import Context
from isola.model.caller import DAEMON, Caller
from isola.model.reference import Ref


class Runs:
    """All raise NotFound, and WrongState if the instance does not run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def signal(self, ref: Ref, signum: int, *, caller: Caller = DAEMON) -> None:
        """To its first process. To kill it, stop it by force: that also ends what its other processes begin.

        Raises Unsupported.
        """
        await stop_verb.send(self._context, self._context.records.get(ref), signum, caller)
