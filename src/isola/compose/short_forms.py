"""Ports, volumes and devices in one string. Pure; all raise ValueError."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

Tree = dict[str, Any]
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_MOST_PORTS = 65535
_DRIVE = re.compile(r"[a-zA-Z]:\\")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def port(text: str) -> list[Tree]:
    """``[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]``, with ranges of ports; one entry for each target."""
    rest, _, protocol = text.partition("/")
    address, published, target = _divided(rest, text)
    first, last = _range(target, text)
    common: Tree = {"mode": "ingress", "protocol": protocol or "tcp"} | ({"host_ip": address} if address else {})
    targets = range(first, last + 1)
    if not published:
        return [{**common, "target": each} for each in targets]
    begin, end = _range(published, text)
    if len(targets) == 1 and end > begin:  # one free port of a range
        return [{**common, "target": first, "published": f"{begin}-{end}"}]
    if end - begin != last - first:
        raise ValueError(f"{text!r}: both ranges must have the same length")
    return [{**common, "target": each, "published": str(begin + at)} for at, each in enumerate(targets)]


def volume(text: str) -> list[Tree]:
    """``[SOURCE:]TARGET[:OPTIONS]``: a path is bound, a name is a volume."""
    parts = text.split(":")
    if _DRIVE.match(text):
        raise ValueError(f"{text!r}: Windows paths are not supported")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise ValueError(f"{text!r}: SOURCE:TARGET:OPTIONS is expected")
    if len(parts) == 1:
        return [{"type": "volume", "target": parts[0]}]
    source, target = parts[0], parts[1]
    bind = source.startswith(("/", ".", "~"))
    found: Tree = {"type": "bind" if bind else "volume", "source": source, "target": target}
    if bind:
        found["bind"] = {"create_host_path": True}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        _apply(found, option, text)
    return [found]


def device(text: str) -> list[Tree]:
    """``SOURCE[:TARGET[:PERMISSIONS]]``."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise ValueError(f"{text!r}: SOURCE:TARGET:PERMISSIONS is expected")
    target = parts[1] if len(parts) > 1 else parts[0]
    return [{"source": parts[0], "target": target, "permissions": parts[2] if len(parts) == 3 else "rwm"}]


def _apply(found: Tree, option: str, text: str) -> None:
    if option in ("ro", "rw"):
        found["read_only"] = option == "ro"
    elif option in ("z", "Z"):
        found.setdefault("bind", {})["selinux"] = option
    elif option in _PROPAGATION:
        found.setdefault("bind", {})["propagation"] = option
    elif option == "nocopy":
        found["volume"] = {"nocopy": True}
    elif option not in ("cached", "delegated", "consistent", "copy"):
        raise ValueError(f"{text!r}: unknown option {option!r}")


def _divided(rest: str, text: str) -> tuple[str, str, str]:
    """Address, published ports, target ports."""
    head, colon, target = rest.rpartition(":")
    if not colon:
        return "", "", rest
    address, colon, published = head.rpartition(":")
    if head.startswith("[") and not (colon and address.endswith("]")):
        raise ValueError(f"{text!r}: [ADDRESS]:PUBLISHED:TARGET is expected")
    address = address.strip("[]")
    if address:
        try:
            ip_address(address)
        except ValueError:
            raise ValueError(f"{text!r}: {address!r} is not an IP address") from None
    return address, published, target


def _range(ports: str, text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(ports)
    first = int(match[1]) if match else 0
    last = int(match[2] or match[1]) if match else 0
    if match is None or not 0 <= first <= last <= _MOST_PORTS:
        raise ValueError(f"{text!r}: {ports!r} is not a port or a range of ports")
    return first, last
