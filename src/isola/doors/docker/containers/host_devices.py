"""``HostConfig.Devices``: nodes of devices of the host."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput

_DEVICES = Path("/dev")
_MOST = 64
"""Nodes of one directory."""


def host_devices(host: Fields) -> dict[str, dict[str, str]]:
    """Raises InvalidInput for what is no device of the host."""
    found = {}
    for each in host.objects("Devices"):
        source = each.text("PathOnHost")
        target = each.text("PathInContainer", "") or source
        for node, type_, path in _nodes(source, target):
            name = f"device-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
            found[name] = {"type": type_, "source": node, "path": path, "mode": "0666"}
    return found


def _nodes(source: str, target: str) -> list[tuple[str, str, str]]:
    """Node, type and path inside: one, also by a link to it, or all of a directory such as ``/dev/dri``."""
    place = Path(os.path.realpath(source)) if source.startswith("/") else Path()
    if not place.is_relative_to(_DEVICES):
        raise InvalidInput(_wrong(source, f'"{place}": not a device node'))
    if type_ := _type(place):
        return [(str(place), type_, target)]
    below = sorted(place.rglob("*")) if place.is_dir() and place != _DEVICES else []
    found = [
        (str(node), type_, f"{target.rstrip('/')}/{node.relative_to(place)}")
        for node in below
        if (type_ := _type(node))
    ]
    if not 0 < len(found) <= _MOST:
        raise InvalidInput(_wrong(source, "no such file or directory"))
    return found


def _type(path: Path) -> str:
    """Empty for what is no node."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        mode = 0
    return "unix-char" if stat.S_ISCHR(mode) else "unix-block" if stat.S_ISBLK(mode) else ""


def _wrong(path: str, why: str) -> str:
    return f'error gathering device information while adding custom device "{path[:200]}": {why[:200]}'
