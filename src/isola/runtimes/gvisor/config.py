"""The OCI configuration as gVisor understands it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_MOUNTED = frozenset({"bind", "proc", "sysfs", "tmpfs", "devpts"})
"""File systems that it can mount, of those in our configurations."""
_OF_TMPFS = ("size=", "mode=", "ro", "rw", "nosuid", "nodev", "noexec", "noatime")
_UNKNOWN = frozenset({"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"})
"""Capabilities that are newer than the kernel that it imitates."""
_TMP = "/tmp"
_NAMESPACES = frozenset({"user", "pid", "mount", "uts", "ipc", "network"})


def adapted(config: Mapping[str, object]) -> dict[str, object]:
    """Without what only the host's kernel knows: its cgroups, lxcfs, and the usual filter of its system calls."""
    linux = config["linux"]
    mounts = config["mounts"]
    assert isinstance(linux, dict) and isinstance(mounts, list)
    process = config["process"]
    assert isinstance(process, dict)
    kept = {key: linux[key] for key in ("uidMappings", "gidMappings", "maskedPaths", "readonlyPaths") if key in linux}
    if isinstance(found := linux.get("seccomp"), dict) and found["defaultAction"] != "SCMP_ACT_ALLOW":
        kept["seccomp"] = {key: value for key, value in found.items() if key != "flags"}
    namespaces = [_namespace(each) for each in linux["namespaces"] if each["type"] in _NAMESPACES]
    return {
        **config,
        "process": process | {"capabilities": _capabilities(process["capabilities"])},
        "mounts": [*_kept_tmp(mounts), *(_mount(each) for each in mounts if _is_known(each))],
        "linux": {**kept, "namespaces": namespaces, "resources": {}},
    }


def _capabilities(sets: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {kind: [name for name in names if name not in _UNKNOWN] for kind, names in sets.items()}


def _namespace(namespace: Mapping[str, str]) -> dict[str, str]:
    """It cannot join a user namespace, having several threads, and creates one with the mappings itself."""
    return {"type": "user"} if namespace["type"] == "user" else dict(namespace)


def _is_known(mount: Mapping[str, object]) -> bool:
    return mount["type"] in _MOUNTED and not _of_kernel(mount)


def _kept_tmp(mounts: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Over an empty /tmp it would mount memory of its own, whose files cannot be seen from outside.

    It does not where the configuration has a mount, and it ignores mounts of a kind that it does not know.
    """
    if any(mount["destination"] == _TMP for mount in mounts):
        return []
    return [{"destination": _TMP, "type": "kept", "source": "none", "options": []}]


def _of_kernel(mount: Mapping[str, object]) -> bool:
    """Files of lxcfs: it has its own ones, which show what the instance uses."""
    return mount["type"] == "bind" and str(mount["destination"]).startswith(("/proc/", "/sys/"))


def _mount(mount: Mapping[str, object]) -> dict[str, object]:
    options = mount["options"]
    assert isinstance(options, list)
    if mount["type"] == "tmpfs":
        options = [each for each in options if each.startswith(_OF_TMPFS)]
    return {**mount, "options": options}
