"""Configuration keys of projects, as in the LXD and Incus APIs."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from isola.errors import InvalidInput
from isola.model.isolation import ISOLATIONS
from isola.model.names import network_name
from isola.model.project import FEATURES
from isola.model.units import parse_size
from isola.settings import Setting, Settings, boolean, one_of, text, whole

_BLOCK = one_of("allow", "block")
_MANAGED = one_of("allow", "block", "managed")


def _isolations(value: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if any(each not in ISOLATIONS for each in found):
        raise ValueError("kinds of isolation, separated by commas, are expected")
    return found


_COUNTS = {
    "instances": "Maximum number of instances.",
    "containers": "Maximum number of containers.",
    "virtual-machines": "Maximum number of virtual machines.",
    "networks": "Maximum number of networks.",
    "cpu": "Limit on the sum of `limits.cpu` of its instances, which must all have one.",
    "processes": "Limit on the sum of `limits.processes` of its instances, which must all have one.",
}
_SIZES = {
    "memory": "Limit on the sum of `limits.memory` of its instances, which must all have one, as a size.",
    "disk": "Limit on the total size of root disks, custom volumes and images; all disks and volumes must have a size.",
    "disk.pool.*": "The same for root disks and volumes in the pool of that name.",
}
_NOTHING_YET = {
    "networks.uplinks": "Networks that its networks may use as uplink.",
    "networks.zones": "DNS zones that its networks may use.",
    "cluster.groups": "Cluster groups on which its instances may run.",
}
DEVICES = ("gpu", "infiniband", "pci", "proxy", "unix-block", "unix-char", "unix-hotplug", "usb")
"""Types of devices that a restricted project may have only if a key allows it."""


def _ranges(value: str) -> str:
    """Ids and ranges of ids such as ``1000,2000-2999``."""
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError("ids and ranges of ids such as 1000,2000-2999 are expected")
        if dash and int(last) < int(first):
            raise ValueError("ranges whose end is not before their start are expected")
    return value


def network_subnets(value: str) -> list[tuple[str, IPv4Network | IPv6Network]]:
    """Names of networks, each with a subnet."""
    found = []
    for part in value.split(","):
        name, _, subnet = part.strip().partition(":")
        try:
            found.append((network_name(name), ip_network(subnet)))
        except (InvalidInput, ValueError) as error:
            raise ValueError("subnets as NETWORK:SUBNET, separated by commas, are expected") from error
    return found


_LOWLEVEL = (
    "Whether `raw.*`, `isola.seccomp`, `isola.paths.*`, `isola.devices.allow`, a negative `isola.oom.score_adj`, "
    "`isola.sandbox.network=host` and namespaces of the host may be set."
)
SETTINGS = Settings(
    "project",
    *(
        Setting(key, boolean, f"Whether it has its own {key.partition('.')[2]}.", str(on).lower())
        for key, on in FEATURES.items()
    ),
    *(Setting(f"limits.{key}", whole(0), help, live=True) for key, help in _COUNTS.items()),
    *(Setting(f"limits.{key}", parse_size, help, live=True) for key, help in _SIZES.items()),
    Setting("restricted", boolean, "Whether the other `restricted.*` keys apply.", "false", live=True),
    Setting("restricted.containers.nesting", _BLOCK, "Whether `security.nesting` may be set.", "block", live=True),
    Setting("restricted.containers.lowlevel", _BLOCK, _LOWLEVEL, "block", live=True),
    Setting(
        "restricted.containers.interception", _BLOCK, "Whether `security.syscalls.*` may be set.", "block", live=True
    ),
    Setting(
        "restricted.containers.privilege",
        one_of("allow", "isolated", "unprivileged"),
        "`allow`: containers may be privileged; `isolated`: each must have its own ids.",
        "unprivileged",
        live=True,
    ),
    Setting(
        "restricted.virtual-machines.lowlevel",
        _BLOCK,
        "Whether `raw.*` of virtual machines may be set.",
        "block",
        live=True,
    ),
    Setting(
        "restricted.isolation",
        _isolations,
        "Kinds of isolation that its instances may have, separated by commas; by default all.",
        live=True,
        expects=f"a list of {', '.join(ISOLATIONS)}",
    ),
    Setting(
        "restricted.devices.disk",
        _MANAGED,
        "`managed`: only volumes of pools and contents of images, neither paths of the host nor `tmpfs:`; `block`: only"
        " the root.",
        "managed",
        live=True,
    ),
    Setting(
        "restricted.devices.disk.paths",
        text,
        "Paths of the host below which the sources of disks must be, separated by commas.",
        live=True,
    ),
    Setting(
        "restricted.devices.nic", _MANAGED, "`managed`: only on managed networks; `block`: none.", "managed", live=True
    ),
    *(
        Setting(f"restricted.devices.{kind}", _BLOCK, f"Devices of type `{kind}`.", "block", live=True)
        for kind in DEVICES
    ),
    Setting(
        "restricted.networks.access",
        text,
        "Names of the networks that its NICs may use, separated by commas.",
        live=True,
    ),
    Setting(
        "restricted.storage-pools.access", text, "Names of the pools that it may use, separated by commas.", live=True
    ),
    Setting(
        "restricted.networks.subnets",
        network_subnets,
        "Subnets that may be routed to its NICs (`ipv4.routes`, `ipv6.routes`), as NETWORK:SUBNET, by commas; by"
        " default none.",
        live=True,
        expects="a list of NETWORK:SUBNET such as isolabr0:192.0.2.0/28",
    ),
    *(
        Setting(
            f"restricted.{key}", text, f"{help} Accepted without effect: Isola does not support these yet.", live=True
        )
        for key, help in _NOTHING_YET.items()
    ),
    *(
        Setting(
            f"restricted.idmap.{kind}",
            _ranges,
            f"Ranges of the host's {kind}s that `raw.idmap` may use. No effect: Isola has no `raw.idmap`.",
            live=True,
        )
        for kind in ("uid", "gid")
    ),
    Setting(
        "restricted.cluster.target",
        _BLOCK,
        "Whether clients may select a cluster member for an instance.",
        "block",
        live=True,
    ),
    Setting("restricted.backups", _BLOCK, "Whether backups may be made.", "block", live=True),
    Setting("restricted.snapshots", _BLOCK, "Whether snapshots (of volumes, too) may be made.", "block", live=True),
    Setting("user.*", text, "User-defined, not interpreted.", live=True),
)
