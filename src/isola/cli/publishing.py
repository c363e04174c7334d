"""``--publish``: a port of the host as a device."""

from __future__ import annotations

import re

from isola.cli.arguments import UsageError

_FORM = re.compile(r"(?:(\[[0-9a-fA-F:.]+\]|\d{1,3}(?:\.\d{1,3}){3}):)?(\d{1,5})(?::(\d{1,5}))?(?:/(tcp|udp))?")

_OF_IMAGE = re.compile(r"(image:[^/\s]\S*):(/[^:]*)(?::ro)?")
"""Names of images may have colons, too. A volume may be called ``image``: there a slash follows."""


def published(text: str) -> tuple[str, dict[str, str]]:
    """The device's name and keys for ``[ADDRESS:]PORT[:PORT][/udp]``: without an address on all of them."""
    found = _FORM.fullmatch(text)
    if found is None or not all(0 < int(port) < 65536 for port in (found[2], found[3] or found[2])):
        raise UsageError(f"--publish {text!r} is not understood", hint="--publish 8080:80 or 127.0.0.1:8080:80/udp")
    address, port, inside, protocol = found[1] or "[::]", found[2], found[3] or found[2], found[4] or "tcp"
    listen, connect = f"{protocol}:{address}:{port}", f"{protocol}:0.0.0.0:{inside}"
    return f"port-{protocol}-{port}", {"type": "proxy", "nat": "true", "listen": listen, "connect": connect}


def mounted(text: str) -> tuple[str, dict[str, str]]:
    """The device's name and keys for ``NAME:/PATH[:ro]``, ``/DIRECTORY:/PATH[:ro]`` or ``image:NAME:/PATH[:ro]``."""
    parts = text.split(":")
    if (found := _OF_IMAGE.fullmatch(text)) is not None:
        parts = [*found.groups()]
    if not 2 <= len(parts) <= 3 or not parts[0] or not parts[1].startswith("/") or parts[2:] not in ([], ["ro"]):
        raise UsageError(f"--volume {text!r} is not understood", hint="--volume data:/srv/data or /srv:/srv:ro")
    source, path = parts[0], parts[1]
    name = "volume-" + re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:50]
    disk = {"type": "disk", "source": source, "path": path}
    if found is not None:
        return name, disk
    disk |= {"shift": "true", "shift.partial": "true"} if source.startswith("/") else {"copy": "true"}
    return name, disk | ({"readonly": "true"} if len(parts) == 3 else {})
