"""The interface of verbs about logs of instances for doors: what they have written, and recorded output of commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from isola.instances import evidence, log_reading
from isola.instances import logs as logs_verb
from isola.instances.context import Context
from isola.model.instance import Instance
from isola.model.log_query import LogQuery
from isola.model.reference import Ref
from isola.runtimes import LogBlock, LogLine


class Logs:
    """Of all instances. Each verb raises NotFound if there is no such instance."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def console(self, ref: Ref) -> bytes:
        """Raw console output."""
        instance = self._context.records.get(ref)
        return await self._context.runtime(instance).console_log(instance.id)

    async def lines(self, ref: Ref) -> Sequence[LogLine]:
        """The same line by line: when and where each came out."""
        instance = self._context.records.get(ref)
        return await self._context.runtime(instance).output(instance.id)

    def output(self, ref: Ref, query: LogQuery) -> AsyncGenerator[LogBlock, None]:
        """Its output as bytes, of any length: raw, or with the time of each line. Raises Unsupported."""
        return log_reading.read(self._context, self._context.records.get(ref), query)

    async def last_start(self, ref: Ref) -> bytes:
        """Why its last start failed, and its console output."""
        instance = self._context.records.get(ref)
        return await evidence.failure(self._context, instance) + await self.console(ref)

    async def clear_console(self, ref: Ref) -> None:
        """Remove it."""
        instance = self._context.records.get(ref)
        await self._context.runtime(instance).clear_console_log(instance.id)

    async def names(self, ref: Ref) -> Sequence[str]:
        """Names of the log files."""
        return await logs_verb.names(self._context, self._context.records.get(ref))

    async def read(self, ref: Ref, file: str) -> bytes:
        """Content of a log file. Raises NotFound."""
        return await logs_verb.read(self._context, self._context.records.get(ref), file)

    async def require_room(self, ref: Ref) -> None:
        """Raises HostFailure if the output of a command could not be recorded now."""
        await logs_verb.require_room_for_output(self._context, self._context.records.get(ref))

    async def record(self, instance: Instance, file: str, data: bytes) -> str:
        """Write the output of a command; returns the log file's name."""
        return await logs_verb.keep_output(self._context, instance, file, data)

    async def delete(self, ref: Ref, file: str) -> None:
        """Remove a recorded output. Raises NotFound."""
        await logs_verb.delete(self._context, self._context.records.get(ref), file)
