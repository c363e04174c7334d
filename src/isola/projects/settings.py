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
    "cpu": "What `limits.cpu` of all its instances may come to; each must have one then.",
    "processes": "What `limits.processes` of all its instances may come to; each must have one then.",
}
_SIZES = {
    "memory": "What `limits.memory` of all its instances may come to; each must have one, as a size, then.",
    "disk": "What the sizes of its instances' roots and of its volumes may come to; each must have one then.",
}
DEVICES = ("gpu", "infiniband", "pci", "proxy", "unix-block", "unix-char", "unix-hotplug", "usb")
"""Types of devices that a restricted project has only where it is allowed to."""

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
    Setting("restricted.backups", _BLOCK, "Whether backups may be made.", "block", live=True),
    Setting("restricted.snapshots", _BLOCK, "Whether snapshots may be made.", "block", live=True),
    Setting("user.*", text, "User-defined, not interpreted.", live=True),
)
