"""crun, the engine that starts fastest; it knows cgroup v2 alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from isola.host import Host
from isola.model.probe import Probe
from isola.runtimes.oci.monitor import ENTER
from isola.runtimes.oci.probing import probe_engine
from isola.runtimes.oci.runtime import OciRuntime

# On a hybrid host crun refuses to work until it sees nothing but cgroup v2, so it gets a mount namespace in which it
# does. It would join the v2 group alone: it enters the others beforehand, and what it starts inherits them.
_ALONE = f"""\
{ENTER.removesuffix('exec "$@"')}mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"\
"""


class Crun(OciRuntime):
    """Plain on cgroup v2, in a mount namespace of its own elsewhere."""

    name = "crun"

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Does it work here."""
        if host.cgroups.layout == "legacy":
            return Probe(
                available=False,
                reason="crun needs cgroup v2, and this host has only v1",
                remedy="boot with systemd.unified_cgroup_hierarchy=1, or use runc",
            )
        probe = await probe_engine(host, cls.name)
        if not probe.available or host.cgroups.layout == "unified":
            return probe
        if host.system.find_program("unshare") is None:
            return Probe(available=False, reason="unshare is not installed", remedy="apt-get install util-linux")
        warning = (
            "control groups are hybrid, so crun runs in a mount namespace that shows it cgroup v2 alone; a command "
            "that goes on for long holds that namespace, and with it what was mounted on the host when it began"
        )
        return dataclasses.replace(probe, warnings=(warning,))

    def engine(self, id: str, *, joining: bool) -> Sequence[str]:
        """On a hybrid host by way of a shell that makes the host look unified."""
        crun = str(self.host.system.find_program(self.name) or self.name)
        if self.host.cgroups.layout == "unified":
            return (crun,)
        # Not the v2 group: crun puts there what it starts, and kills all that is in it when it fails.
        groups = self.host.cgroups.directories(self.names.cgroup(id), legacy=True) if joining else ()
        unshare = str(self.host.system.find_program("unshare") or "unshare")
        alone = (unshare, "--mount", "--propagation", "slave", "/bin/sh", "-c", _ALONE, "sh")
        return (*alone, *map(str, groups), "--", crun)

    def limits_devices(self) -> bool:
        """The rules are a program in the kernel, and crun raises a limit before it loads one."""
        return "CAP_SYS_RESOURCE" in self.host.system.capabilities()


DRIVER = Crun
