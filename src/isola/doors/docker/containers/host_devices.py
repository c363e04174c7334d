"""``HostConfig.Devices``: nodes of devices of the host."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput


def host_devices(host: Fields) -> dict[str, dict[str, str]]:
    """Raises InvalidInput for what is no device of the host."""
    found = {}
    for each in host.objects("Devices"):
        source = each.text("PathOnHost")
        target = each.text("PathInContainer", "") or source
        name = f"device-{hashlib.sha256(target.encode()).hexdigest()[:12]}"
        found[name] = {"type": _type(source), "source": source, "path": target, "mode": "0666"}
    return found


def _type(path: str) -> str:
    try:
        mode = Path(path).stat().st_mode if path.startswith("/dev/") else 0
    except OSError:
        mode = 0
    if stat.S_ISCHR(mode):
        return "unix-char"
    if stat.S_ISBLK(mode):
        return "unix-block"
    raise InvalidInput(
        f'error gathering device information while adding custom device "{path[:200]}": no such device of the host'
    )
