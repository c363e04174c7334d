"""Helper processes of devices, which keep running when the daemon ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from isola.devices.driver import Plug
from isola.devices.notes import Notes
from isola.errors import HostFailure
from isola.host import Host
from isola.host.companion import Companion, start_reporting
from isola.host.forwarder import Spec

_MODULE = "isola.host.forwarder"
_Key = tuple[str, str]
OpenRoot = Callable[[], AbstractContextManager[int]]


class Forwarders:
    """Forwarder processes of proxies. Each writes its own PID file before it listens, so that it is always found."""

    def __init__(self, host: Host, notes: Notes) -> None:
        self._host = host
        self._notes = notes
        self._companions: dict[_Key, Companion] = {}

    async def start(self, plug: Plug, spec: Spec, root: OpenRoot | None) -> None:
        """Start and supervise the process; it listens on return. Raises HostFailure with its stderr.

        ``root`` opens the directory in which its paths inside are resolved.
        """
        await self._notes.make_home(plug.instance.id)
        await self._companion(plug, spec, root).ensure()

    async def stop(self, plug: Plug) -> None:
        """Kill it and wait for its end; no effect if it does not run."""
        companion = self._companions.pop(_key(plug), None) or self._companion(plug, None, None)
        self._companions.pop(_key(plug), None)
        await companion.stop()
        if await companion.find() is not None:
            raise HostFailure(f"The process of device {plug.name!r} cannot be stopped")
        await self._host.files.remove_tree(self._pid_file(plug))

    async def runs(self, plug: Plug) -> bool:
        return await self._companion(plug, None, None).find() is not None

    def leave(self) -> None:
        """Stop supervising; the processes keep running."""
        for companion in self._companions.values():
            companion.leave()
        self._companions.clear()

    def _companion(self, plug: Plug, spec: Spec | None, root: OpenRoot | None) -> Companion:
        async def start() -> None:
            assert spec is not None
            if root is None:
                await self._run(plug, spec, None)
                return
            with root() as descriptor:
                await self._run(plug, spec, descriptor)

        made = Companion(
            self._host,
            f"The process of device {plug.name} of instance {plug.instance.name}",
            pid_file=self._pid_file(plug),
            mark=_mark(plug),
            start=start,
        )
        if spec is not None:
            if (before := self._companions.get(_key(plug))) is not None:
                before.leave()
            self._companions[_key(plug)] = made
        return made

    async def _run(self, plug: Plug, spec: Spec, root: int | None) -> None:
        if root is not None:
            spec = replace(spec, root=root)
        text = replace(spec, pid_file=str(self._pid_file(plug))).text()
        report = await start_reporting(
            self._host,
            [sys.executable, "-I", "-m", _MODULE, text, _mark(plug)],
            late=f"The process of device {plug.name!r} did not start listening in time",
            pass_fds=() if root is None else (root,),
        )
        if report != "ready":
            raise HostFailure(
                f"The proxy {plug.name!r} cannot work",
                evidence=report.removeprefix("error: ") or "it died",
                remedy="choose an address that is free" if "in use" in report else "",
            )

    def _pid_file(self, plug: Plug) -> Path:
        return self._notes.home(plug.instance.id) / f"{plug.name}.pid"


def _key(plug: Plug) -> _Key:
    return plug.instance.id, plug.name


def _mark(plug: Plug) -> str:
    """Its last argument, which identifies the device."""
    return f"{plug.instance.id}/{plug.name}"
