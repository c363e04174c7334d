"""Volumes, binds, contents of images and tmpfs of a service -> devices. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from isola.compose.application import Application
from isola.compose.namespaces import instance_of
from isola.errors import InvalidInput

Tree = dict[str, Any]
Devices = dict[str, dict[str, str]]
_TMPFS = "tmpfs:"
_IMAGE = "image:"
_NONE: Mapping[str, str] = {}
_NOEXEC = "noexec"
"""Of a tmpfs, unless the file asks for ``exec``, as in Docker."""
_OPEN = "1777"
"""Mode of a tmpfs, where the file says nothing."""
_SHIFTED = {"shift": "true", "shift.partial": "true"}
"""Of paths of the host."""
_PROPAGATION = {"rprivate": "private", "rshared": "shared", "rslave": "slave"}


def disks(application: Application, name: str, instance: str, pool: str, images: Mapping[str, str] = _NONE) -> Devices:
    """A disk for each mount; volumes without a name have one that belongs to the instance. Raises InvalidInput.

    ``images``: fingerprints by name.
    """
    service = application.services[name]
    found = _of_others(application, name, pool)
    for mount in service.get("volumes", ()):
        found[_name(mount["target"])] = _disk(application, mount, instance, pool, f"services.{name}.volumes")
    found = {key: _fixed(disk, images) for key, disk in found.items()}
    for text in service.get("tmpfs", ()):
        target, _, options = text.partition(":")
        memory = {"type": "disk", "source": _TMPFS, "path": target, "mode": _OPEN}
        found[_name(target)] = memory | _options(options)
    root = {"readonly": "true"} if service.get("read_only") else {}
    if size := service.get("storage_opt", {}).get("size"):
        root["size"] = size
    return found | ({"root": {"type": "disk", "path": "/", "pool": pool, **root}} if root else {})


def _fixed(disk: dict[str, str], images: Mapping[str, str]) -> dict[str, str]:
    name = disk["source"].removeprefix(_IMAGE)
    return {**disk, "source": _IMAGE + images.get(name, name)} if is_image(disk["source"]) else disk


def is_image(source: str) -> bool:
    """Whether the source of a disk is the content of an image."""
    return source.startswith(_IMAGE)


def mounted_images(service: Tree) -> list[str]:
    """The names of images whose content a service mounts."""
    return [mount["source"] for mount in service.get("volumes", ()) if mount["type"] == "image" and mount.get("source")]


def _of_others(application: Application, name: str, pool: str) -> Devices:
    """Volumes and binds of the services in ``volumes_from``: ``db``, ``db:ro``."""
    found: Devices = {}
    for text in application.services[name].get("volumes_from", ()):
        other, _, mode = text.partition(":")
        where = f"services.{name}.volumes_from"
        if other == "container":
            raise InvalidInput(f"{where}: volumes of containers are not supported", field=where)
        theirs = _of_others(application, other, pool)
        for mount in application.services[other].get("volumes", ()):
            if mount["type"] != "tmpfs":
                theirs[_name(mount["target"])] = _disk(application, mount, instance_of(application, other), pool, where)
        found |= {key: disk | ({"readonly": "true"} if mode == "ro" else {}) for key, disk in theirs.items()}
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
        if source and (device := bound(application, source)):
            return found | {"source": device} | ({} if device == _TMPFS else {**_SHIFTED, "recursive": "true"})
        found |= {
            "pool": pool,
            "source": application.volumes[source]["name"] if source else anonymous_volume(instance, mount["target"]),
        }
        options = mount.get("volume", {})
        found |= {} if options.get("nocopy") else {"copy": "true"}
        return found | ({"subpath": options["subpath"]} if options.get("subpath") else {})
    if mount["type"] == "bind":
        options = mount.get("bind", {})
        found |= {"source": mount["source"], **_SHIFTED, "recursive": "true"}
        found |= {"create": "true"} if options.get("create_host_path") else {}
        if propagation := options.get("propagation"):
            found["propagation"] = _PROPAGATION.get(propagation, propagation)
        return found
    if mount["type"] == "image":
        if not mount.get("source"):
            raise InvalidInput(f"{where}: a mount of type image needs a source", field=where)
        subpath = mount.get("image", {}).get("subpath")
        return found | {"source": _IMAGE + mount["source"]} | ({"subpath": subpath} if subpath else {})
    if mount["type"] == "tmpfs":
        options = mount.get("tmpfs", {})
        found["source"] = _TMPFS
        found |= {"size": str(options["size"])} if options.get("size") else {}
        return found | {"mode": f"{options['mode']:04o}" if "mode" in options else _OPEN, "raw.mount.options": _NOEXEC}
    raise InvalidInput(f"Mounts of type {mount['type']} are not supported", field=where)


def bound(application: Application, volume: str) -> str:
    """The directory of the host or ``tmpfs:`` that stands for a volume, as its driver_opts say; else empty."""
    options = application.volumes[volume].get("driver_opts", {})
    return _TMPFS if options.get("type") == "tmpfs" else str(options.get("device") or "")


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
    if not {"exec", _NOEXEC} & {*others}:
        others.append(_NOEXEC)
    return found | {"raw.mount.options": ",".join(others)}


def _name(target: str) -> str:
    """A device's name made of its path."""
    plain = "".join(char if char.isalnum() else "-" for char in target).strip("-")[:40]
    return f"disk-{plain}-{hashlib.sha256(target.encode()).hexdigest()[:6]}"
