"""``Mounts``: what is mounted in a container, by its present devices."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from isola.devices.image_sources import image_name
from isola.devices.volume_sources import volume_name
from isola.doors.docker.containers.mounts import mount_devices
from isola.doors.docker.containers.view import View
from isola.doors.docker.request import Request
from isola.doors.docker.volume_keys import mount_point
from isola.errors import NotFound
from isola.model.reference import Kind
from isola.model.volume import VolumeRef

_TMPFS = "tmpfs:"
_ANONYMOUS = re.compile(r"[0-9a-f]{64}", re.ASCII)


def mount_points(request: Request, view: View) -> list[dict[str, Any]]:
    """Binds, volumes, images and ``--mount``'s file systems in memory, in the order of their paths."""
    by_option = view.note.host.get("Tmpfs") or {}
    modes = {_target(text): ",".join(text.split(":")[2:]) for text in view.note.host.get("Binds") or ()}
    return [
        _of_image(view, device) if image_name(device) else _point(request, device, modes.get(device.get("path", "")))
        for _, device in mount_devices(view.devices)
        if device.get("source") != _TMPFS or device.get("path") not in by_option
    ]


def binds(view: View) -> list[str] | None:
    """``HostConfig.Binds`` by the present devices, in the order in which the client has given them."""
    given = view.note.host.get("Binds")
    if not given:
        return None
    binds = {_target(text): text for text in given}
    order = {path: at for at, path in enumerate(binds)}
    mounts = [each.get("Target") for each in view.note.host.get("Mounts") or ()]
    found = [
        device
        for _, device in mount_devices(view.devices)
        if device["path"] in order
        or (device["path"] not in mounts and not _ANONYMOUS.fullmatch(device.get("source", "")))
    ]
    found.sort(key=lambda device: order.get(device["path"], len(order)))
    return [
        _bind(device, binds.get(device["path"], ""))
        for device in found
        if device.get("source") not in (None, "", _TMPFS) and not image_name(device)
    ]


def _bind(device: Mapping[str, str], bind: str) -> str:
    """As the client wrote it, unless that has changed."""
    source, _, rest = bind.partition(":")
    same = (posixpath.normpath(source) if source.startswith("/") else source) == device["source"]
    if same and ("ro" in rest.partition(":")[2].split(",")) == _read_only(device):
        return bind
    return f"{device['source']}:{device['path']}{':ro' if _read_only(device) else ''}"


def _target(bind: str) -> str:
    parts = bind.split(":")
    return parts[1].rstrip("/") or "/" if len(parts) > 1 else bind


def _of_image(view: View, device: Mapping[str, str]) -> dict[str, Any]:
    """By the name that the client gave. On the host it is mounted nowhere."""
    given = [each for each in view.note.host.get("Mounts") or () if each.get("Type") == "image"]
    names = {posixpath.normpath(each.get("Target") or ""): each.get("Source") for each in given}
    return {
        "Type": "image",
        "Name": names.get(device["path"]) or image_name(device),
        "Source": "",
        "Destination": device["path"],
        "Mode": "",
        "RW": False,
        "Propagation": "rprivate",
    }


def _place(request: Request, pool: str, name: str) -> str:
    """Of a volume on the host; empty if it is gone."""
    try:
        record = request.services.volumes.get(VolumeRef.custom(pool, name, request.home(Kind.STORAGE_VOLUME)))
    except NotFound:
        return ""
    return mount_point(request.services, record)


def _point(request: Request, device: Any, mode: str | None) -> dict[str, Any]:
    """``mode``: what ``--volume`` says after the second colon, if it was made so."""
    source, path = device.get("source", ""), device.get("path", "")
    read_only = _read_only(device)
    if source == _TMPFS:
        return {"Type": "tmpfs", "Source": "", "Destination": path, "Mode": "", "RW": not read_only, "Propagation": ""}
    if source.startswith("/"):
        return {
            "Type": "bind",
            "Source": source,
            "Destination": path,
            "Mode": _mode(device, mode, ""),
            "RW": not read_only,
            "Propagation": device.get("propagation") or "rprivate",
        }
    return {
        "Type": "volume",
        "Name": volume_name(device),
        "Source": _place(request, device.get("pool", ""), volume_name(device)),
        "Destination": path,
        "Driver": "local",
        "Mode": _mode(device, mode, "z"),
        "RW": not read_only,
        "Propagation": "",
    }


def _mode(device: Any, written: str | None, default: str) -> str:
    """As the client wrote it, unless that has changed."""
    if written is None:
        return default
    read_only = _read_only(device)
    if ("ro" in written.split(",")) == read_only:
        return written or default
    return "ro" if read_only else default


def _read_only(device: Any) -> bool:
    return device.get("readonly") in ("true", "1", "yes", "on")
