"""Whether a first process that was just let go has begun to live: looked at every few milliseconds, not for long."""

from __future__ import annotations

from isola.host import Host
from isola.host.process import ProcessRef

_LOOK, _LONGEST = 0.002, 1.0
"""Seconds between two looks, and until what has shown nothing counts as alive."""
_IDLE_LOOKS = 25
"""So many looks in a row at which nothing was at work: it waits for something, as servers do."""


async def begun(host: Host, init: ProcessRef, group: str, engine: tuple[str, ...], *, system: bool) -> bool:
    """Whether it lives; False once its first process has ended. ``engine`` is what it was before its program."""
    end = host.clock.monotonic() + _LONGEST
    idle = _Idle()
    while host.processes.alive(init):
        seen = host.processes.command_line(init)
        if seen and seen != engine and (not system or await _settled(host, group, idle)):
            return True
        if host.clock.monotonic() > end:
            return True
        await host.clock.sleep(_LOOK)
    return False


async def _settled(host: Host, group: str, idle: _Idle) -> bool:
    """An init system that works makes children, and systemd groups: it does that only after it has set itself up."""
    usage = host.cgroups.usage(group)
    return usage.processes > 1 or bool(await host.cgroups.children(group)) or idle.lasts(usage.cpu_ns)


class _Idle:
    """Looks whether the time used grows."""

    def __init__(self) -> None:
        self._last, self._looks = -1, 0

    def lasts(self, now: int) -> bool:
        """Whether nothing was used over several looks in a row; ``now`` is what was used so far."""
        self._looks = self._looks + 1 if now == self._last else 0
        self._last = now
        return self._looks >= _IDLE_LOOKS
