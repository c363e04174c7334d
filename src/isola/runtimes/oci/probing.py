"""Whether an engine works on this host, determined without side effects from versions and properties of the host."""

from __future__ import annotations

from isola.errors import IsolaError
from isola.host import Host
from isola.model.probe import Probe

_MONITOR = "conmon"
_NEEDED = frozenset({"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_NET_ADMIN"})


async def probe_engine(host: Host, name: str) -> Probe:
    """Programs, capabilities and control groups."""
    for program in (name, _MONITOR):
        if host.system.find_program(program) is None:
            return Probe(available=False, reason=f"{program} is not installed", remedy=f"apt-get install {program}")
    if missing := _NEEDED - host.system.capabilities():
        return Probe(
            available=False, reason=f"{', '.join(sorted(missing))} is missing", remedy="run the daemon as real root"
        )
    if host.cgroups.layout == "none":
        return Probe(
            available=False,
            reason="no control groups are mounted below /sys/fs/cgroup",
            remedy="mount them, or start the daemon where they are mounted (`ip netns exec` hides them)",
        )
    try:
        done = await host.processes.run([name, "--version"], timeout=10)
    except IsolaError as error:
        return Probe(available=False, reason=str(error), remedy=f"apt-get install --reinstall {name}")
    fields = done.stdout.decode(errors="replace").split()
    version = fields[2] if len(fields) > 2 else ""
    warnings: tuple[str, ...] = ()
    if host.cgroups.layout == "legacy":
        warnings = ("there is no cgroup v2 on this host: systemd inside instances will not start",)
    return Probe(available=True, version=version, warnings=warnings)
