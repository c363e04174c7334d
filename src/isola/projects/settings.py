"""Configuration keys of projects, as in the LXD and Incus APIs."""

from __future__ import annotations

from isola.model.project import FEATURES
from isola.model.units import parse_size
from isola.settings import Setting, Settings, boolean, one_of, text, whole

_BLOCK = one_of("allow", "block")
_MANAGED = one_of("allow", "block", "managed")
_COUNTS = {
    "instances": "Most instances of the project.",
    "containers": "Most containers of the project.",
    "virtual-machines": "Most virtual machines of the project.",
    "networks": "Most networks of the project.",
    "cpu": "Total `limits.cpu` of its instances; each must have one then.",
    "processes": "Total `limits.processes` of its instances; each must have one then.",
}
_SIZES = {
    "memory": "Total `limits.memory` of its instances; each must have one, as a size, then.",
    "disk": "Total size of its instances' root disks, volumes and images; each root and volume must have a size then.",
    "disk.pool.*": "The same for the roots and volumes in the pool of that name.",
}
_NOTHING_YET = {
    "networks.uplinks": "Networks that its networks may have as uplink.",
    "networks.subnets": "Subnets of uplinks, as UPLINK:SUBNET, that its networks may use.",
    "networks.zones": "DNS zones that its networks may use.",
    "cluster.groups": "Groups of members that its instances may run on.",
}
DEVICES = ("gpu", "infiniband", "pci", "proxy", "unix-block", "unix-char", "unix-hotplug", "usb")
"""Types of devices that a restricted project has only where it is allowed to."""


def _ranges(value: str) -> str:
    """Ids and ranges of ids such as ``1000,2000-2999``."""
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError("ids and ranges of ids such as 1000,2000-2999 are expected")
        if dash and int(last) < int(first):
            raise ValueError("ranges that do not end before they begin are expected")
    return value


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
    Setting("restricted.containers.lowlevel", _BLOCK, "Whether `raw.*` may be set.", "block", live=True),
    Setting(
        "restricted.containers.interception", _BLOCK, "Whether `security.syscalls.*` may be set.", "block", live=True
    ),
    Setting(
        "restricted.containers.privilege",
        one_of("allow", "isolated", "unprivileged"),
        "`allow` for privileged ones too; `isolated` where each must have ids of its own.",
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
        "restricted.devices.disk",
        _MANAGED,
        "`managed`: volumes of pools, no paths of the host; `block`: the root only.",
        "managed",
        live=True,
    ),
    Setting(
        "restricted.devices.disk.paths",
        text,
        "Paths of the host, separated by commas, that disks may lie below.",
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
        "Names of the networks, separated by commas, that its NICs may be on.",
        live=True,
    ),
    Setting(
        "restricted.storage-pools.access", text, "Names of the pools, separated by commas, that it may use.", live=True
    ),
    *(
        Setting(f"restricted.{key}", text, f"{help} Isola has none yet: nothing can break this rule.", live=True)
        for key, help in _NOTHING_YET.items()
    ),
    *(
        Setting(
            f"restricted.idmap.{kind}",
            _ranges,
            f"Ranges of the host's {kind}s that `raw.idmap` may name. Isola has no `raw.idmap`, so none is mapped.",
            live=True,
        )
        for kind in ("uid", "gid")
    ),
    Setting("restricted.cluster.target", _BLOCK, "Whether a member may be chosen for an instance.", "block", live=True),
    Setting("restricted.backups", _BLOCK, "Whether backups may be made.", "block", live=True),
    Setting("restricted.snapshots", _BLOCK, "Whether snapshots may be made.", "block", live=True),
    Setting("user.*", text, "User-defined, not interpreted.", live=True),
)
