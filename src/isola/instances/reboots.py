"""How often an instance has rebooted in quick succession, and whether a start of it is pending."""

from __future__ import annotations

from isola.instances.context import Context, Live

REBOOT = 128 + 1
"""Exit status of a guest that asks to be started again: reboot() inside a PID namespace ends its init by SIGHUP."""
_STEADY = 60.0
"""Seconds after which a run is not part of a quick succession."""
_LONGEST = 60.0


def reboots_after(context: Context, live: Live) -> int:
    """How many reboots in quick succession there are with the one that has just ended this run."""
    return 1 if context.host.clock.monotonic() - live.since >= _STEADY else live.reboots + 1


def pause_before(reboots: int) -> float:
    """Seconds to wait before the start that follows so many reboots in quick succession."""
    return 0.0 if reboots <= 1 else min(2.0 ** min(reboots - 2, 10), _LONGEST)


def forget(context: Context, id: str) -> int:
    """No start is pending any more; returns how many reboots in quick succession there were."""
    restart = context.restarts.pop(id, None)
    if restart is None:
        return 0
    if restart.task is not None:
        restart.task.cancel()
    return restart.reboots


def leave(context: Context) -> None:
    """The daemon ends: the records say what the next one is to go on with."""
    context.leaving = True
    for restart in context.restarts.values():
        if restart.task is not None:
            restart.task.cancel()
