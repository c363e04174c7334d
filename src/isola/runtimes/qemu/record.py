"""The record of a guest's processes, and of its end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from isola.errors import NotFound, Unsupported
from isola.host import Host
from isola.host.process import ProcessRef
from isola.model.last_run import Ending
from isola.runtimes import plan
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.spec import RunSpec

FILES, TPM = "server", "tpm"
"""Names of the servers of files and of the TPM."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a guest."""

    id: str
    qemu: ProcessRef
    monitor: ProcessRef
    """Keeps its log."""
    servers: tuple[tuple[str, ProcessRef], ...] = ()
    """By name; without one of them the guest hangs."""

    @property
    def server(self) -> ProcessRef:
        """That of its files. Raises Unsupported."""
        for name, process in self.servers:
            if name == FILES:
                return process
        raise Unsupported("This virtual machine has no file server")

    @property
    def processes(self) -> tuple[ProcessRef, ...]:
        return self.qemu, self.monitor, *(process for _, process in self.servers)


async def write(host: Host, layout: VmLayout, engine: str, run: Run) -> None:
    """Not synced, because it is obsolete after a power failure."""
    named = {"qemu": run.qemu, "monitor": run.monitor} | dict(run.servers)
    record = {"engine": engine, "boot": host.system.boot_id()} | {
        name: [process.pid, process.started] for name, process in named.items()
    }
    await host.files.write(layout.record, json.dumps(record).encode(), durable=False)


async def read(host: Host, layout: VmLayout, engine: str) -> tuple[Run, RunSpec] | None:
    """The run that this driver recorded since the boot, whether or not it lives, with the spec."""
    try:
        record = json.loads(await host.files.read(layout.record))
        if (record["boot"], record["engine"]) != (host.system.boot_id(), engine):
            return None
        named = {name: ProcessRef(*map(int, value)) for name, value in record.items() if isinstance(value, list)}
        run = Run(layout.id, named.pop("qemu"), named.pop("monitor"), tuple(sorted(named.items())))
        return run, plan.decode(await host.files.read(layout.plan))
    except (NotFound, KeyError, TypeError, ValueError):
        return None


async def write_ending(host: Host, layout: VmLayout, ending: Ending) -> None:
    """Not synced either."""
    found = {"status": ending.status, "at": ending.at.isoformat(), "oom_killed": ending.oom_killed}
    if ending.error:
        found["error"] = ending.error
    await host.files.write(layout.ended, json.dumps(found).encode(), durable=False)


async def ending(host: Host, layout: VmLayout) -> Ending | None:
    """As it was written."""
    try:
        found = json.loads(await host.files.read(layout.ended))
        at = datetime.fromisoformat(found["at"]).astimezone(UTC)
        return Ending(int(found["status"]), at, bool(found["oom_killed"]), str(found.get("error", "")))
    except (NotFound, KeyError, TypeError, ValueError):
        return None
