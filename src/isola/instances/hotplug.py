"""Devices that come and go on the host while their instances run."""

from __future__ import annotations

import asyncio
import logging

from isola.errors import IsolaError
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.endpoint import target_of
from isola.instances.fault_repair import marks, repair_fault
from isola.operations import Operation

log = logging.getLogger(__name__)


class Hotplug:
    """Begins an operation for each device that may have come or gone; at most one for each waits for its turn."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        context.devices.when_changed(self._changed)

    def _changed(self, id: str, name: str) -> None:
        if (id, name) in self._waiting or self._context.leaving:
            return
        self._waiting.add((id, name))
        task = asyncio.get_running_loop().create_task(self._follow(id, name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, id: str, name: str) -> None:
        try:
            if (instance := self._context.by_id(id)) is None:
                return
            operation = self._context.operations.start(
                "Plugging device",
                lambda op: self._settle(op, id, name),
                locks=[lock_of(instance.ref)],
                resources=[entity_of(instance.ref)],
            )
            await self._context.operations.finish(operation)
        except IsolaError as error:
            log.warning("Device %s of instance %s: %s", name, id, error)
        finally:
            self._waiting.discard((id, name))

    async def _settle(self, op: Operation, id: str, name: str) -> None:
        self._waiting.discard((id, name))  # what changes from now on is looked at by the next operation
        if (instance := self._context.by_id(id)) is None or id not in self._context.live:
            return
        await repair_fault(self._context, op, instance.ref)
        instance, live = self._context.records.get(instance.ref), self._context.live.get(id)
        if (target := target_of(self._context, instance, live)) is None or instance.deleting:
            return
        for plug in self._context.devices.plugs(instance):
            if plug.name == name:
                marks(self._context, op, id, (plug,))
                await self._context.devices.driver(plug.state.kind).settle(op, plug, target)
        await op.commit()
