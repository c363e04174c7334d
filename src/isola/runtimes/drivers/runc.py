"""runc, the engine that works with every cgroup layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isola.host import Host
from isola.model.probe import Probe
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.probing import probe_engine
from isola.runtimes.oci.runtime import OciRuntime


class Runc(OciRuntime):
    """Joins the control groups of an instance by itself."""

    name = "runc"

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Has no special requirements."""
        return await probe_engine(host, cls.name)

    async def maker(self, id: str, given: Sequence[Path], restore: Path | None = None) -> Caller:
        """Nothing to add."""
        return await self.joiner(id)

    async def joiner(self, id: str) -> Caller:
        """Nothing to add."""
        return Caller([await self.program()])

    def limits_devices(self) -> bool:
        """On cgroup v2 device rules are a BPF program; runc raises RLIMIT_MEMLOCK before it loads one."""
        return self.host.cgroups.layout != "unified" or "CAP_SYS_RESOURCE" in self.host.system.capabilities()


DRIVER = Runc
