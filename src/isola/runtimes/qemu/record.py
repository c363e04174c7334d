"""The record of a guest's processes, and of its end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from isola.errors import NotFound
from isola.host import Host
from isola.host.process import ProcessRef
from isola.model.last_run import Ending
from isola.runtimes import plan
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a guest."""

    id: str
    qemu: ProcessRef
    server: ProcessRef
    """Serves its root; without it the guest hangs."""
    monitor: ProcessRef
    """Keeps its log."""

    @property
    def processes(self) -> tuple[ProcessRef, ...]:
        return self.qemu, self.server, self.monitor


async def write(host: Host, layout: VmLayout, engine: str, run: Run) -> None:
    """Not synced, because it is obsolete after a power failure."""
    record = {"engine": engine, "boot": host.system.boot_id()} | {
        name: [process.pid, process.started]
        for name, process in zip(("qemu", "server", "monitor"), run.processes, strict=True)
    }
    await host.files.write(layout.record, json.dumps(record).encode(), durable=False)


async def read(host: Host, layout: VmLayout, engine: str) -> tuple[Run, RunSpec] | None:
    """The run that this driver recorded since the boot, whether or not it lives, with the spec."""
    try:
        record = json.loads(await host.files.read(layout.record))
        if (record["boot"], record["engine"]) != (host.system.boot_id(), engine):
            return None
        processes = [ProcessRef(*map(int, record[name])) for name in ("qemu", "server", "monitor")]
        return Run(layout.id, *processes), plan.decode(await host.files.read(layout.plan))
    except (NotFound, KeyError, TypeError, ValueError):
        return None


async def write_ending(host: Host, layout: VmLayout, ending: Ending) -> None:
    """Not synced either."""
    found = {"status": ending.status, "at": ending.at.isoformat(), "oom_killed": ending.oom_killed}
    await host.files.write(layout.ended, json.dumps(found).encode(), durable=False)


async def ending(host: Host, layout: VmLayout) -> Ending | None:
    """As it was written."""
    try:
        found = json.loads(await host.files.read(layout.ended))
        at = datetime.fromisoformat(found["at"]).astimezone(UTC)
        return Ending(int(found["status"]), at, bool(found["oom_killed"]))
    except (NotFound, KeyError, TypeError, ValueError):
        return None
