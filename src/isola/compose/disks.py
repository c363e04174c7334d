"""Volumes, binds and tmpfs of a service -> devices. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from isola.compose.application import Application
from isola.errors import InvalidInput

Tree = dict[str, Any]
Devices = dict[str, dict[str, str]]
_PROPAGATION = {"rprivate": "private", "rshared": "shared", "rslave": "slave"}


def disks(application: Application, name: str, instance: str, pool: str) -> Devices:
    """A disk for each mount; volumes without a name have one that belongs to the instance. Raises InvalidInput."""
    service = application.services[name]
    found: Devices = {}
    for mount in service.get("volumes", ()):
        found[_name(mount["target"])] = _disk(application, mount, instance, pool, f"services.{name}.volumes")
    for text in service.get("tmpfs", ()):
        target, _, options = text.partition(":")
        found[_name(target)] = {"type": "disk", "source": "tmpfs:", "path": target} | _options(options)
    if service.get("read_only"):
        found["root"] = {"type": "disk", "path": "/", "pool": pool, "readonly": "true"}
    return found


def anonymous_volume(instance: str, target: str) -> str:
    """The volume of an instance without a name in the file: the same when the instance is replaced."""
    return f"{instance}_{hashlib.sha256(target.encode()).hexdigest()[:12]}"[-63:]


def _disk(application: Application, mount: Tree, instance: str, pool: str, where: str) -> dict[str, str]:
    found = {"type": "disk", "path": mount["target"]}
    if mount.get("read_only"):
        found["readonly"] = "true"
    if mount["type"] == "volume":
        source = mount.get("source")
        found |= {
            "pool": pool,
            "source": application.volumes[source]["name"] if source else anonymous_volume(instance, mount["target"]),
        }
        options = mount.get("volume", {})
        found |= {} if options.get("nocopy") else {"copy": "true"}
        return found | ({"subpath": options["subpath"]} if options.get("subpath") else {})
    if mount["type"] == "bind":
        options = mount.get("bind", {})
        found |= {"source": mount["source"], "shift": "true", "recursive": "true"}
        found |= {"create": "true"} if options.get("create_host_path") else {}
        if propagation := options.get("propagation"):
            found["propagation"] = _PROPAGATION.get(propagation, propagation)
        return found
    if mount["type"] == "tmpfs":
        options = mount.get("tmpfs", {})
        found["source"] = "tmpfs:"
        found |= {"size": str(options["size"])} if options.get("size") else {}
        return found | ({"mode": f"{options['mode']:04o}"} if "mode" in options else {})
    raise InvalidInput(f"Mounts of type {mount['type']} are not supported", field=where)


def _options(text: str) -> dict[str, str]:
    """``size=64m,mode=1777,uid=5`` of a tmpfs; other options are those of mount(8)."""
    found: dict[str, str] = {}
    others = []
    for option in filter(None, text.split(",")):
        key, _, value = option.partition("=")
        if key in ("size", "mode", "uid", "gid"):
            found[key] = value
        elif option == "ro":
            found["readonly"] = "true"
        elif option != "rw":
            others.append(option)
    return found | ({"raw.mount.options": ",".join(others)} if others else {})


def _name(target: str) -> str:
    """A device's name made of its path."""
    plain = "".join(char if char.isalnum() else "-" for char in target).strip("-")[:40]
    return f"disk-{plain}-{hashlib.sha256(target.encode()).hexdigest()[:6]}"
