"""Requests of older versions: what a version did not know has no effect in it, or is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isola.doors.docker.versions import Version, text
from isola.errors import InvalidInput

Raw = Mapping[str, Any]
_REMOVED_BY_CLIENTS: Version = (1, 25)
_PLATFORMS: Version = (1, 41)
_CHECKED: Version = (1, 42)
_ANNOTATIONS: Version = (1, 43)
_ENDPOINTS: Version = (1, 44)
_SUBPATHS: Version = (1, 45)
_PRIORITIES: Version = (1, 48)
_OF_KINDS = {"BindOptions": "bind", "VolumeOptions": "volume", "TmpfsOptions": "tmpfs"}
"""Fields of a mount, and the type that has them."""


def as_meant(raw: Raw, version: Version) -> Raw:
    """A request for a container, without what has no effect in its version. Raises InvalidInput."""
    found, network = dict(raw), _object(raw, "NetworkingConfig")
    if version < _ENDPOINTS and isinstance(raw.get("Healthcheck"), dict):
        found["Healthcheck"] = _without(raw["Healthcheck"], "StartInterval")
    if isinstance(raw.get("HostConfig"), dict):
        found["HostConfig"] = _host(raw["HostConfig"], version)
    if isinstance(network.get("EndpointsConfig"), dict):
        found["NetworkingConfig"] = {**network, "EndpointsConfig": _endpoints(network["EndpointsConfig"], version)}
    return found


def platform_of(query: Mapping[str, str], version: Version) -> str:
    """The platform that is asked for, where clients can ask for one."""
    return query.get("platform", "") if version >= _PLATFORMS else ""


def _host(host: Raw, version: Version) -> Raw:
    found = dict(host)
    if version < _REMOVED_BY_CLIENTS:
        found.pop("AutoRemove", None)
    if version < _ANNOTATIONS:
        found.pop("Annotations", None)
    if isinstance(found.get("Mounts"), list):
        found["Mounts"] = [_mount(each, version) if isinstance(each, dict) else each for each in found["Mounts"]]
    return found


def _mount(mount: Raw, version: Version) -> Raw:
    kind, bind, volume = mount.get("Type"), _object(mount, "BindOptions"), _object(mount, "VolumeOptions")
    _require(
        version, _ENDPOINTS, "BindOptions.ReadOnlyForceRecursive", kind == "bind" and bind.get("ReadOnlyForceRecursive")
    )
    _require(version, _SUBPATHS, "VolumeOptions.Subpath", volume.get("Subpath"))
    _require(version, _PRIORITIES, 'Mount type "Image"', kind == "image")
    if version >= _CHECKED:
        return mount
    found = {name: value for name, value in mount.items() if _OF_KINDS.get(name, kind) in (kind, "bind")}
    return {**found, **({"BindOptions": _without(bind, "CreateMountpoint")} if bind else {})}


def _endpoints(endpoints: Raw, version: Version) -> Raw:
    if version < _ENDPOINTS and len(endpoints) > 1:
        names = ", ".join(name[:80] for name in list(endpoints)[:10])
        raise InvalidInput(f"Container cannot be created with multiple network endpoints: {names}")
    dropped = {"MacAddress"} if version < _ENDPOINTS else set()
    dropped |= {"GwPriority"} if version < _PRIORITIES else set()
    return {name: _without(each, *dropped) if isinstance(each, dict) else each for name, each in endpoints.items()}


def _require(version: Version, since: Version, what: str, asked: object) -> None:
    if asked and version < since:
        raise InvalidInput(f"{what} needs API v{text(since)} or newer")


def _object(raw: Raw, name: str) -> Raw:
    """Empty where it is something else, which is refused where it is read."""
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _without(value: Raw, *names: str) -> Raw:
    return {name: each for name, each in value.items() if name not in names}
