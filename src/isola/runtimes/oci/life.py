"""Whether a first process counts as started, by polling every few milliseconds for a short time."""

from __future__ import annotations

from isola.host import Host
from isola.host.process import ProcessRef

_LOOK, _LONGEST = 0.002, 1.0
"""Polling interval, and the time after which a process without activity counts as started, in seconds."""
_IDLE_LOOKS = 25
"""Number of consecutive polls without CPU usage after which it counts as waiting for an event, as servers do."""


async def begun(host: Host, init: ProcessRef, group: str, engine: tuple[str, ...], *, system: bool) -> bool:
    """Whether it has started; False if its first process has ended. ``engine``: its command line before its program."""
    end = host.clock.monotonic() + _LONGEST
    idle = _Idle()
    while True:
        await host.clock.sleep(_LOOK)  # first of all: no program is executed sooner
        seen = host.processes.command_line(init)
        if not seen and not host.processes.alive(init):
            return False
        if seen and seen != engine and (not system or await _settled(host, group, idle)):
            return True
        if host.clock.monotonic() > end:
            return True


async def _settled(host: Host, group: str, idle: _Idle) -> bool:
    """An init system creates child processes, and systemd control groups, only after it has initialised itself."""
    processes, cpu_ns = host.cgroups.activity(group)
    return processes > 1 or bool(await host.cgroups.children(group)) or idle.lasts(cpu_ns)


class _Idle:
    """Detects whether the CPU time grows."""

    def __init__(self) -> None:
        self._last, self._looks = -1, 0

    def lasts(self, now: int) -> bool:
        """Whether no CPU time was used over several consecutive polls; ``now`` is the total so far."""
        self._looks = self._looks + 1 if now == self._last else 0
        self._last = now
        return self._looks >= _IDLE_LOOKS
