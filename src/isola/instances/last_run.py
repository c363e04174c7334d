"""What is recorded of a run when it has ended, and the answer for clients that wait for its end."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from datetime import timedelta
from typing import Any

from isola.errors import IsolaError
from isola.instances.context import Context, Live
from isola.model.instance import Desired, Instance
from isola.model.last_run import KILLED, LOST, Ending, LastRun, Until

NOT_STARTED, NOT_EXECUTABLE, NOT_FOUND = 128, 126, 127
"""Exit status of a program that could not be started, as in a shell."""
_LONGEST = 2000


async def ending_of(context: Context, instance: Instance) -> Ending | None:
    """How its run ended, before its remains are removed; None if there is no run whose end is not recorded yet.

    A run that has not ended is about to be killed.
    """
    if instance.desired is not Desired.RUNNING or _is_recorded(instance):
        return None
    live = _last(context, instance.id)
    if live is not None and live.ending is not None:
        return live.ending
    now = context.host.clock.now()
    if live is not None:
        return Ending(KILLED, now)
    runtime = context.runtime(instance)
    if await runtime.find(instance.id) is not None:
        return Ending(KILLED, now)
    return await runtime.ending(instance.id) or Ending(LOST, now)


def after(instance: Instance, ending: Ending) -> Instance:
    """The record that has the end of its run. Pure."""
    before = instance.last_run or LastRun()
    ended = LastRun(
        exit_status=ending.status,
        oom_killed=ending.oom_killed,
        error=ending.error,
        started_at=instance.last_used_at,
        finished_at=ending.at,
        restarts=before.restarts,
    )
    return dataclasses.replace(instance, last_run=ended)


def counted(instance: Instance, restarts: int) -> LastRun | None:
    """The last run in the record of an instance that has just been started. Pure."""
    if instance.last_run is None and not restarts:
        return None
    return dataclasses.replace(instance.last_run or LastRun(), error="", started_at=None, restarts=restarts)


async def note_failed_start(context: Context, instance: Instance, error: IsolaError) -> None:
    """Record why its start failed; an error of writing is ignored, because the failure is reported anyway."""

    def failed(found: Instance) -> Instance:
        before, message = found.last_run or LastRun(), str(error)[:_LONGEST]
        status = status_of_failure(message)
        return dataclasses.replace(found, last_run=dataclasses.replace(before, exit_status=status, error=message))

    with suppress(IsolaError):
        await context.records.change(instance.ref, failed, pure=True)


def status_of_failure(message: str) -> int:
    """As a shell would say it; engines report it by texts only. Pure."""
    lower = message.lower()
    if "no such file or directory" in lower or "executable file not found" in lower or "not found in $path" in lower:
        return NOT_FOUND
    refused = (
        "permission denied",
        "not a directory",
        "exec format error",
        "is a directory",
        "is not a regular file",
        "executable: operation not permitted",
    )
    if any(reason in lower for reason in refused):
        return NOT_EXECUTABLE
    return NOT_STARTED


def wait(context: Context, instance: Instance, until: Until) -> asyncio.Future[int]:
    """The future exit status."""
    future = context.waits.add(instance.id, until)
    if until is Until.NOT_RUNNING and not context.runs(instance):
        future.set_result(last_status(context, instance))
    return future


def last_status(context: Context, instance: Instance) -> int:
    """The exit status of its last run; 0 if there was none."""
    live = _last(context, instance.id)
    if live is not None and live.ending is not None:
        return live.ending.status
    return instance.last_run.exit_status if instance.last_run is not None else 0


def about_end(instance: Instance) -> dict[str, Any]:
    """What events say of the end of its last run: exit status, whole seconds, and whether memory was short. Pure."""
    last = instance.last_run or LastRun()
    ran = last.finished_at - last.started_at if last.finished_at and last.started_at else timedelta()
    about: dict[str, Any] = {"exit_status": last.exit_status, "seconds": int(ran.total_seconds())}
    return about | ({"oom_killed": True} if last.oom_killed else {})


def _is_recorded(instance: Instance) -> bool:
    """Whether the record says that it runs only because it is about to be started again."""
    return instance.last_run is not None and instance.last_run.started_at is not None


def _last(context: Context, id: str) -> Live | None:
    """Its run, even if cleaning up has failed after it ended."""
    fault = context.faults.get(id)
    return context.live.get(id) or (fault.ended if fault is not None else None)
