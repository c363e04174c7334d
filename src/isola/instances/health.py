"""Check the health of running instances: each is a task only if it has a check."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from isola.errors import IsolaError
from isola.host.sockets import Stream
from isola.instances import exec as exec_verb
from isola.instances.configuration import expanded
from isola.instances.context import Context, Live
from isola.instances.health_outside import reach
from isola.instances.health_settings import health_check, written
from isola.instances.phases import RunState
from isola.model.exec import ExecRequest
from isola.model.health import KEPT, LONGEST_OUTPUT, Health, HealthResult, HealthStatus
from isola.model.image import HealthCheck
from isola.model.instance import Instance
from isola.runtimes import RUNS, Execution

FILE = "health.json"
"""Name of the file of the last results, beside the files of the run, for the next daemon."""
_SECOND = 10**9
log = logging.getLogger(__name__)


def judged(before: Health, result: HealthResult, check: HealthCheck, *, age: float) -> Health:
    """The health after one more check, which began ``age`` seconds after the start of the run. Pure."""
    kept = (*before.log, result)[-KEPT:]
    if result.exit_status == 0:
        return Health(HealthStatus.HEALTHY, 0, kept)
    if before.status is HealthStatus.STARTING and age * _SECOND < check.start_period:
        return replace(before, log=kept)
    failing = before.failing + 1
    return Health(HealthStatus.UNHEALTHY if failing >= check.retries else before.status, failing, kept)


def pause(health: Health, check: HealthCheck, *, age: float) -> float:
    """Seconds until the next check. Pure."""
    starts = health.status is HealthStatus.STARTING and age * _SECOND < check.start_period
    return (check.start_interval if starts else check.interval) / _SECOND


def begin(context: Context, instance: Instance, live: Live) -> None:
    """While the instance runs; no effect if it has no check."""
    context.health.pop(instance.id, None)
    config, _ = expanded(context, instance)
    try:
        check = health_check(instance.start.health_check, config)
    except IsolaError as error:  # a newer daemon may have accepted other values
        log.warning("The health of instance %s is not checked: %s", instance.name, error)
        return
    if check is not None:
        context.health[instance.id] = Health()
        work = _watch(context, instance.id, live, check)
        live.health = asyncio.get_running_loop().create_task(work, name=f"health of {instance.id}")


def end(live: Live) -> None:
    """No effect if it is not checked."""
    if live.health is not None:
        live.health.cancel()
        live.health = None


async def recall(context: Context, instance: Instance, live: Live) -> None:
    """What the daemon before this one has found in this run, for an instance that is adopted."""
    async with live.judging:
        if instance.id in context.health and (found := await _remembered(context, instance.id, live)) is not None:
            context.health[instance.id] = found


async def _watch(context: Context, id: str, live: Live, check: HealthCheck) -> None:
    clock = context.host.clock
    while True:
        age = (clock.now() - live.started_at).total_seconds()
        await clock.sleep(pause(context.health[id], check, age=age))
        instance = context.by_id(id)
        if instance is None or live.state is RunState.ENDED:
            return
        async with live.checking, context.checking:
            if live.state is not RunState.RUNNING:
                continue
            result = await _check(context, instance, check)
        age = (result.start - live.started_at).total_seconds()
        await _change(context, instance, live, partial(judged, result=result, check=check, age=age))


async def try_now(context: Context, instance: Instance, live: Live, check: HealthCheck) -> Health:
    """The health after one more check, which is counted if it succeeds: for a verb that waits for a success."""
    async with context.checking:
        result = await _check(context, instance, check)

    def change(before: Health) -> Health:
        failed = replace(before, log=(*before.log, result)[-KEPT:])
        return failed if result.exit_status else judged(before, result, check, age=0)

    return await _change(context, instance, live, change)


async def _change(context: Context, instance: Instance, live: Live, change: Callable[[Health], Health]) -> Health:
    """Remember it before it is shown: the next daemon shows no older one."""
    async with live.judging:
        before = context.health.get(instance.id, Health())
        now = change(before)
        await _remember(context, instance.id, live, now)
        if context.live.get(instance.id) is live:
            context.health[instance.id] = now
            if now.status is not before.status:
                context.tell("health-status", instance.ref, status=now.status.value)
    return now


async def _check(context: Context, instance: Instance, check: HealthCheck) -> HealthResult:
    start = context.host.clock.now()
    status, output = -1, b""
    try:
        if check.outside:
            status, output = await reach(context, instance, check)
            return HealthResult(start, context.host.clock.now(), status, output.decode(errors="replace"))
        execution = await exec_verb.run(context, instance, ExecRequest(check.argv, user=None))
        status, output = await _outcome(context, execution, check.timeout / _SECOND)
    except IsolaError as error:
        output = str(error).encode()
    text = output[:LONGEST_OUTPUT].decode(errors="replace")
    return HealthResult(start, context.host.clock.now(), status, text)


async def _outcome(context: Context, execution: Execution, timeout: float) -> tuple[int, bytes]:
    """Exit status and output; -1 if it has not ended in time, and is killed."""
    output = bytearray()
    execution.stdin.close()
    streams = [execution.stdout, *([execution.stderr] if execution.stderr is not None else [])]
    readers = [asyncio.ensure_future(_collect(stream, output)) for stream in streams]
    waiting = asyncio.ensure_future(execution.wait())
    timer = asyncio.ensure_future(context.host.clock.sleep(timeout))
    try:
        await asyncio.wait([waiting, timer], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            suffix = f": {output.decode(errors='replace')}" if output else ""
            return -1, f"Health check exceeded timeout ({written(timeout)}){suffix}".encode()
        await asyncio.wait(readers, timeout=0.1)  # a background process may keep its output open
        return waiting.result(), bytes(output)
    finally:
        timer.cancel()
        for reader in readers:
            reader.cancel()
        await execution.close()
        waiting.cancel()


async def _collect(stream: Stream, output: bytearray) -> None:
    while data := await stream.read():
        output += data[: max(0, LONGEST_OUTPUT - len(output))]


# --- for the next daemon --------------------------------------------------------------------------------------------


def _file(context: Context, id: str) -> Path:
    return context.directory / RUNS / id / FILE


async def _remember(context: Context, id: str, live: Live, health: Health) -> None:
    """In memory, with the files of the run; an error is ignored, because the next daemon just begins again."""
    results = [[each.start.isoformat(), each.end.isoformat(), each.exit_status, each.output] for each in health.log]
    document = {"run": live.started_at.isoformat(), "status": health.status, "failing": health.failing, "log": results}
    with suppress(IsolaError):
        await context.host.files.write(_file(context, id), json.dumps(document).encode(), durable=False)


async def _remembered(context: Context, id: str, live: Live) -> Health | None:
    try:
        found = json.loads(await context.host.files.read(_file(context, id)))
        if found["run"] != live.started_at.isoformat():
            return None
        results = tuple(
            HealthResult(datetime.fromisoformat(start), datetime.fromisoformat(end), int(status), str(output))
            for start, end, status, output in found["log"]
        )
        return Health(HealthStatus(found["status"]), int(found["failing"]), results[-KEPT:])
    except (IsolaError, ValueError, TypeError, KeyError):
        return None
