"""Processes beside instances that outlive the daemon: the next one adopts them, and starts again those that died."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import replace

from isola.devices.driver import Plug
from isola.devices.notes import Notes
from isola.errors import HostFailure, IsolaError
from isola.host import Host
from isola.host.forwarder import Spec
from isola.host.process import ProcessRef

_MODULE = "isola.host.forwarder"
_PATIENCE = 20.0
_GRACE = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_PID, _STARTED = "pid", "started"
log = logging.getLogger(__name__)
_Key = tuple[str, str]


class Companions:
    """One forwarder per device. Its note is written by itself before it listens, so that it is always found."""

    def __init__(self, host: Host, notes: Notes) -> None:
        self._host = host
        self._notes = notes
        self._watches: dict[_Key, asyncio.Task[None]] = {}

    async def start(self, plug: Plug, spec: Spec) -> None:
        """Start it; listening when this returns. Raises HostFailure with what it says."""
        await self.stop(plug)
        await self._notes.write(plug.instance.id, plug.name, {})  # makes the directory
        await self._run(plug, spec)
        self._watch(plug, spec)

    async def stop(self, plug: Plug) -> None:
        """End it, and return when it has ended; fine when there is none."""
        if (watch := self._watches.pop(_key(plug), None)) is not None:
            watch.cancel()
        running = await self._find(plug)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if running is None:
                break
            self._host.processes.signal(running, signum)
            try:
                async with asyncio.timeout(_GRACE):
                    await self._host.processes.gone(running)
                running = None
            except TimeoutError:
                log.warning("The process of device %s of %s does not end", plug.name, plug.instance.name)
        if running is not None:
            raise HostFailure(f"The process of device {plug.name!r} does not end", evidence=f"process {running.pid}")
        await self._notes.forget(plug.instance.id, plug.name)

    async def runs(self, plug: Plug) -> bool:
        return await self._find(plug) is not None

    async def resume(self, plug: Plug, spec: Spec) -> None:
        """Look after one that an earlier daemon has started."""
        if await self._find(plug) is None:
            await self._notes.write(plug.instance.id, plug.name, {})
            await self._run(plug, spec)
        self._watch(plug, spec)

    def leave(self) -> None:
        """No longer look after them; they run on."""
        for watch in self._watches.values():
            watch.cancel()
        self._watches.clear()

    async def _run(self, plug: Plug, spec: Spec) -> None:
        note = self._notes.file(plug.instance.id, plug.name)
        task = replace(spec, note=str(note), boot=self._host.system.boot_id())
        report = self._host.sockets.pipe_from_child()
        try:
            # Its arguments name the device: a look at the list of processes shows what it is for.
            child = await self._host.processes.spawn(
                [sys.executable, "-I", "-m", _MODULE, task.text(), f"{plug.instance.name}/{plug.name}"],
                stdout=report.remote,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
            report.close_remote()
            async with asyncio.timeout(_PATIENCE):
                said = (await report.stream.read()).decode(errors="replace").strip()
        except TimeoutError:
            child.signal(signal.SIGKILL)
            raise HostFailure(f"The process of device {plug.name!r} does not begin to listen") from None
        finally:
            report.close_remote()
            report.stream.close()
        if said != "ready":
            raise HostFailure(
                f"The proxy {plug.name!r} cannot work",
                evidence=said.removeprefix("error: ") or "it died",
                remedy="choose an address that is free" if "in use" in said else "",
            )

    async def _find(self, plug: Plug) -> ProcessRef | None:
        note = await self._notes.read(plug.instance.id, plug.name)
        if _PID not in note:
            return None
        found = ProcessRef(int(note[_PID]), int(note[_STARTED]))
        return found if self._host.processes.alive(found) else None

    def _watch(self, plug: Plug, spec: Spec) -> None:
        if (before := self._watches.get(_key(plug))) is not None:
            before.cancel()
        task = asyncio.get_running_loop().create_task(self._watch_over(plug, spec), name=f"watch device {plug.name}")
        self._watches[_key(plug)] = task

    async def _watch_over(self, plug: Plug, spec: Spec) -> None:
        pause = _FIRST_PAUSE
        while True:
            since = self._host.clock.monotonic()
            if (running := await self._find(plug)) is not None:
                await self._host.processes.gone(running)
            pause = _FIRST_PAUSE if self._host.clock.monotonic() - since > _LONGEST_PAUSE else pause
            await self._host.clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            log.warning("The process of device %s of %s has died and is started again", plug.name, plug.instance.name)
            try:
                await self._run(plug, spec)
            except IsolaError as error:
                log.error("Device %s of instance %s does not work: %s", plug.name, plug.instance.name, error)


def _key(plug: Plug) -> _Key:
    return plug.instance.id, plug.name
