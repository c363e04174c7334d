"""Fields and types that the API description of LXD 5.0 and Incus 6.0 gives for each object, and a comparison.

A table is a type, ``[table]`` (a list of such), ``{"*": table}`` (a map), ``{"field": table}`` (an object) or
``Maybe(table)`` (null too). Fields that clients may do without (``omitempty`` there) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

S, N, B, M = str, int, bool, {"*": str}


@dataclass(frozen=True)
class Maybe:
    """A value of this type, or null."""

    table: Any


class Time:
    """A time in RFC 3339."""


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
DEVICES = {"*": M}
T = Time

ADDRESS = {"family": S, "address": S, "netmask": S, "scope": S}
COUNTERS = {"bytes_received": N, "bytes_sent": N, "packets_received": N, "packets_sent": N}
INTERFACE = {
    "addresses": [ADDRESS], "hwaddr": S, "host_name": S, "mtu": N, "state": S, "type": S,
    "counters": COUNTERS | {
        "errors_received": N, "errors_sent": N, "packets_dropped_outbound": N, "packets_dropped_inbound": N,
    },
}  # fmt: skip
STATE = {
    "status": S, "status_code": N, "disk": {"*": {"usage": N, "total": N}}, "network": Maybe({"*": INTERFACE}),
    "memory": {"usage": N, "usage_peak": N, "total": N, "swap_usage": N, "swap_usage_peak": N}, "pid": N,
    "processes": N, "cpu": {"usage": N}, "started_at": T,
}  # fmt: skip
SNAPSHOT = {
    "name": S, "architecture": S, "config": M, "created_at": T, "expires_at": T, "last_used_at": T, "devices": DEVICES,
    "ephemeral": B, "profiles": [S], "stateful": B, "size": N, "expanded_config": M, "expanded_devices": DEVICES,
}  # fmt: skip
INSTANCE = {
    "name": S, "description": S, "architecture": S, "config": M, "devices": DEVICES, "ephemeral": B, "profiles": [S],
    "stateful": B, "created_at": T, "expanded_config": M, "expanded_devices": DEVICES, "status": S, "status_code": N,
    "last_used_at": T, "location": S, "type": S, "project": S,
}  # fmt: skip
FULL = INSTANCE | {"backups": Maybe([M]), "snapshots": Maybe([SNAPSHOT]), "state": STATE}
IMAGE = {
    "fingerprint": S, "aliases": [{"name": S, "description": S}], "architecture": S, "auto_update": B, "cached": B,
    "created_at": T, "expires_at": T, "filename": S, "last_used_at": T, "profiles": [S], "project": S,
    "properties": M, "public": B, "size": N, "type": S, "uploaded_at": T,
}  # fmt: skip
ALIAS = {"name": S, "description": S, "target": S, "type": S}
NETWORK = {
    "name": S, "type": S, "config": M, "description": S, "used_by": [S], "managed": B, "status": S, "locations": [S],
    "project": S,
}  # fmt: skip
BRIDGE = {
    "id": S, "stp": B, "forward_delay": N, "vlan_default": N, "vlan_filtering": B, "upper_devices": Maybe([S]),
}  # fmt: skip
NETWORK_STATE = {
    "addresses": [ADDRESS], "counters": COUNTERS, "hwaddr": S, "mtu": N, "state": S, "type": S, "bond": Maybe(M),
    "bridge": Maybe(BRIDGE), "vlan": Maybe(M), "ovn": Maybe(M),
}  # fmt: skip
LEASE = {"hostname": S, "hwaddr": S, "address": S, "type": S, "location": S}
POOL = {"name": S, "driver": S, "config": M, "description": S, "used_by": [S], "status": S, "locations": [S]}
POOL_RESOURCES = {"space": {"used": N, "total": N}, "inodes": {"used": N, "total": N}}
VOLUME = {
    "name": S, "type": S, "content_type": S, "config": M, "description": S, "used_by": [S], "location": S,
    "project": S, "created_at": T,
}  # fmt: skip
VOLUME_STATE = {"usage": Maybe({"used": N, "total": N})}
VOLUME_SNAPSHOT = {
    "name": S, "config": M, "content_type": S, "created_at": T, "description": S, "expires_at": Maybe(T),
}  # fmt: skip
PROFILE = {"name": S, "config": M, "description": S, "devices": DEVICES, "used_by": [S], "project": S}
PROJECT = {"name": S, "config": M, "description": S, "used_by": [S]}
PROJECT_STATE = {"resources": {"*": {"Limit": N, "Usage": N}}}
CERTIFICATE = {
    "fingerprint": S, "certificate": S, "name": S, "type": S, "restricted": B, "projects": [S], "description": S,
}  # fmt: skip
WARNING = {
    "uuid": S, "status": S, "location": S, "project": S, "type": S, "count": N, "first_seen_at": T, "last_seen_at": T,
    "last_message": S, "severity": S, "entity_url": S,
}  # fmt: skip
OPERATION = {
    "id": S, "class": S, "description": S, "created_at": T, "updated_at": T, "status": S, "status_code": N,
    "resources": Maybe({"*": [S]}), "metadata": Maybe(dict), "may_cancel": B, "err": S, "location": S,
}  # fmt: skip
EVENT = {"type": S, "timestamp": T, "metadata": dict, "location": S, "project": S}
LIFECYCLE = {
    "action": S, "source": S, "name": S, "project": S, "requestor": {"username": S, "protocol": S, "address": S},
}  # fmt: skip
METADATA = {
    "architecture": S, "creation_date": N, "expiry_date": N, "properties": M,
    "templates": {"*": {"when": [S], "create_only": B, "template": S, "properties": M}},
}  # fmt: skip
CONFIGURATION = {
    "configs": {"*": {"*": {"keys": [{"*": {"type": S, "shortdesc": S, "longdesc": S}}]}}},
}  # fmt: skip
CLUSTER = {"server_name": S, "enabled": B, "member_config": [M]}
ENVIRONMENT = {
    "addresses": [S], "architectures": [S], "certificate": S, "certificate_fingerprint": S, "driver": S,
    "driver_version": S, "firewall": S, "kernel": S, "kernel_architecture": S, "kernel_features": M,
    "kernel_version": S, "lxc_features": M, "os_name": S, "os_version": S, "project": S, "server": S,
    "server_clustered": B, "server_event_mode": S, "server_name": S, "server_pid": N, "server_version": S,
    "storage": S, "storage_version": S, "storage_supported_drivers": [{"Name": S, "Version": S, "Remote": B}],
}  # fmt: skip
SERVER = {
    "config": M, "api_extensions": [S], "api_status": S, "api_version": S, "auth": S, "auth_methods": [S], "public": B,
    "auth_user_name": S, "auth_user_method": S, "environment": ENVIRONMENT,
}  # fmt: skip
THREAD = {"id": N, "numa_node": N, "thread": N, "online": B, "isolated": B}
CPU = {
    "architecture": S, "total": N,
    "sockets": [{"socket": N, "cores": [{"core": N, "die": N, "threads": [THREAD], "flags": [S]}]}],
}  # fmt: skip
PORT = {"id": S, "port": N, "protocol": S, "auto_negotiation": B, "link_detected": B}
DISK = {
    "id": S, "device": S, "read_only": B, "size": N, "removable": B, "numa_node": N, "block_size": N, "rpm": N,
    "device_id": S,
    "partitions": [{"id": S, "device": S, "read_only": B, "size": N, "partition": N}],
}  # fmt: skip
PCI = {
    "driver": S, "driver_version": S, "numa_node": N, "pci_address": S, "vendor": S, "vendor_id": S, "product": S,
    "product_id": S, "iommu_group": N, "vpd": dict,
}  # fmt: skip
USB = {
    "bus_address": N, "device_address": N, "serial": S, "vendor": S, "vendor_id": S, "product": S, "product_id": S,
    "speed": float,
    "interfaces": [{
        "class": S, "class_id": N, "driver": S, "driver_version": S, "number": N, "subclass": S, "subclass_id": N,
    }],
}  # fmt: skip
RESOURCES = {
    "cpu": CPU, "gpu": {"cards": [{"numa_node": N}], "total": N},
    "memory": {"hugepages_total": N, "hugepages_used": N, "hugepages_size": N, "used": N, "total": N},
    "network": {"cards": [{"numa_node": N, "ports": [PORT]}], "total": N},
    "storage": {"disks": [DISK], "total": N},
    "pci": {"devices": [PCI], "total": N}, "usb": {"devices": [USB], "total": N},
    "system": {
        "uuid": S, "vendor": S, "product": S, "family": S, "version": S, "sku": S, "serial": S, "type": S,
        "firmware": Maybe({"vendor": S, "date": S, "version": S}),
        "chassis": Maybe({"vendor": S, "type": S, "serial": S, "version": S}),
        "motherboard": Maybe({"vendor": S, "product": S, "serial": S, "version": S}),
    },
}  # fmt: skip

TABLES: dict[str, Any] = {
    "/1.0": SERVER,
    "/1.0/resources": RESOURCES,
    "/1.0/cluster": CLUSTER,
    "/1.0/metadata/configuration": CONFIGURATION,
    "/1.0/certificates": [CERTIFICATE],
    "/1.0/images": [IMAGE],
    "/1.0/images/aliases": [ALIAS],
    "/1.0/instances": [INSTANCE],
    "/1.0/instances?recursion=2": [FULL],
    "/1.0/networks": [NETWORK],
    "/1.0/operations": {"*": [OPERATION]},
    "/1.0/profiles": [PROFILE],
    "/1.0/projects": [PROJECT],
    "/1.0/projects/default/state": PROJECT_STATE,
    "/1.0/storage-pools": [POOL],
    "/1.0/storage-pools/default/resources": POOL_RESOURCES,
    "/1.0/storage-pools/default/volumes": [VOLUME],
    "/1.0/warnings": [WARNING],
}
"""Responses to ``recursion=1``, by path. Items of lists are also available singly, at their paths."""


def below(instance: str, network: str, volume: str) -> dict[str, Any]:
    """Tables of the objects of one instance with a snapshot, one network and one custom volume with a snapshot."""
    shown, custom = f"/1.0/instances/{instance}", f"/1.0/storage-pools/default/volumes/custom/{volume}"
    return {
        shown: FULL,
        f"{shown}/state": STATE,
        f"{shown}/metadata": METADATA,
        f"{shown}/snapshots": [SNAPSHOT],
        f"/1.0/networks/{network}/state": NETWORK_STATE,
        f"/1.0/networks/{network}/leases": [LEASE],
        f"{custom}/state": VOLUME_STATE,
        f"{custom}/snapshots": [VOLUME_SNAPSHOT],
    }


def recursive(path: str) -> str:
    """The path with ``recursion=1``, unless it has a recursion."""
    return path if "?" in path else f"{path}?recursion=1"


def deviations(value: Any, table: Any, where: str = "") -> Iterator[str]:
    """Missing fields, and fields of another type."""
    if isinstance(table, Maybe):
        yield from () if value is None else deviations(value, table.table, where)
    elif isinstance(table, list):
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for item in value:
            yield from deviations(item, table[0], f"{where}[]")
    elif isinstance(table, dict):
        yield from _of_object(value, table, where)
    elif table is Time:
        if not (isinstance(value, str) and _TIME.fullmatch(value)):
            yield f"{where}: {value!r} is no time"
    elif not isinstance(value, table) or (table is int and isinstance(value, bool)):
        yield f"{where}: {value!r} is no {table.__name__}"


def _of_object(value: Any, table: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    fields = dict.fromkeys(value, table["*"]) if "*" in table else table
    for name, inner in fields.items():
        if name not in value:
            yield f"{where}.{name} is missing"
        else:
            yield from deviations(value[name], inner, f"{where}.{name}")
