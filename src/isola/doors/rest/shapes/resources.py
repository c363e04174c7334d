"""The host's resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.host.system import Kernel

_Cpu = Mapping[str, object]
_UNKNOWN_SYSTEM: Mapping[str, object] = {
    **dict.fromkeys(("uuid", "vendor", "product", "family", "version", "sku", "serial"), ""),
    "type": "unknown",
    **dict.fromkeys(("firmware", "chassis", "motherboard")),
}


def resources_json(
    kernel: Kernel,
    cpus: Sequence[_Cpu],
    memory: Mapping[str, int],
    devices: Mapping[str, Sequence[Mapping[str, object]]],
) -> dict[str, object]:
    """``GET /1.0/resources``; unknown values are empty."""
    disks = list(devices.get("storage", ()))
    cards = list(devices.get("network", ()))
    return {
        "cpu": _processors(kernel.architecture, cpus),
        "memory": _memory(memory),
        "gpu": _counted("cards", devices.get("gpu", ())),
        "network": {"cards": cards, "total": len(cards)},
        "storage": {"disks": disks, "total": len(disks)},
        "usb": _counted("devices", devices.get("usb", ())),
        "pci": _counted("devices", devices.get("pci", ())),
        "system": {**_UNKNOWN_SYSTEM, **next(iter(devices.get("system", ())), {})},
    }


def _counted(name: str, things: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {name: list(things), "total": len(things)}


def _memory(memory: Mapping[str, int]) -> dict[str, object]:
    total = memory.get("MemTotal", 0)
    free = memory.get("MemAvailable", memory.get("MemFree", 0))
    page = memory.get("Hugepagesize", 0)
    pages = memory.get("HugePages_Total", 0)
    return {
        "total": total,
        "used": max(0, total - free),
        "hugepages_size": page,
        "hugepages_total": pages * page,
        "hugepages_used": (pages - memory.get("HugePages_Free", 0)) * page,
        "nodes": [],
    }


def _processors(architecture: str, cpus: Sequence[_Cpu]) -> dict[str, object]:
    sockets: dict[object, list[_Cpu]] = {}
    for cpu in cpus:
        sockets.setdefault(cpu.get("socket", 0), []).append(cpu)
    return {
        "architecture": architecture,
        "total": len(cpus),
        "sockets": [_socket(number, members) for number, members in sockets.items()],
    }


def _socket(number: object, members: Sequence[_Cpu]) -> dict[str, object]:
    cores: dict[object, list[_Cpu]] = {}
    for cpu in members:
        cores.setdefault(cpu.get("core", 0), []).append(cpu)
    return {
        "socket": number,
        "name": members[0].get("model", ""),
        "vendor": members[0].get("vendor", ""),
        "cores": [
            {"core": core, "die": 0, "flags": [], "threads": [_thread(at, cpu) for at, cpu in enumerate(threads)]}
            for core, threads in cores.items()
        ],
    }


def _thread(position: int, cpu: _Cpu) -> dict[str, object]:
    return {
        "id": cpu.get("id", 0),
        "thread": position,
        "numa_node": cpu.get("numa_node", 0),
        "online": True,
        "isolated": False,
    }
