"""The plan of a guest's first process, from its RunSpec. Pure."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from isola.errors import Unsupported
from isola.runtimes.agent.body import Writer
from isola.runtimes.agent.methods import GuestMount, write_mount, write_program
from isola.runtimes.spec import DeviceNode, Mount, RunSpec
from isola.runtimes.users import User

RDONLY, NOSUID, NODEV, NOEXEC, BIND = 1, 2, 4, 8, 4096
"""Flags of mount(2)."""
_NONE = NOSUID | NODEV | NOEXEC
_SYSTEM, _POWER_OFF = 1, 8
_FLAGS = {"ro": RDONLY, "rw": 0, "nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC, "relatime": 1 << 21}
_NO_LIMIT = 2**64 - 1
VIRTIOFS_ROOT = GuestMount("root", "", "virtiofs")
"""The shared directory with the tag ``root``."""


@dataclass(frozen=True, slots=True)
class Console:
    """Names of virtio-serial ports, or paths of devices inside, for the first process; empty: none.

    With a terminal, only ``output`` is used, in both directions.
    """

    input: str = ""
    output: str = ""
    error: str = ""


def plan_of(
    spec: RunSpec, user: User, console: Console, root: GuestMount = VIRTIOFS_ROOT, *, power_off: bool = True
) -> Writer:
    """The body for ``PREPARE``. Raises Unsupported for a mount of a kind that a guest does not make itself.

    Mounts of the host's directories are not in it: they are below the shared root.
    """
    body = Writer()
    write_program(
        body,
        spec.command,
        _environment(spec, user),
        spec.cwd,
        (user.uid, user.gid, user.groups),
        terminal=spec.terminal,
        size=(80, 25),
    )
    body.number("B", (_SYSTEM if spec.system else 0) | (_POWER_OFF if power_off else 0))
    body.number("q", -1 if spec.umask is None else spec.umask).number("I", spec.stop_signal).text(spec.hostname)
    flags = root.flags | (RDONLY if spec.root.read_only else 0)
    write_mount(body, GuestMount(root.source, root.target, root.kind, flags, root.options))
    body.items(_mounts(spec) if root.kind else (), write_mount)
    body.items(spec.files.items(), _write_file)
    body.items(_sysctls(spec).items(), lambda inner, pair: inner.text(pair[0]).text(pair[1]))
    body.items(sorted(spec.ulimits.items()), _write_limit)
    body.items(spec.devices, _write_device)
    return body.text(console.input).text(console.output).text(console.error)


def _environment(spec: RunSpec, user: User) -> dict[str, str]:
    if spec.system:
        defaults = {"TERM": "linux"}
    else:
        defaults = {"HOSTNAME": spec.hostname, **({"TERM": "xterm"} if spec.terminal else {})}
    return {**defaults, **spec.environment, "HOME": spec.environment.get("HOME") or user.home}


def _mounts(spec: RunSpec) -> Iterator[GuestMount]:
    memory = spec.shared_memory or spec.tmpfs
    terminals = f",max={spec.terminals}" if spec.terminals else ""
    yield GuestMount("proc", "/proc", "proc", _NONE)
    yield GuestMount("sysfs", "/sys", "sysfs", _NONE)
    yield GuestMount("cgroup2", "/sys/fs/cgroup", "cgroup2", _NONE)
    yield GuestMount("devtmpfs", "/dev", "devtmpfs", NOSUID, "mode=0755")
    yield GuestMount("devpts", "/dev/pts", "devpts", NOSUID | NOEXEC, f"ptmxmode=0666,mode=0620,gid=5{terminals}")
    yield GuestMount("tmpfs", "/dev/shm", "tmpfs", NOSUID | NODEV, "mode=1777" + (f",size={memory}" if memory else ""))
    yield GuestMount("mqueue", "/dev/mqueue", "mqueue", _NONE)
    if spec.system:
        room = f",size={spec.tmpfs}" if spec.tmpfs else ""
        yield GuestMount("tmpfs", "/run", "tmpfs", NOSUID | NODEV, "mode=0755" + room)
        yield GuestMount("tmpfs", "/run/lock", "tmpfs", _NONE, "mode=1777,size=5m")
    yield from own_mounts(spec)


def own_mounts(spec: RunSpec) -> Iterator[GuestMount]:
    """Those of the spec that are none of the host's files. Raises Unsupported."""
    for mount in spec.mounts:
        if mount.kind != "bind":
            yield _own(mount)


def _own(mount: Mount) -> GuestMount:
    if mount.kind not in ("tmpfs", "proc", "sysfs", "mqueue", "ramfs"):
        raise Unsupported(f"A guest with its own kernel does not mount {mount.kind!r} at {mount.target!r}")
    flags = NOSUID | NODEV | (RDONLY if mount.read_only else 0)
    options = []
    for option in mount.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option == "exec":
            flags &= ~NOEXEC
        else:
            options.append(option)
    return GuestMount(mount.kind, mount.target, mount.kind, flags, ",".join(options))


def _sysctls(spec: RunSpec) -> Mapping[str, str]:
    """As in containers: all groups may ping and all users may bind port 80."""
    ours = {} if spec.system else {"net.ipv4.ping_group_range": "0 65535", "net.ipv4.ip_unprivileged_port_start": "0"}
    return {**ours, **spec.sysctls}


def _write_file(writer: Writer, file: tuple[str, str]) -> None:
    writer.text(file[0]).number("I", 0o644).text(file[1])


def _write_limit(writer: Writer, limit: tuple[str, tuple[int, int]]) -> None:
    name, values = limit
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if number is None:
        raise Unsupported(f"There is no limit {name!r}")
    writer.number("IQQ", number, *(value if value >= 0 else _NO_LIMIT for value in values))


def _write_device(writer: Writer, device: DeviceNode) -> None:
    writer.text(device.path).number("B", ord(device.kind))
    writer.number("IIIII", device.major, device.minor, device.mode, device.uid, device.gid)
