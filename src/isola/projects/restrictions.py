"""Which configuration the instances and profiles of a restricted project may have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import PurePosixPath

from isola.devices.image_sources import image_name
from isola.errors import Forbidden
from isola.model.instance import Config, Devices
from isola.model.project import Project
from isola.projects.limits import limit
from isola.projects.settings import DEVICES, SETTINGS, network_subnets
from isola.settings import boolean

PRIVILEGED = "security.privileged"
"""Key of the server."""
_PRIVILEGES = ("security.privileged", "isola.privileged")
_LOWLEVEL = ("raw.", "linux.kernel_modules", "boot.host_shutdown_action")


def restricted(project: Project) -> bool:
    return boolean(project.config.get("restricted") or "false")


def check(project: Project, config: Config, devices: Devices, *, privileged: bool = False) -> None:
    """Raise Forbidden that names the responsible key of the project, or of the server where it is not restricted.

    ``privileged``: whether the server permits privileged instances in projects that are not restricted.
    """
    if not restricted(project):
        if not privileged:
            _check_privileges(config)
        return
    for key, value in config.items():
        _check_key(project, key, value)
    for name, device in devices.items():
        _check_device(project, name, device)


def check_isolation(project: Project, isolation: str) -> None:
    """Raise Forbidden for a kind of isolation that instances of a restricted project may not have."""
    allowed = _listed(project, "restricted.isolation") if restricted(project) else []
    if allowed and isolation not in allowed:
        raise _forbidden(project, f"Isolation {isolation!r}", "restricted.isolation", "isolation")


def check_pool(project: Project, pool: str, field: str) -> None:
    """Raise Forbidden for a pool that a restricted project may not use."""
    pools = _listed(project, "restricted.storage-pools.access") if restricted(project) else []
    if pools and pool not in pools:
        raise _forbidden(project, f"Pool {pool!r}", "restricted.storage-pools.access", field)


def check_volume(project: Project, config: Config) -> None:
    """Raise Forbidden for a volume that stands for a path of the host which a disk could not have as its source."""
    path, key = config.get("mount.source", ""), "restricted.devices.disk"
    if not path.startswith("/") or not restricted(project):
        return
    if _value(project, key) != "allow":
        raise _forbidden(project, "A volume of a path of the host", key, "config.mount.source")
    paths = _listed(project, f"{key}.paths")
    if paths and not any(_below(path, each) for each in paths):
        raise _forbidden(project, "A volume of this path", f"{key}.paths", "config.mount.source")


def shows_network(project: Project, name: str, *, managed: bool) -> bool:
    """Whether a project sees a network, which is one that its NICs may use."""
    if not restricted(project):
        return True
    rule, networks = _value(project, "restricted.devices.nic"), _listed(project, "restricted.networks.access")
    return rule != "block" and (managed or rule == "allow") and (not networks or name in networks)


def shows_pool(project: Project, name: str) -> bool:
    """Whether a project sees a pool: not if it may have nothing there."""
    pools = _listed(project, "restricted.storage-pools.access") if restricted(project) else []
    return limit(project, f"limits.disk.pool.{name}") != 0 and (not pools or name in pools)


def allows(project: Project, key: str) -> bool:
    """Whether a key such as ``restricted.snapshots`` allows it."""
    return not restricted(project) or _value(project, key) == "allow"


def disk_paths(project: Project) -> tuple[str, ...]:
    """Directories of the host to which sources of disks are limited; empty if there is no limit."""
    return tuple(_listed(project, "restricted.devices.disk.paths")) if restricted(project) else ()


def _check_privileges(config: Config) -> None:
    for key, value in config.items():
        if _reaches_host(key, value):
            raise Forbidden(
                f"Key {key!r} with this value gives access to the host",
                field=f"config.{key}",
                remedy=f"an administrator can allow it by {PRIVILEGED} of the server, or in a restricted project",
            )


def _reaches_host(key: str, value: str) -> bool:
    """Whether an instance with this value can do what is otherwise reserved for administrators of the host."""
    if key in (*_PRIVILEGES, "isola.devices.host"):
        return boolean(value or "false")
    if key == "isola.devices.allow":
        return any(rule.split()[0] == "a" for rule in value.split(",") if rule.strip())
    return key.startswith("isola.namespaces.") and value == "host"


def _is_low_level(key: str, value: str) -> bool:
    """Keys with which an instance comes closer to the kernel than others."""
    if key == "isola.seccomp":
        return value != "default"
    if key == "isola.sandbox.network":
        return value == "host"
    if key == "isola.oom.score_adj":
        return value.startswith("-")
    return key.startswith((*_LOWLEVEL, "isola.paths.", "isola.devices.allow")) or _reaches_host(key, value)


def _value(project: Project, key: str) -> str:
    row = SETTINGS.find(key)
    return project.config.get(key) or (row.default if row is not None else "") or ""


def _check_key(project: Project, key: str, value: str) -> None:
    by = ""
    if key == "security.nesting" and boolean(value or "false"):
        by = "restricted.containers.nesting"
    elif key in _PRIVILEGES and boolean(value or "false"):
        by = "restricted.containers.privilege"
    elif value and _is_low_level(key, value):
        by = "restricted.containers.lowlevel"
    elif key.startswith("security.syscalls.intercept"):
        by = "restricted.containers.interception"
    if by and _value(project, by) != "allow":
        raise _forbidden(project, f"Key {key!r}", by, f"config.{key}")


def _check_device(project: Project, name: str, device: Mapping[str, str]) -> None:
    kind, where = device.get("type", ""), f"devices.{name}"
    if kind == "disk":
        _check_disk(project, where, device)
    elif kind == "nic":
        _check_nic(project, where, device)
    elif kind in DEVICES and not allows(project, f"restricted.devices.{kind}"):
        raise _forbidden(project, f"A device of type {kind}", f"restricted.devices.{kind}", where)


def _check_disk(project: Project, where: str, device: Mapping[str, str]) -> None:
    key = "restricted.devices.disk"
    rule = _value(project, key)
    if pool := device.get("pool"):
        check_pool(project, pool, where)
    if device.get("path") == "/" and not device.get("source"):
        return
    managed = bool(device.get("pool") or image_name(device))
    if rule == "block" or (rule == "managed" and not managed):
        raise _forbidden(project, "Such a disk", key, where)
    paths = _listed(project, f"{key}.paths")
    if paths and not managed and not any(_below(device.get("source", ""), path) for path in paths):
        raise _forbidden(project, "A disk with this source", f"{key}.paths", where)


def _check_nic(project: Project, where: str, device: Mapping[str, str]) -> None:
    key = "restricted.devices.nic"
    rule = _value(project, key)
    if rule == "block" or (rule == "managed" and not device.get("network")):
        raise _forbidden(project, "Such a NIC", key, where)
    if rule == "managed" and device.get("host_name"):
        raise _forbidden(project, "Naming a link of the host", key, f"{where}.host_name")
    if rule == "managed" and device.get("limits.priority"):
        raise _forbidden(project, "Priority in queues of the host", key, f"{where}.limits.priority")
    _check_routes(project, where, device, free=rule == "allow")
    networks, name = _listed(project, "restricted.networks.access"), device.get("network") or device.get("parent")
    if networks and name not in networks:
        raise _forbidden(project, f"Network {name!r}", "restricted.networks.access", where)


def _check_routes(project: Project, where: str, device: Mapping[str, str], *, free: bool) -> None:
    key = "restricted.networks.subnets"
    if free and not project.config.get(key):
        return
    name = device.get("network") or device.get("parent")
    try:
        listed = network_subnets(project.config.get(key) or "")
    except ValueError:  # also what an earlier version has accepted without effect
        listed = []
    own = [subnet for network, subnet in listed if network == name]
    for version in (4, 6):
        for text in device.get(f"ipv{version}.routes", "").split(","):
            if text.strip() and not any(_within(text.strip(), each) for each in own):
                raise _forbidden(project, f"A route to {text.strip()[:60]}", key, f"{where}.ipv{version}.routes")


def _within(text: str, subnet: IPv4Network | IPv6Network) -> bool:
    try:
        wanted = ip_network(text)
    except ValueError:
        return False
    return wanted.version == subnet.version and wanted.subnet_of(subnet)  # type: ignore[arg-type]


def _below(path: str, place: str) -> bool:
    """Lexically, without resolving links; false for a path with ``..``."""
    return ".." not in PurePosixPath(path).parts and PurePosixPath(path).is_relative_to(place)


def _listed(project: Project, key: str) -> list[str]:
    return [part.strip() for part in project.config.get(key, "").split(",") if part.strip()]


def _forbidden(project: Project, what: str, key: str, field: str) -> Forbidden:
    return Forbidden(
        f"{what} is not allowed in project {project.name!r}", field=field, remedy=f"see {key} of the project"
    )
