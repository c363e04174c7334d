"""One verb of a guest for each capability of its driver."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

from runtime_bench import PATH

from isola.host.nodes import DeviceNumber
from isola.model.limits import Limits
from isola.runtimes import Capability, ExecSpec, Guest


async def _executes(guest: Guest) -> None:
    execution = await guest.exec(ExecSpec(("true",), PATH))
    try:
        assert await execution.wait() == 0
    finally:
        await execution.close()


async def _has_files(guest: Guest) -> None:
    async with guest.files() as root:
        assert (await root.stat("/")).kind == "directory"


async def _has_a_console(guest: Guest) -> None:
    (await guest.console()).close()


async def _has_a_screen(guest: Guest) -> None:
    (await guest.display()).close()


async def _is_paused(guest: Guest) -> None:
    await guest.pause()
    assert guest.frozen()
    await guest.resume()


async def _has_sockets(guest: Guest) -> None:
    with guest.root():
        pass


VERBS: dict[Capability, Callable[[Guest], Awaitable[object]]] = {
    Capability.EXEC: _executes,
    Capability.FILES: _has_files,
    Capability.CONSOLE: _has_a_console,
    Capability.DISPLAY: _has_a_screen,
    Capability.SIGNAL: lambda guest: guest.signal(signal.SIGCONT),
    Capability.PAUSE: _is_paused,
    Capability.LIVE_LIMITS: lambda guest: guest.limit(Limits(processes=100, memory=200 << 20)),
    Capability.MOUNTS: lambda guest: guest.mounts(),
    Capability.DEVICES: lambda guest: guest.let_open(DeviceNumber(True, 1, 3), allowed=True),
    Capability.SOCKETS: _has_sockets,
}
