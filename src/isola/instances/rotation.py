"""Keep the older files of logs: monitors replace a full log by a new file, whether the daemon runs or not."""

from __future__ import annotations

import asyncio
import logging

from isola.errors import IsolaError
from isola.instances.context import Context, Live
from isola.model.instance import Instance
from isola.runtimes import CONSOLE_LOG, Log

log = logging.getLogger(__name__)


def begin(context: Context, instance: Instance, live: Live) -> None:
    """While the instance runs; no effect if only one file is wanted."""
    plan = live.guest.plan
    if plan is None or not plan.log.kept or plan.log.files < 2:
        return
    keeper = _Keeper(context, instance, plan.log)
    try:
        live.rotation = context.host.log_files.watch(keeper.path, keeper.on_replaced, writes=False)
    except IsolaError as error:
        log.warning("Only the last log file of instance %s is kept: %s", instance.name, error)
        return
    keeper.on_replaced()


def end(live: Live) -> None:
    """No effect if it has not begun."""
    if live.rotation is not None:
        live.rotation()
        live.rotation = None


class _Keeper:
    """One task at a time, once more if the log was replaced meanwhile."""

    def __init__(self, context: Context, instance: Instance, wanted: Log) -> None:
        self.path = context.logs(instance) / CONSOLE_LOG
        self._files = context.host.log_files
        self._wanted = wanted
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def on_replaced(self) -> None:
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"keep {self.path}")

    async def _keep(self) -> None:
        while self._again:
            self._again = False
            try:
                await self._files.keep(self.path, self._wanted.files)
            except IsolaError as error:
                log.warning("Older files of %s cannot be kept: %s", self.path, error)
