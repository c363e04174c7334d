"""What is started for a guest, from the specification of its run. Pure, but for what the host has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isola.errors import Unsupported
from isola.host import Host
from isola.host.hypervisor import SHARED, Job
from isola.model.network import HostTap
from isola.runtimes.agent.plan import Console
from isola.runtimes.qemu import machine, probing
from isola.runtimes.qemu.engines import Engines
from isola.runtimes.qemu.kit import Kit
from isola.runtimes.qemu.limits import cpus_of, memory_of
from isola.runtimes.qemu.machine import Machine, Nic
from isola.runtimes.spec import RootKind, RunSpec

_HYPERVISORS_USER = 65534


def described(host: Host, spec: RunSpec, supplied: Kit, accelerator: str) -> Machine:
    """The machine that it gets."""
    return Machine(
        id=spec.id,
        kernel=supplied.kernel,
        initramfs=supplied.initramfs,
        accelerator=accelerator,
        memory=memory_of(spec.limits),
        cpus=cpus_of(spec.limits, len(host.system.cpus())),
        clock=probing.clock(host),
        nics=tuple(Nic(nic.link, nic.mac, f"nic{number}") for number, nic in enumerate(spec.nics)),
        terminal=spec.terminal,
    )


def job_of(described: Machine, spec: RunSpec, found: Engines, groups: Sequence[Path]) -> Job:
    """The processes that run it, and their confinement."""
    assert spec.idmap is not None
    return Job(
        ids=(spec.idmap.base, spec.idmap.size),
        user=min(_HYPERVISORS_USER, spec.idmap.size - 1),
        groups=tuple(map(str, groups)),
        root=str(spec.root.path),
        server=(*found.virtiofsd, *server_options(found)),
        program=(*found.qemu, *_firmware(found), *machine.arguments(described)),
        listen=(machine.CONTROL, machine.AGENT),
        taps={nic.descriptor: nic.link for nic in described.nics},
        shown=(*map(str, found.trees), str(described.kernel), str(described.initramfs)),
        devices=("/dev/kvm",) if described.accelerator == probing.KVM else (),
    )


def require_supported(spec: RunSpec) -> None:
    """Raises Unsupported."""
    if spec.root.kind is not RootKind.SHARED:
        raise Unsupported(f"The root of a microVM is a shared directory, not a {spec.root.kind.value} device")
    if spec.idmap is None:
        raise Unsupported("A microVM needs user ids of its own, for its files on the host")
    if spec.network is not None and not isinstance(spec.network, HostTap):
        raise Unsupported("The NICs of a virtual machine end in taps, not in a network namespace")
    if spec.shares or spec.host_namespaces:
        raise Unsupported(
            "Virtual machines share no kernel, and so no namespaces", remedy="choose the isolation 'container'"
        )
    if spec.devices:
        raise Unsupported(
            "Devices of the host are not those of a virtual machine's kernel", remedy="choose the isolation 'container'"
        )


def console(spec: RunSpec) -> Console:
    """Names of ports."""
    if spec.terminal:
        return Console(output="org.isola.console")
    return Console("org.isola.stdin" if spec.stdin else "", "org.isola.stdout", "org.isola.stderr")


def server_options(found: Engines) -> tuple[str, ...]:
    """Of the file server: it serves its own root, with the ids and the mounts that it sees. Pure."""
    if found.old_virtiofsd:
        options = (f"source={SHARED}", "sandbox=chroot", "announce_submounts", "xattr", "log_level=warn")
        return ("--fd=@server@", "--rlimit-nofile=0", *(word for option in options for word in ("-o", option)))
    return (
        "--fd=@server@", f"--shared-dir={SHARED}", "--sandbox=chroot", "--announce-submounts", "--xattr",
        "--log-level=warn", "--rlimit-nofile=0", "--inode-file-handles=never",
    )  # fmt: skip


def _firmware(found: Engines) -> tuple[str, ...]:
    return tuple(word for place in found.data for word in ("-L", str(place)))
