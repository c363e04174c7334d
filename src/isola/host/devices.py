"""Devices of this host from ``/sys``, with LXD's names for their properties."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

Device = Mapping[str, object]
_SECTOR = 512
_HYPERVISORS = ("QEMU", "VMware", "Xen", "innotek", "Parallels", "Amazon EC2", "Google", "Bochs", "Bhyve")
"""Vendors of virtual machines, in the firmware's own spelling."""
_DISPLAY = "0x03"
"""PCI class of graphics cards."""


def network_cards(sys: Path) -> Sequence[Device]:
    """Network cards with hardware; bridges, tunnels and veth pairs are left out."""
    return [
        {**_hardware(port / "device"), "ports": [_port(port)]} for port in _entries(sys / "class/net", "device/uevent")
    ]


def disks(sys: Path) -> Sequence[Device]:
    """Block devices with hardware, and their partitions."""
    return [_disk(block) for block in _entries(sys / "block", "device/uevent") if _number(block / "size")]


def graphics_cards(sys: Path) -> Sequence[Device]:
    """Display controllers on the PCI bus."""
    return [card for card in map(_pci, _entries(sys / "bus/pci/devices")) if str(card["class"]).startswith(_DISPLAY)]


def pci_devices(sys: Path) -> Sequence[Device]:
    """All devices on the PCI bus."""
    return [_pci(device) for device in _entries(sys / "bus/pci/devices")]


def usb_devices(sys: Path) -> Sequence[Device]:
    """All USB devices; interfaces and root hubs are left out."""
    return [
        {
            "bus_address": _number(device / "busnum"),
            "device_address": _number(device / "devnum"),
            "serial": _text(device / "serial"),
            "product": _text(device / "product"),
            "product_id": _text(device / "idProduct"),
            "vendor": _text(device / "manufacturer"),
            "vendor_id": _text(device / "idVendor"),
            "speed": float(_text(device / "speed") or 0),
            "interfaces": [_usb_interface(each) for each in _entries(device, "bInterfaceClass")],
        }
        for device in _entries(sys / "bus/usb/devices", "idVendor")
        if not device.name.startswith("usb")
    ]


def machine(sys: Path) -> Sequence[Device]:
    """Maker, model and numbers of the machine as its firmware tells them: one entry, none without DMI."""
    dmi = sys / "class/dmi/id"
    if not dmi.is_dir():
        return []
    described = {
        "vendor": _text(dmi / "sys_vendor"),
        "product": _text(dmi / "product_name"),
        **{key: _text(dmi / f"product_{key}") for key in ("uuid", "family", "version", "sku", "serial")},
        "type": _machine_type(sys, dmi),
        "firmware": _part(dmi, "bios", vendor="vendor", date="date", version="version"),
        "chassis": _part(dmi, "chassis", vendor="vendor", type="type", serial="serial", version="version"),
        "motherboard": _part(dmi, "board", vendor="vendor", product="name", serial="serial", version="version"),
    }
    return [described]


def _part(dmi: Path, prefix: str, **files: str) -> Device | None:
    """A part of the machine; None if its firmware describes none."""
    if not (dmi / f"{prefix}_vendor").exists():
        return None
    return {key: _text(dmi / f"{prefix}_{file}") for key, file in files.items()}


def _machine_type(sys: Path, dmi: Path) -> str:
    if (sys / "hypervisor/type").exists() or any(sign in _text(dmi / "sys_vendor") for sign in _HYPERVISORS):
        return "virtual-machine"
    return "physical"


def _usb_interface(interface: Path) -> Device:
    return {
        "class": "",
        "class_id": _hexadecimal(interface / "bInterfaceClass"),
        "driver": _driver(interface),
        "driver_version": "",
        "number": _hexadecimal(interface / "bInterfaceNumber"),
        "subclass": "",
        "subclass_id": _hexadecimal(interface / "bInterfaceSubClass"),
    }


def _port(port: Path) -> Device:
    speed = _number(port / "speed")
    return {
        "id": port.name,
        "address": _text(port / "address"),
        "port": _number(port / "dev_port"),
        "protocol": "ethernet" if _number(port / "type") == 1 else "unknown",
        "auto_negotiation": False,
        "link_detected": _text(port / "carrier") == "1",
        "link_speed": max(speed, 0),
        "link_duplex": _text(port / "duplex"),
    }


def _disk(block: Path) -> Device:
    return {
        "id": block.name,
        "device": _text(block / "dev"),
        "device_id": "",
        "model": _text(block / "device/model"),
        "serial": _text(block / "serial") or _text(block / "device/serial"),
        "type": _disk_kind(block.name),
        "read_only": _number(block / "ro") == 1,
        "removable": _number(block / "removable") == 1,
        "rpm": _number(block / "queue/rotational"),
        "block_size": _number(block / "queue/logical_block_size"),
        "size": _number(block / "size") * _SECTOR,
        "numa_node": _node(block / "device"),
        "partitions": [_partition(part) for part in _entries(block, "partition")],
    }


def _partition(part: Path) -> Device:
    return {
        "id": part.name,
        "device": _text(part / "dev"),
        "read_only": _number(part / "ro") == 1,
        "size": _number(part / "size") * _SECTOR,
        "partition": _number(part / "partition"),
    }


def _pci(device: Path) -> Device:
    group = (device / "iommu_group").resolve().name
    return {
        "class": _text(device / "class"),
        **_hardware(device),
        "pci_address": device.name,
        "iommu_group": int(group) if group.isdigit() else 0,
        "vpd": {},
    }


def _hardware(device: Path) -> Device:
    # A virtio card is a device below its PCI device, which is the one to name.
    real = device.resolve()
    address = next((part for part in reversed(real.parts) if re.fullmatch(r"[0-9a-f]{4}:\S+\.[0-9a-f]", part)), "")
    return {
        "driver": _driver(device),
        "driver_version": "",
        "numa_node": _node(device),
        "pci_address": address,
        "vendor_id": _text(device / "vendor").removeprefix("0x"),
        "product_id": _text(device / "device").removeprefix("0x"),
        "vendor": "",
        "product": "",
    }


def _driver(device: Path) -> str:
    return (device / "driver").resolve().name if (device / "driver").exists() else ""


def _disk_kind(name: str) -> str:
    for prefix, kind in (("nvme", "nvme"), ("vd", "virtio"), ("mmc", "mmc"), ("sr", "cdrom"), ("sd", "scsi")):
        if name.startswith(prefix):
            return kind
    return "unknown"


def _node(device: Path) -> int:
    return max(_number(device / "numa_node"), 0)


def _entries(directory: Path, marker: str = "") -> Sequence[Path]:
    try:
        return [entry for entry in sorted(directory.iterdir()) if (entry / marker).exists()]
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _hexadecimal(file: Path) -> int:
    text = _text(file)
    return int(text, 16) if re.fullmatch("[0-9a-fA-F]+", text) else 0


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.lstrip("-").isdigit() else 0
