"""A recording follows an instance from one run to the next."""

from __future__ import annotations

from pathlib import Path

from isola.instances.context import Context
from isola.runtimes import Guest


async def follow(context: Context, id: str, guest: Guest) -> None:
    """A run begins: what is recorded of a run alone, files and ports, begins with it."""
    recording = context.recordings.get(id)
    if recording is None:
        return
    process = context.host.processes.identify(guest.number)
    groups = context.host.cgroups.unified
    await recording.follow(process, Path(f"{groups}{context.names.cgroup(id)}") if groups is not None else None)
