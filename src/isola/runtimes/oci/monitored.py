"""Runtimes whose guests are children of a monitor (conmon): their output, their groups and files, their removal."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, NotFound
from isola.host import Host
from isola.host.sockets import Packets
from isola.model.identity import HostNames
from isola.runtimes.driver import RUNS, Runtime
from isola.runtimes.oci.console import lines, raw
from isola.runtimes.oci.layout import MONITOR_SUFFIX, Layout
from isola.runtimes.output import LogLine
from isola.runtimes.spec import RunSpec

_SHOWN = 2 << 20
"""Bytes that are read of the end of a log, where all of it is wanted."""
_MOST_PARKED = 256
_REMOVALS = 5
"""Attempts to kill and remove a control group that processes keep entering."""


class MonitoredRuntime(Runtime):
    """What does not depend on the kind of guest."""

    name: ClassVar[str]
    """Name of the driver, written into the run directory of each instance."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self.known: set[str] = set()
        """Instances that this object has started or adopted."""
        self._parked: dict[str, list[Packets]] = {}
        """Connections of clients that have left, by instance: closing one would end its input."""

    async def remove(self, id: str) -> None:
        """Kill all processes and remove all traces; the id is sufficient, in any state."""
        await self._remove_groups(id)
        await self.host.files.remove_tree(self.layout(id).run)
        self.known.discard(id)
        for packets in self._parked.pop(id, []):
            packets.close()

    async def owned(self) -> tuple[str, ...]:
        """Instances with this engine's name in their run directory, and those without any name."""
        ids = set()
        for id in await self.host.files.names(self.directory / RUNS):
            if await self._engine_of(id) in (self.name, ""):
                ids.add(id)
        for group in await self.host.cgroups.children(self.names.cgroup()):
            id = group.removesuffix(MONITOR_SUFFIX)
            if await self._engine_of(id) in (self.name, ""):
                ids.add(id)
        return tuple(sorted(ids))

    async def console_log(self, id: str) -> bytes:
        """Read from the log of its monitor, of which the last 2 MiB are seen."""
        return raw(await self._log(id))

    async def output(self, id: str) -> tuple[LogLine, ...]:
        """The same."""
        return lines(await self._log(id))

    async def _log(self, id: str) -> bytes:
        """The end of it."""
        found, log = await self.host.log_files.open(self.layout(id).console_log), b""
        try:
            for file in reversed(found):
                size = await file.size()
                log = await file.read(max(0, size - (_SHOWN - len(log))), size) + log
                if len(log) >= _SHOWN:
                    break
        finally:
            for file in found:
                file.close()
        return log

    async def clear_console_log(self, id: str) -> None:
        """Let a running monitor reopen its log as a new file."""
        layout = self.layout(id)
        await self.host.log_files.remove(layout.console_log)
        if await self.find(id) is not None:
            self.host.sockets.post(layout.control, b"2 0 0\n")

    def layout(self, id: str) -> Layout:
        """Where its files are."""
        return Layout.of(self.directory, id)

    def park(self, id: str, packets: Packets) -> None:
        """Keep a client's connection until the run ends; of many, the oldest are closed."""
        packets.pause()
        parked = self._parked.setdefault(id, [])
        parked.append(packets)
        while len(parked) > _MOST_PARKED:
            parked.pop(0).close()

    def group(self, id: str) -> str:
        """Its control group."""
        return self.names.cgroup(id)

    # --- how ----------------------------------------------------------------------------------------------------

    async def _remove_groups(self, id: str) -> None:
        """A process may enter a group after all others were killed, so killing and removing are repeated."""
        # The monitor first: while it lives, it or the engine might still create processes.
        groups = (self.group(id) + MONITOR_SUFFIX, self.group(id))
        if await self.host.cgroups.remove_empty(*groups):
            return
        for attempt in range(_REMOVALS):
            for group in groups:
                await self.host.cgroups.kill(group)
            try:
                for group in groups:
                    await self.host.cgroups.remove(group)
                return
            except HostFailure:
                if attempt == _REMOVALS - 1 or not any(map(self.host.cgroups.processes, groups)):
                    raise

    async def begin_log(self, spec: RunSpec, writing: Awaitable[None]) -> None:
        """After its directory was made. The monitor counts only what it writes itself."""
        await writing
        path, logs = self.layout(spec.id).console_log, self.host.log_files
        if spec.log.fresh:
            await logs.remove(path)
        else:
            await logs.rotate(path, spec.log.files, most=spec.log.size)

    async def _engine_of(self, id: str) -> str:
        try:
            return (await self.host.files.read(self.layout(id).engine)).decode()
        except NotFound:
            return ""

    async def has_traces(self, id: str) -> bool:
        return await self.host.files.exists(self.layout(id).run) or await self.host.cgroups.exists(self.group(id))
