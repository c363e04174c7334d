"""crun, the fastest engine; it supports cgroup v2 alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isola.host import Host
from isola.model.identity import HostNames
from isola.model.probe import Probe
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.hybrid import SmallWorld
from isola.runtimes.oci.monitor import entering
from isola.runtimes.oci.probing import probe_engine
from isola.runtimes.oci.runtime import OciRuntime


class Crun(OciRuntime):
    """Runs directly on cgroup v2. On a hybrid host it refuses to work, so it runs in a mount namespace with v2 alone.

    There it joins the v2 group only. A shell enters the v1 groups before, so that started processes inherit them.
    """

    name = "crun"
    limits_itself = True
    reports_refusals = True
    hands_terminals_over = (
        True  # required, because old versions lose the end of a command's output when they relay a terminal
    )

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._small_world = SmallWorld(host, directory)

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Also checks for cgroup v2."""
        if host.cgroups.layout == "legacy":
            return Probe(
                available=False,
                reason="crun needs cgroup v2, and this host has only v1",
                remedy="boot with systemd.unified_cgroup_hierarchy=1, or use runc",
            )
        return await probe_engine(host, cls.name)

    async def maker(self, id: str, given: Sequence[Path], restore: Path | None = None) -> Caller:
        """On a hybrid host in a copy of the small mount namespace."""
        if self.host.cgroups.layout == "unified":
            return Caller([await self.program()])
        return Caller(await self._inside(id), await self._small_world.copy(given))

    async def joiner(self, id: str) -> Caller:
        """On a hybrid host in the small mount namespace."""
        if self.host.cgroups.layout == "unified":
            return Caller([await self.program()])
        return Caller(await self._inside(id), await self._small_world.place())

    async def let_go(self, id: str) -> None:
        """Does what the engine's ``start`` does, without running it: writes a byte to the FIFO that it has left."""
        if not self.host.sockets.post(self.layout(id).state / id / "exec.fifo", b"\0", once=True):
            await super().let_go(id)

    def limits_devices(self) -> bool:
        """Device rules are a BPF program; crun raises RLIMIT_MEMLOCK before it loads one."""
        return "CAP_SYS_RESOURCE" in self.host.system.capabilities()

    async def _inside(self, id: str) -> list[str]:
        # Not the v2 group: crun moves started processes there, and kills all processes in it after a failure.
        groups = self.host.cgroups.directories(self.names.cgroup(id), legacy=True)
        return entering(self._small_world.groups(groups), [await self.program()])


DRIVER = Crun
