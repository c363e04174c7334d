"""Warnings about resources of the daemon that are nearly exhausted."""

from __future__ import annotations

import asyncio
import logging

from isola.host import Host

_NEAR = 0.8
_SECONDS = 5.0
log = logging.getLogger("isola.daemon")


def descriptors(host: Host) -> str:
    """A warning if the daemon is near its limit of open files; otherwise empty."""
    opened, limit = host.system.open_files()
    if opened < limit * _NEAR:
        return ""
    return (
        f"the daemon has {opened} of {limit} possible files open: new connections and starts will fail; "
        "start it with a higher hard limit (ulimit -Hn, LimitNOFILE= in its unit)"
    )


def warnings(host: Host) -> tuple[str, ...]:
    """All current warnings; fast enough to be called for every request."""
    return tuple(warning for warning in (descriptors(host),) if warning)


async def watch(host: Host, *, seconds: float = _SECONDS) -> None:
    """Log a warning each time the state changes from normal to nearly exhausted."""
    before = ""
    while True:
        warning = descriptors(host)
        if warning and not before:
            log.warning("%s", warning)
        before = warning
        await asyncio.sleep(seconds)
