"""The record of a run in an instance's run directory: its processes, and the spec with which it was started."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isola.errors import NotFound
from isola.host import Host
from isola.host.process import ProcessRef
from isola.model.identity import IdRange
from isola.runtimes import plan
from isola.runtimes.oci.layout import Layout
from isola.runtimes.spec import Root, RunSpec

_SIGRTMIN_3 = 37
"""The signal that makes systemd halt."""
_LINGERS = 10.0
"""Seconds that a monitor may take to end after the first process."""


@dataclass(frozen=True, slots=True)
class Run:
    """The first process of an instance, and its monitor."""

    id: str
    init: ProcessRef
    monitor: ProcessRef


@dataclass(frozen=True, slots=True)
class Found:
    """A run in progress, with the spec with which it was started."""

    run: Run
    process: dict[str, object]
    """The OCI process entry of the first process."""
    plan: RunSpec


async def write(host: Host, layout: Layout, engine: str, run: Run, process: object) -> None:
    """Written when the first process exists. Not synced, because it is obsolete after a power failure."""
    record = {
        "engine": engine,
        "boot": host.system.boot_id(),
        "first": [run.init.pid, run.init.started],
        "monitor": [run.monitor.pid, run.monitor.started],
        "process": process,
    }
    await host.files.write(layout.record, json.dumps(record).encode(), durable=False)


async def find(host: Host, layout: Layout, engine: str) -> Found | None:
    """The run that was recorded by this engine since the boot, if both of its processes are alive."""
    if (recorded := await _recorded(host, layout, engine)) is None:
        return None
    run, process = recorded
    if not (host.processes.alive(run.init) and host.processes.alive(run.monitor)):
        return None
    started = await _plan(host, layout)
    return Found(run, process, started) if started is not None else None


async def exit_status(host: Host, layout: Layout, engine: str) -> int | None:
    """The exit status of the recorded run, which the monitor writes as it ends, soon after the first process."""
    if (recorded := await _recorded(host, layout, engine)) is None or host.processes.alive(recorded[0].init):
        return None
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGERS):
            await host.processes.gone(recorded[0].monitor)
    try:
        text = await host.files.read(layout.exit_status)
    except NotFound:
        return None
    return int(text) if text.strip().isdigit() else None


async def _recorded(host: Host, layout: Layout, engine: str) -> tuple[Run, dict[str, object]] | None:
    """The run that was recorded by this engine since the boot, and its process entry."""
    record = await _read(host, layout.record)
    try:
        if (record["boot"], record["engine"]) != (host.system.boot_id(), engine):
            return None
        first, monitor = (ProcessRef(*map(int, record[who])) for who in ("first", "monitor"))
        return Run(layout.id, first, monitor), dict(record["process"])
    except (KeyError, TypeError, ValueError):
        return None


async def _plan(host: Host, layout: Layout) -> RunSpec | None:
    """The recorded spec; for a run that an older daemon started, as much as its OCI configuration contains."""
    try:
        return plan.decode(await host.files.read(layout.plan))
    except (NotFound, ValueError):
        pass
    config = await _read(host, layout.config)
    try:
        mapping, process = config["linux"]["uidMappings"][0], config["process"]
        system = "container=lxc" in process["env"]
        return RunSpec(
            id=layout.id,
            hostname=config["hostname"],
            root=Root(Path(config["root"]["path"])),
            command=tuple(process["args"]),
            idmap=IdRange(mapping["hostID"], mapping["size"]),
            system=system,
            stop_signal=_SIGRTMIN_3 if system else 15,
        )
    except (KeyError, TypeError, IndexError):
        return None


async def _read(host: Host, path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        found = json.loads(await host.files.read(path))
    except (NotFound, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
