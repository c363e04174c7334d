"""crun, the engine that starts fastest; it knows cgroup v2 alone."""

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
    """Plain on cgroup v2. On a hybrid host it refuses to work until it sees nothing but v2, so that is what it sees.

    It would join the v2 group alone there: it enters the others beforehand, and what it starts inherits them.
    """

    name = "crun"
    hands_terminals_over = True  # and must: left to relay one, old versions lose the end of what a command says

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._small_world = SmallWorld(host, directory)

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Does it work here."""
        if host.cgroups.layout == "legacy":
            return Probe(
                available=False,
                reason="crun needs cgroup v2, and this host has only v1",
                remedy="boot with systemd.unified_cgroup_hierarchy=1, or use runc",
            )
        return await probe_engine(host, cls.name)

    async def maker(self, id: str, given: Sequence[Path]) -> Caller:
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
        """As the engine itself does it, without running it once more: by a byte through the FIFO that it has left."""
        if not self.host.sockets.post(self.layout(id).state / id / "exec.fifo", b"\0", once=True):
            await super().let_go(id)

    def limits_devices(self) -> bool:
        """The rules are a program in the kernel, and crun raises a limit before it loads one."""
        return "CAP_SYS_RESOURCE" in self.host.system.capabilities()

    async def _inside(self, id: str) -> list[str]:
        # Not the v2 group: crun puts there what it starts, and kills all that is in it when it fails.
        groups = self.host.cgroups.directories(self.names.cgroup(id), legacy=True)
        return entering(self._small_world.groups(groups), [await self.program()])


DRIVER = Crun
