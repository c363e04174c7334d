"""Probes of drivers: one that fails or hangs makes its driver unavailable, but the daemon starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from isola.errors import IsolaError
from isola.model.probe import Probe

TIMEOUT = 60.0
log = logging.getLogger(__name__)


async def probed(name: str, probe: Awaitable[Probe], *, timeout: float = TIMEOUT, try_anyway: bool = False) -> Probe:
    """The result of the probe; if it raises or does not end in time, a negative result with the reason.

    ``try_anyway``: the driver says by itself what fails, so it is tried if its probe has not ended.
    """
    try:
        async with asyncio.timeout(timeout):
            return await probe
    except TimeoutError:
        reason = f"its probe did not end within {timeout:g} s"
        if try_anyway:
            return Probe(True, warnings=(reason,))
        return Probe(False, reason=reason, remedy="see the daemon's log")
    except IsolaError as error:
        return Probe(False, reason=str(error), remedy=error.remedy)
    except Exception as error:
        log.exception("The probe of %s failed", name)
        return Probe(False, reason=f"its probe failed: {error!r}", remedy="see the daemon's log, and report it")
