"""runc, the engine that works with every cgroup layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from isola.errors import IsolaError
from isola.host import Host
from isola.model.identity import HostNames
from isola.model.probe import Probe
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.probing import probe_engine
from isola.runtimes.oci.runtime import OciRuntime
from isola.runtimes.spec import RunSpec

_READS_MAPPINGS = (1, 1, 11)
"""The first version that takes the mappings of a namespace that exists from there, and refuses what says them again."""
_MAPPINGS = ("uidMappings", "gidMappings")


class Runc(OciRuntime):
    """Joins the control groups of an instance by itself."""

    name = "runc"

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Has no special requirements."""
        return await probe_engine(host, cls.name)

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._reads_mappings: dict[str, bool] = {}
        """By path of the program, which is another one after an upgrade."""
        self._made_by = ""

    async def maker(self, id: str, given: Sequence[Path], restore: Path | None = None) -> Caller:
        """Nothing to add; its version is looked up once."""
        caller = await self.joiner(id)
        self._made_by = caller.argv[0]
        if self._made_by not in self._reads_mappings:
            self._reads_mappings[self._made_by] = await self._version(self._made_by) >= _READS_MAPPINGS
        return caller

    def adapted(self, spec: RunSpec, config: dict[str, object]) -> dict[str, object]:
        """Without the mappings of the instance's user namespace, for a version that reads them from there."""
        linux = config["linux"]
        if not self._reads_mappings.get(self._made_by) or not isinstance(linux, dict):
            return config
        return {**config, "linux": {key: value for key, value in linux.items() if key not in _MAPPINGS}}

    async def _version(self, program: str) -> tuple[int, ...]:
        """Empty if it does not say."""
        try:
            done = await self.host.processes.run([program, "--version"], timeout=10)
        except IsolaError:
            return ()
        found = re.match(rb"\s*runc version (\d+)\.(\d+)\.(\d+)", done.stdout)
        return tuple(map(int, found.groups())) if found else ()

    async def joiner(self, id: str) -> Caller:
        """Nothing to add."""
        return Caller([await self.program()])

    def limits_devices(self) -> bool:
        """On cgroup v2 device rules are a BPF program; runc raises RLIMIT_MEMLOCK before it loads one."""
        return self.host.cgroups.layout != "unified" or "CAP_SYS_RESOURCE" in self.host.system.capabilities()


DRIVER = Runc
