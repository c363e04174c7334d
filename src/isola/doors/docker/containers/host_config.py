"""``HostConfig`` of ``inspect``: as the client gave it, with what keys and devices say now."""

from __future__ import annotations

from typing import Any

from isola.doors.docker.containers.behaviour_keys import log_config
from isola.doors.docker.containers.host_keys import values_of
from isola.doors.docker.containers.mount_points import binds
from isola.doors.docker.containers.namespaces import modes
from isola.doors.docker.containers.network_settings import bindings
from isola.doors.docker.containers.summary import network_mode
from isola.doors.docker.containers.view import View

_ZERO = (
    "CpuShares", "NanoCpus", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "Memory",
    "MemoryReservation", "MemorySwap", "BlkioWeight", "OomScoreAdj", "CpuCount", "CpuPercent", "IOMaximumIOps",
    "IOMaximumBandwidth", "ShmSize",
)  # fmt: skip
_NULL = (
    "Binds", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "Links",
    "SecurityOpt", "Devices", "DeviceCgroupRules", "DeviceRequests", "Ulimits", "MemorySwappiness", "OomKillDisable",
    "PidsLimit", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
)  # fmt: skip
_OPTIONAL = ("Annotations", "StorageOpt")
"""Left out unless they were given."""
_EMPTY = ("ContainerIDFile", "VolumeDriver", "Cgroup", "PidMode", "UTSMode", "UsernsMode", "CgroupParent", "Isolation")
_FALSE = ("AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs")
_SILENT: tuple[object, ...] = (None, "")
"""Values that leave the choice to the server."""
_SILENT_NUMBERS = {"PidsLimit": 0, "MemorySwappiness": -1}
"""The same of single fields."""
_MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def host_config(view: View) -> dict[str, Any]:
    """All fields."""
    found = _defaults(view)
    found |= {
        name: value
        for name, value in view.note.host.items()
        if name in found and value not in _SILENT and value != _SILENT_NUMBERS.get(name)
    }
    found |= {name: given for name in _OPTIONAL if isinstance(given := view.note.host.get(name), dict) and given}
    if isinstance(view.note.host.get("Init"), bool):
        found["Init"] = False  # unless the key says so
    found |= values_of(view.config)
    found |= {
        "LogConfig": log_config(view.config, _log_options(view)),
        "AutoRemove": view.instance.ephemeral,
        "Binds": binds(view),
        "NetworkMode": network_mode(view),
        **modes(view.config),
        "PortBindings": bindings(view),
        "Runtime": view.instance.runtime,
        "Mounts": view.note.host.get("Mounts"),
        "Tmpfs": view.note.host.get("Tmpfs"),
    }
    return {name: value for name, value in found.items() if value is not None or name not in ("Mounts", "Tmpfs")}


def _log_options(view: View) -> dict[str, str]:
    options = (view.note.host.get("LogConfig") or {}).get("Config")
    return options if isinstance(options, dict) else {}


def _defaults(view: View) -> dict[str, Any]:
    privileged = view.config.get("isola.privileged") == "true"
    return {
        **dict.fromkeys(_NULL),
        **dict.fromkeys(_ZERO, 0),
        **dict.fromkeys(_EMPTY, ""),
        **dict.fromkeys(_FALSE, False),
        "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "ConsoleSize": [0, 0],
        "CgroupnsMode": "private",
        "IpcMode": "private",
        "Runtime": "",
        "CpusetCpus": "",
        "CpusetMems": "",
        "MaskedPaths": None if privileged else list(_MASKED),
        "ReadonlyPaths": None if privileged else list(_READ_ONLY),
    }
