"""``Mounts``: what is mounted in a container, by its present devices."""

from __future__ import annotations

from typing import Any

from isola.doors.docker.containers.mounts import mount_devices
from isola.doors.docker.containers.view import View

_TMPFS = "tmpfs:"


def mount_points(view: View) -> list[dict[str, Any]]:
    """Binds, volumes and file systems in memory, in the order of their paths."""
    return [_point(device) for _, device in mount_devices(view.devices)]


def binds(view: View) -> list[str] | None:
    """``HostConfig.Binds`` by the present devices, as far as the client asked by it."""
    if not view.note.host.get("Binds"):
        return None
    return [
        f"{device['source']}:{device['path']}{':ro' if _read_only(device) else ''}"
        for _, device in mount_devices(view.devices)
        if device.get("source") not in (None, "", _TMPFS)
    ]


def _point(device: Any) -> dict[str, Any]:
    source, path = device.get("source", ""), device.get("path", "")
    read_only = _read_only(device)
    if source == _TMPFS:
        return {"Type": "tmpfs", "Source": "", "Destination": path, "Mode": "", "RW": not read_only, "Propagation": ""}
    if source.startswith("/"):
        return {
            "Type": "bind",
            "Source": source,
            "Destination": path,
            "Mode": "ro" if read_only else "",
            "RW": not read_only,
            "Propagation": device.get("propagation") or "rprivate",
        }
    return {
        "Type": "volume",
        "Name": source,
        "Source": source,
        "Destination": path,
        "Driver": "local",
        "Mode": "ro" if read_only else "z",
        "RW": not read_only,
        "Propagation": "",
    }


def _read_only(device: Any) -> bool:
    return device.get("readonly") in ("true", "1", "yes", "on")
