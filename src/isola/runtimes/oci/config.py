"""A RunSpec as the ``config.json`` of an OCI bundle. Pure: properties of the host are passed as ``Surroundings``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isola.model.capabilities import granted
from isola.model.confinement import UNCONFINED
from isola.model.identity import PRIVILEGED
from isola.model.network import HostNetwork, NetworkNamespace
from isola.runtimes import seccomp_profile
from isola.runtimes.oci.allowing import allowing
from isola.runtimes.oci.mounts import (
    MASKED,
    READ_ONLY,
    READ_ONLY_FOR_APPLICATIONS,
    SHARED_MEMORY,
    Outside,
    mounts,
)
from isola.runtimes.oci.seccomp import profile
from isola.runtimes.spec import DeviceNode, ExecSpec, Mount, RunSpec, Shareable
from isola.runtimes.users import User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("pid", "mount", "uts", "ipc", "cgroup")
# mknod is denied in a user namespace, but an image may contain device nodes: only these can be opened.
_DEVICES = (
    ("c", 1, 3),  # null
    ("c", 1, 5),  # zero
    ("c", 1, 7),  # full
    ("c", 1, 8),  # random
    ("c", 1, 9),  # urandom
    ("c", 5, 0),  # tty
    ("c", 5, 1),  # console
    ("c", 5, 2),  # ptmx
    ("c", 136, None),  # pts/*
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Properties of the host that the configuration needs."""

    architecture: str
    release: tuple[int, int]
    """Of the kernel."""
    bounding: frozenset[str]
    cgroup: str
    user_namespace: Path
    """The file of the instance's user namespace."""
    groups: Path | None = None
    """Where the host has mounted cgroup v2."""
    joined: Mapping[str, Path] = field(default_factory=dict)
    """Files of existing namespaces to join, by kind (``pid``, ``network``)."""
    seen: Callable[[Path], Path] = field(default=lambda path: path)
    """Maps a path of the host to the path that the engine sees."""
    lxcfs_files: tuple[str, ...] = ()
    file: Callable[[str], Path] = field(default=Path)
    """Maps the path of one of the run's files to where it is on the host."""
    limit_devices: bool = True
    reports_refusals: bool = False
    """The engine can ask the kernel to report refused system calls."""


def bundle(spec: RunSpec, user: User, host: Surroundings) -> dict[str, object]:
    """The whole ``config.json``."""
    # With that of others the engine would change their name.
    own_name = not {Shareable.UTS} & {*spec.host_namespaces, *spec.shares}
    return {
        "ociVersion": "1.0.2",
        **({"hostname": spec.hostname} if own_name else {}),
        "root": {"path": str(host.seen(spec.root.path)), "readonly": False},
        "process": _first_process(spec, user, host),
        "mounts": [
            *mounts(
                system=spec.system,
                outside=_outside(spec, host),
                privileged=spec.idmap == PRIVILEGED,
                tmpfs=spec.tmpfs,
                shared_memory=spec.shared_memory,
                terminals=spec.terminals,
                lxcfs=host.seen(spec.lxcfs) if spec.lxcfs is not None else None,
                lxcfs_files=host.lxcfs_files,
            ),
            *(_file(path, spec, host) for path in spec.files if path not in spec.late_files),
            *(_mount(each, host) for each in spec.mounts),
        ],
        "linux": _linux(spec, host),
    }


def given(spec: RunSpec, groups: Path | None = None) -> list[Path]:
    """Paths of the host that an engine needs, without duplicates; ``groups`` is where cgroup v2 is mounted."""
    binds = (Path(mount.source) for mount in spec.mounts if mount.kind == "bind")
    lxcfs = () if spec.lxcfs is None else (spec.lxcfs,)
    memory = (SHARED_MEMORY,) if Shareable.IPC in spec.host_namespaces else ()
    tree = (groups,) if groups is not None and Shareable.CGROUP in spec.host_namespaces else ()
    return list(dict.fromkeys([spec.root.path, *lxcfs, *memory, *tree, *binds]))


def exec_process(spec: ExecSpec, base: Mapping[str, object]) -> dict[str, object]:
    """The process entry of a command, with the same confinement as the first process, ``base``."""
    process: dict[str, object] = {
        key: base[key]
        for key in ("capabilities", "noNewPrivileges", "apparmorProfile", "oomScoreAdj", "rlimits")
        if key in base
    }
    process |= {
        "terminal": spec.terminal,
        "user": _user(User(spec.user, spec.group, spec.groups)),
        "args": list(spec.command),
        "env": environment(spec.environment),
        "cwd": spec.cwd or "/",
    }
    if spec.capabilities is not None:
        process["capabilities"] = {kind: list(spec.capabilities) for kind in ("bounding", "effective", "permitted")}
    if spec.terminal and spec.width > 0 and spec.height > 0:
        process["consoleSize"] = {"width": spec.width, "height": spec.height}
    return process


def environment(values: Mapping[str, str], **defaults: str) -> list[str]:
    """``NAME=value`` strings, always including PATH."""
    return [f"{name}={value}" for name, value in {"PATH": PATH, **defaults, **values}.items()]


def _at_home(values: Mapping[str, str], user: User) -> dict[str, str]:
    return {**values, "HOME": values.get("HOME") or user.home}


def _first_process(spec: RunSpec, user: User, host: Surroundings) -> dict[str, object]:
    if spec.system:
        # Init systems and package scripts recognise a fixed list of values; with any other value some of them probe
        # hardware. This one was established by LXC for system containers.
        defaults = {"TERM": "linux", "container": "lxc"}
    else:
        defaults = {"HOSTNAME": spec.hostname, **({"TERM": "xterm"} if spec.terminal else {})}
    capabilities = _capabilities(spec, host)
    process: dict[str, object] = {
        "terminal": spec.terminal,
        "user": _user(user),
        "args": list(spec.command),
        "env": environment(_at_home(spec.environment, user), **defaults),
        "cwd": spec.cwd or "/",
        "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
        "noNewPrivileges": spec.confinement.no_new_privileges,
    }
    if spec.umask is not None:
        process["user"] = _user(user) | {"umask": spec.umask}
    if spec.terminal:
        process["consoleSize"] = dict(zip(("width", "height"), spec.console, strict=True))
    if spec.ulimits:
        process["rlimits"] = [
            {"type": f"RLIMIT_{name.upper()}", "soft": _most(soft), "hard": _most(hard)}
            for name, (soft, hard) in sorted(spec.ulimits.items())
        ]
    if "CAP_SYS_RESOURCE" in host.bounding:  # without it the kernel refuses to lower the score
        process["oomScoreAdj"] = spec.oom_score_adj or 0
    elif spec.oom_score_adj is not None and spec.oom_score_adj > 0:
        process["oomScoreAdj"] = spec.oom_score_adj
    return process


def _capabilities(spec: RunSpec, host: Surroundings) -> list[str]:
    wanted = spec.confinement
    return list(granted(system=spec.system, bounding=host.bounding, add=wanted.add, drop=wanted.drop))


def _filter(spec: RunSpec, host: Surroundings) -> dict[str, object] | None:
    # It is asked for to mount and to make namespaces, which root of a system container may do as well.
    system = spec.system or "CAP_SYS_ADMIN" in _capabilities(spec, host)
    if names := spec.confinement.system_calls:
        return allowing(names, system=system, architecture=host.architecture, report=host.reports_refusals)
    wanted = spec.confinement.seccomp
    if not wanted:
        return profile(system=system, architecture=host.architecture)
    if wanted == UNCONFINED:
        return None
    return seccomp_profile.of_instance(
        wanted, capabilities=_capabilities(spec, host), architecture=host.architecture, release=host.release
    )


def _paths(chosen: Sequence[str] | None, default: Sequence[str]) -> list[str]:
    return list(default if chosen is None else chosen)


def _linux(spec: RunSpec, host: Surroundings) -> dict[str, object]:
    assert spec.idmap is not None
    linux: dict[str, object] = {
        "namespaces": [*_namespaces(spec, host)],
        "cgroupsPath": host.cgroup,
        "resources": {"devices": _device_rules(spec)} if host.limit_devices else {},
        "maskedPaths": _paths(spec.confinement.masked, MASKED),
        "readonlyPaths": _paths(spec.confinement.read_only, READ_ONLY if spec.system else READ_ONLY_FOR_APPLICATIONS),
    }
    if spec.idmap != PRIVILEGED:
        mapping = [{"containerID": 0, "hostID": spec.idmap.base, "size": spec.idmap.size}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    if (seccomp := _filter(spec, host)) is not None:
        linux["seccomp"] = seccomp
    # All groups may ping and all users may bind port 80, since the instance has its own network namespace.
    shared = spec.system or isinstance(spec.network, HostNetwork)
    ours = {} if shared else {"net.ipv4.ping_group_range": "0 65535", "net.ipv4.ip_unprivileged_port_start": "0"}
    if sysctls := {**ours, **spec.sysctls}:
        linux["sysctl"] = sysctls
    if spec.devices:
        linux["devices"] = [
            {
                "path": device.path,
                "type": device.kind,
                "major": device.major,
                "minor": device.minor,
                "fileMode": device.mode,
                "uid": device.uid,
                "gid": device.gid,
            }
            for device in spec.devices
        ]
    return linux


def _namespaces(spec: RunSpec, host: Surroundings) -> Iterator[dict[str, str]]:
    if spec.idmap != PRIVILEGED:
        # Created before: a namespace that the engine creates belongs to the host's root, whose limits are shared by
        # all.
        yield {"type": "user", "path": str(host.user_namespace)}
    not_own = {kind.value for kind in spec.host_namespaces}
    yield from (_namespace(name, host) for name in _NAMESPACES if name not in not_own)
    if not isinstance(spec.network, HostNetwork):
        yield _network(spec, host)


def _outside(spec: RunSpec, host: Surroundings) -> Outside:
    return Outside(
        processes=Shareable.PID in spec.host_namespaces,
        # The host's root may mount it: without what the host has mounted below, such as its control groups.
        network=isinstance(spec.network, HostNetwork) and spec.idmap != PRIVILEGED,
        memory=host.seen(SHARED_MEMORY) if Shareable.IPC in spec.host_namespaces else None,
        groups=host.seen(host.groups) if host.groups and Shareable.CGROUP in spec.host_namespaces else None,
    )


def _namespace(name: str, host: Surroundings) -> dict[str, str]:
    joined = host.joined.get(name)
    return {"type": name} if joined is None else {"type": name, "path": str(joined)}


def _mount(mount: Mount, host: Surroundings) -> dict[str, object]:
    bind = mount.kind == "bind"
    options = [("rbind" if mount.recursive else "bind")] if bind else []
    options += ["ro" if mount.read_only else "rw", "nosuid", "nodev"]
    options += [("r" if mount.recursive else "") + mount.propagation, *mount.options]
    source = str(host.seen(Path(mount.source))) if bind else mount.kind
    return {"destination": mount.target, "type": mount.kind, "source": source, "options": options}


def _file(path: str, spec: RunSpec, host: Surroundings) -> dict[str, object]:
    options = ["bind", "ro" if spec.root.read_only else "rw", "nosuid", "nodev", "noexec", "private"]
    return {"destination": path, "type": "bind", "source": str(host.file(path)), "options": options}


def _most(limit: int) -> int:
    """The value for setrlimit(2): RLIM_INFINITY for no limit."""
    return limit if limit >= 0 else 2**64 - 1


def _network(spec: RunSpec, host: Surroundings) -> dict[str, str]:
    if spec.network is None:
        return {"type": "network"}
    assert isinstance(spec.network, NetworkNamespace)
    return {"type": "network", "path": str(host.joined.get("network", spec.network.path))}


def device_rules(devices: Sequence[DeviceNode] = (), more: Sequence[str] = ()) -> list[str]:
    """The same rules in the notation of cgroup v1."""
    own = (f"{kind} {major}:{'*' if minor is None else minor} rwm" for kind, major, minor in _allowed(devices))
    return [*own, *more]


def _allowed(devices: Sequence[DeviceNode]) -> list[tuple[str, int, int | None]]:
    return [*_DEVICES, *((device.kind, device.major, device.minor) for device in devices)]


def _device_rules(spec: RunSpec) -> list[dict[str, object]]:
    rules = device_rules(spec.devices, spec.confinement.device_rules)
    return [{"allow": False, "access": "rwm"}, *map(_rule, rules)]


def _rule(text: str) -> dict[str, object]:
    kind, numbers, access = text.split()
    rule: dict[str, object] = {"allow": True, "type": kind, "access": access}
    for name, number in zip(("major", "minor"), numbers.split(":"), strict=True):
        if number != "*":
            rule[name] = int(number)
    return rule


def _user(user: User) -> dict[str, object]:
    return {"uid": user.uid, "gid": user.gid, "additionalGids": list(dict.fromkeys((user.gid, *user.groups)))}
