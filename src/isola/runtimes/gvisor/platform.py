"""How runsc gets hold of system calls on this host: found by trial, because some ways hang where they do not work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import IsolaError, NotFound
from isola.host import Host
from isola.runtimes.gvisor.options import KVM, PTRACE, SYSTRAP, Version

KNOWN = Path("/run/isola-sandbox-platform.json")
"""Results of trials since the boot, for all daemons of the host."""
_TIMEOUT = 30.0
_RELEASE = "runsc version"


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform that works, or none."""

    name: str = ""
    version: Version = field(default_factory=Version)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Platforms that were not chosen before it, and why."""


async def platform(host: Host, program: Path) -> Platform:
    """The best one that works here; since the boot, and with this version, it is tried once. Raises HostFailure."""
    release = (await host.processes.run([str(program), "--version"], timeout=10)).stdout.decode(errors="replace")
    known = await _known(host, release)
    if known is None:
        known = await _tried(host, program, Version.read(release))
        await _keep(host, release, known)
    return known


async def _tried(host: Host, program: Path, version: Version) -> Platform:
    refused = {}
    for name in (SYSTRAP, KVM, PTRACE):
        if why := await _hopeless(host, name, version) or await _failure(host, program, name, version):
            refused[name] = why
        else:
            return Platform(name, version, refused)
    return Platform("", version, refused)


async def _hopeless(host: Host, name: str, version: Version) -> str:
    """Why it need not be tried; empty: it is worth a trial."""
    if name == SYSTRAP and not version.has_systrap:
        return "this version does not have it"
    if name == KVM and not await host.files.exists(Path("/dev/kvm")):
        return "there is no /dev/kvm"
    if name == KVM and b" hypervisor" in await _cpuinfo(host):
        return "this host is itself a virtual machine, where it hangs or is slower than the others"
    return ""


async def _cpuinfo(host: Host) -> bytes:
    try:
        return await host.files.read(Path("/proc/cpuinfo"), 8192)
    except IsolaError:
        return b""


async def _failure(host: Host, program: Path, name: str, version: Version) -> str:
    """Runs a program; returns why that did not work. All its processes end with this, since they are in a PID namespace
    of their own.
    """
    bundle = Path(f"/run/isola-trial-{host.clock.token(8)}")
    # An overlay, and a read-only root, would make it remount the root without the flags of /run, where that is mounted
    # noexec, as by Debian's initramfs: in its user namespace it may not.
    plain = ["--overlay2=none"] if version.has_systrap else []
    argv = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        str(program), "--root", str(bundle / "state"), f"--platform={name}", "--network=none", "--ignore-cgroups",
        *plain, "run", "--bundle", str(bundle), "trial",
    ]  # fmt: skip
    try:
        await host.files.make_directory(bundle, mode=0o700)
        await host.files.make_directory(bundle / "root", mode=0o755)
        await host.files.write(bundle / "config.json", json.dumps(_config(bundle, program)).encode(), durable=False)
        done = await host.processes.run(argv, timeout=_TIMEOUT, check=False)
        if done.status == 0 and done.stdout.decode(errors="replace").startswith(_RELEASE):
            return ""
        return done.stderr.decode(errors="replace").strip()[-300:] or f"a trial ended with status {done.status}"
    except IsolaError as error:
        return str(error)
    finally:
        await host.files.remove_tree(bundle)


def _config(bundle: Path, program: Path) -> dict[str, object]:
    """Runs runsc itself: a program that is there and needs no other file."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(bundle / "root"), "readonly": False},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/runsc", "--version"], "cwd": "/", "env": []},
        "mounts": [{"destination": "/runsc", "type": "bind", "source": str(program), "options": ["bind", "ro"]}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
    }


async def _known(host: Host, release: str) -> Platform | None:
    try:
        found = json.loads(await host.files.read(KNOWN, 65536))
        if (found["boot"], found["release"]) == (host.system.boot_id(), release):
            return Platform(str(found["name"]), Version.read(release), dict(found["refused"]))
    except (NotFound, ValueError, KeyError, TypeError):
        pass
    return None


async def _keep(host: Host, release: str, found: Platform) -> None:
    """A platform that works; a failure may have been one of the moment."""
    if not found.name:
        return
    text = {"boot": host.system.boot_id(), "release": release, "name": found.name, "refused": dict(found.refused)}
    await host.files.write(KNOWN, json.dumps(text).encode(), durable=False)
