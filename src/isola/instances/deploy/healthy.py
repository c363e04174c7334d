"""Wait until a new version is healthy: by its health check, or because it keeps running."""

from __future__ import annotations

import asyncio

from isola.errors import IsolaError, ProgramFailed, TimedOut
from isola.instances import health
from isola.instances.configuration import expanded
from isola.instances.context import Context, Live
from isola.instances.evidence import console_tail
from isola.instances.health_settings import health_check
from isola.instances.phases import RunState
from isola.model.deployment import Terms
from isola.model.health import HealthResult, HealthStatus
from isola.model.image import HealthCheck
from isola.model.instance import Instance

_PAUSE = 0.5
"""Seconds between checks while the answer is awaited: more often than later."""
_LONGEST_OUTPUT = 1000


async def wait_healthy(context: Context, instance: Instance, terms: Terms) -> None:
    """Raises ProgramFailed, TimedOut, with its output as evidence."""
    live = context.live.get(instance.id)
    if live is None:
        raise await _ended(context, instance, None)
    config, _ = expanded(context, instance)
    check = health_check(instance.start.health_check, config)
    waiting = asyncio.ensure_future(
        _keeps_running(context, terms) if check is None else _healthy(context, instance, live, check)
    )
    ending = asyncio.ensure_future(live.ended.wait())
    timer = asyncio.ensure_future(context.host.clock.sleep(terms.timeout))
    try:
        await asyncio.wait([waiting, ending, timer], return_when=asyncio.FIRST_COMPLETED)
        if live.ended.is_set() or live.state is RunState.ENDED:
            raise await _ended(context, instance, live)
        if not waiting.done():
            raise await _not_in_time(context, instance, terms)
        waiting.result()
    finally:
        for task in (waiting, ending, timer):
            task.cancel()


async def _keeps_running(context: Context, terms: Terms) -> None:
    await context.host.clock.sleep(terms.settle)


async def _healthy(context: Context, instance: Instance, live: Live, check: HealthCheck) -> None:
    """Its own checks go on meanwhile, and only they find that it is unhealthy."""
    while True:
        now = await health.try_now(context, instance, live, check)
        if now.status is HealthStatus.HEALTHY:
            return
        if now.status is HealthStatus.UNHEALTHY:
            raise ProgramFailed(
                f"The new version of {instance.called!r} is unhealthy",
                evidence=await _evidence(context, instance),
            )
        await context.host.clock.sleep(_PAUSE)


async def _ended(context: Context, instance: Instance, live: Live | None) -> IsolaError:
    status = live.ending.status if live is not None and live.ending is not None else None
    how = f"with status {status}" if status is not None else "at once"
    return ProgramFailed(
        f"The new version of {instance.called!r} ended {how}",
        evidence=await _evidence(context, instance),
    )


async def _not_in_time(context: Context, instance: Instance, terms: Terms) -> IsolaError:
    return TimedOut(
        f"The new version of {instance.called!r} was not healthy within {terms.timeout:g} seconds",
        evidence=await _evidence(context, instance),
        remedy="give it more time, or fix it",
    )


async def _evidence(context: Context, instance: Instance) -> str:
    """Of its last health check, and the last lines that it has written."""
    found = context.health.get(instance.id)
    last = found.log[-1] if found is not None and found.log else None
    checked = f"its health check {_outcome(last)}; " if last is not None else ""
    written = await console_tail(context, instance)
    return f"{checked}it wrote: {written}" if written else checked.removesuffix("; ") or "it has written nothing"


def _outcome(last: HealthResult) -> str:
    output = last.output.strip()[:_LONGEST_OUTPUT]
    ended = f"ended with status {last.exit_status}" if last.exit_status >= 0 else "failed"
    return f"{ended}: {output!r}" if output else ended
