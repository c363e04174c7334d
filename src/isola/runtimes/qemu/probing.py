"""Whether guests boot on this host, and how: tried with a real kernel, because what /dev/kvm promises may not be true.

The result is kept until the host boots again, or the programs or the kernel for guests change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from isola.errors import DriverUnavailable, IsolaError, NotFound
from isola.host import Host
from isola.model.probe import Probe
from isola.runtimes.qemu import engines, kit, machine
from isola.runtimes.qemu.engines import Engines, Versions
from isola.runtimes.qemu.joint import Joint
from isola.runtimes.qemu.kit import Kit
from isola.runtimes.qemu.limits import LEAST_MEMORY
from isola.runtimes.qemu.machine import Machine

KVM, EMULATION = "kvm", "tcg"
_MONITOR = "conmon"
_NEEDED = frozenset({"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_NET_ADMIN"})
_KEPT = Path("/run/isola-guests")
"""Directory of results, which the next boot of the host clears."""
_LIMITS = {KVM: 8.0, EMULATION: 40.0}
"""Seconds that a kernel may take."""
_DEVICE = Path("/dev/kvm")
_ASKED: Joint[str] = Joint()
EMULATED = "guests are emulated (TCG), because KVM does not boot one on this host: their programs are many times slower"


async def probe(host: Host, *, server: bool = True) -> Probe:
    """Programs, capabilities, control groups, and a boot. ``server``: guests need one of files."""
    try:
        supplied, found = kit.find(), engines.find(host)
        versions = await engines.versions(host, found)
        _require(host, found, server=server)
        used = await accelerator(host, supplied, found, versions)
    except DriverUnavailable as error:
        reason = f"{error.message}: {error.evidence}" if error.evidence else error.message
        return Probe(available=False, reason=reason, remedy=error.remedy)
    emulated = used != KVM
    return Probe(
        available=True,
        version=f"{versions.qemu}, Linux {supplied.release}, {'emulated (TCG)' if emulated else 'KVM'}",
        emulated=emulated,
        warnings=(EMULATED,) if emulated else (),
    )


def _require(host: Host, found: Engines, *, server: bool) -> None:
    """Raises DriverUnavailable."""
    if host.system.find_program(_MONITOR) is None:
        raise DriverUnavailable(f"{_MONITOR} is not installed", remedy=f"apt-get install {_MONITOR}")
    if server and not found.virtiofsd:
        raise DriverUnavailable("virtiofsd is not installed", remedy="apt-get install virtiofsd")
    if missing := _NEEDED - host.system.capabilities():
        raise DriverUnavailable(f"{', '.join(sorted(missing))} is missing", remedy="run the daemon as real root")
    if host.cgroups.layout == "none":
        raise DriverUnavailable("no control groups are mounted below /sys/fs/cgroup", remedy="mount them")


async def accelerator(host: Host, supplied: Kit, found: Engines, versions: Versions) -> str:
    """``kvm`` if a guest boots with it, else ``tcg``. Raises DriverUnavailable if none boots."""
    return await _ASKED.ask(
        (id(host), supplied.stamp, found, versions), lambda: _accelerator(host, supplied, found, versions)
    )


async def _accelerator(host: Host, supplied: Kit, found: Engines, versions: Versions) -> str:
    facts = json.dumps([host.system.boot_id(), supplied.stamp, found.qemu, versions.qemu])
    kept = _KEPT / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(await host.files.read(kept))["accelerator"]
        if known in (KVM, EMULATION):
            return str(known)
    except (NotFound, ValueError, KeyError, TypeError):
        pass
    used = await _tried(host, supplied, found)
    await host.files.make_directory(_KEPT, mode=0o755)
    await host.files.write(kept, json.dumps({"accelerator": used}).encode(), mode=0o644, durable=False)
    return used


async def _tried(host: Host, supplied: Kit, found: Engines) -> str:
    choices = [KVM, EMULATION] if await host.files.exists(_DEVICE) else [EMULATION]
    evidence = ""
    for choice in choices:
        evidence = await _boot(host, supplied, found, choice)
        if not evidence:
            return choice
    raise DriverUnavailable(
        "The kernel for guests does not boot in QEMU on this host",
        evidence=evidence,
        remedy="run install/guest again, and look whether the host has memory left",
    )


async def _boot(host: Host, supplied: Kit, found: Engines, choice: str) -> str:
    """Empty if a kernel runs until it needs a root; otherwise what was seen."""
    described = Machine(
        id="probe",
        kernel=supplied.kernel,
        initramfs=supplied.initramfs,
        accelerator=choice,
        memory=LEAST_MEMORY,
        clock=clock(host),
    )
    argv = [*found.qemu, *(arg for place in found.data for arg in ("-L", str(place))), *machine.trial(described)]
    try:
        done = await host.processes.run(argv, timeout=_LIMITS[choice], check=False)
    except IsolaError as error:
        return str(error)
    if machine.TRIAL_SAYS in done.stdout:
        return ""
    seen = (done.stdout[-1000:] + done.stderr[-1000:]).decode(errors="replace").strip()
    return f"status {done.status}: {seen}"


def clock(host: Host) -> int:
    """Frequency of the host's time stamp counter in kHz, as its kernel says it; 0 where it does not."""
    cpus = host.system.cpus()
    found = cpus[0].get("frequency", 0) if cpus else 0
    return found * 1000 if isinstance(found, int) else 0
