"""Devices of this host from ``/sys``, with LXD's names for their properties."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

Device = Mapping[str, object]
_SECTOR = 512
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
            "product": _text(device / "product"),
            "product_id": _text(device / "idProduct"),
            "vendor": _text(device / "manufacturer"),
            "vendor_id": _text(device / "idVendor"),
            "speed": float(_text(device / "speed") or 0),
        }
        for device in _entries(sys / "bus/usb/devices", "idVendor")
        if not device.name.startswith("usb")
    ]


def _port(port: Path) -> Device:
    speed = _number(port / "speed")
    return {
        "id": port.name,
        "address": _text(port / "address"),
        "port": _number(port / "dev_port"),
        "protocol": "ethernet" if _number(port / "type") == 1 else "unknown",
        "link_detected": _text(port / "carrier") == "1",
        "link_speed": max(speed, 0),
    }


def _disk(block: Path) -> Device:
    return {
        "id": block.name,
        "device": _text(block / "dev"),
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
    return {"class": _text(device / "class"), **_hardware(device), "pci_address": device.name}


def _hardware(device: Path) -> Device:
    # A virtio card is a device below its PCI device, which is the one to name.
    real = device.resolve()
    address = next((part for part in reversed(real.parts) if re.fullmatch(r"[0-9a-f]{4}:\S+\.[0-9a-f]", part)), "")
    return {
        "driver": (device / "driver").resolve().name if (device / "driver").exists() else "",
        "driver_version": "",
        "numa_node": _node(device),
        "pci_address": address,
        "vendor_id": _text(device / "vendor").removeprefix("0x"),
        "product_id": _text(device / "device").removeprefix("0x"),
        "vendor": "",
        "product": "",
    }


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


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.lstrip("-").isdigit() else 0
