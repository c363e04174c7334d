"""The number of reboots or ends of an instance in quick succession, and its pending start."""

from __future__ import annotations

from isola.instances.context import Context, Live
from isola.instances.restart_policy import STEADY

REBOOT = 128 + 1
"""Exit status of a guest that requests a reboot: reboot() inside a PID namespace ends its init by SIGHUP."""
_STEADY = 60.0
"""Seconds after which a run resets the count."""
_LONGEST = 60.0


def reboots_after(context: Context, live: Live, *, policy: bool = False) -> int:
    """The number of reboots in quick succession, including the one that has just ended this run.

    ``policy``: the number of ends after which its restart policy starts it.
    """
    return 1 if context.host.clock.monotonic() - live.since >= (STEADY if policy else _STEADY) else live.reboots + 1


def pause_before(reboots: int) -> float:
    """Seconds to wait before the next start, after this number of reboots."""
    return 0.0 if reboots <= 1 else min(2.0 ** min(reboots - 2, 10), _LONGEST)


def forget(context: Context, id: str) -> int:
    """Cancel a pending start; returns the number of reboots."""
    restart = context.restarts.pop(id, None)
    if restart is None:
        return 0
    if restart.task is not None:
        restart.task.cancel()
    return restart.reboots


def leave(context: Context) -> None:
    """Leave pending starts to the next daemon, which finds them in the records."""
    context.leaving = True
    for restart in context.restarts.values():
        if restart.task is not None:
            restart.task.cancel()
