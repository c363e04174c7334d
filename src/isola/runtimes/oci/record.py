"""The record of a run in an instance's run directory: its processes, and the spec with which it was started."""

from __future__ import annotations

import json
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
    record = await _read(host, layout.record)
    try:
        if (record["boot"], record["engine"]) != (host.system.boot_id(), engine):
            return None
        first, monitor = (ProcessRef(*map(int, record[who])) for who in ("first", "monitor"))
        process = dict(record["process"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (host.processes.alive(first) and host.processes.alive(monitor)):
        return None
    started = await _plan(host, layout)
    return Found(Run(layout.id, first, monitor), process, started) if started is not None else None


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
