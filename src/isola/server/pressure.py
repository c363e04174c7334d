"""What the daemon itself is about to run out of."""

from __future__ import annotations

import asyncio
import logging

from isola.host import Host

_NEAR = 0.8
_SECONDS = 5.0
log = logging.getLogger("isola.daemon")


def descriptors(host: Host) -> str:
    """A warning when the daemon has nearly as many files open as it may have; otherwise empty."""
    opened, limit = host.system.open_files()
    if opened < limit * _NEAR:
        return ""
    return (
        f"the daemon has {opened} of {limit} files open that it may have: new connections and starts will fail; "
        "start it with a higher hard limit (ulimit -Hn, LimitNOFILE= in its unit)"
    )


def warnings(host: Host) -> tuple[str, ...]:
    """All there is to say; quick enough for every request."""
    return tuple(warning for warning in (descriptors(host),) if warning)


async def watch(host: Host, *, seconds: float = _SECONDS) -> None:
    """Log it when it becomes so, once each time."""
    before = ""
    while True:
        warning = descriptors(host)
        if warning and not before:
            log.warning("%s", warning)
        before = warning
        await asyncio.sleep(seconds)
