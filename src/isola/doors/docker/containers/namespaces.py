"""Namespaces of containers: private ones, those of the host, and those of other containers."""

from __future__ import annotations

from typing import Any

from isola.doors.docker.identity import container_id, find
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.model.instance import Config

_PREFIX = "isola.namespaces."
_FIELDS = {"PidMode": "pid", "IpcMode": "ipc", "UTSMode": "uts", "NetworkMode": "network", "CgroupnsMode": "cgroup"}
_PRIVATE = ("", "private", "shareable", "default", "bridge")
_JOINED = "container:"


def namespace_keys(request: Request, host: Fields) -> dict[str, str]:
    """Configuration keys. Raises InvalidInput, Unsupported."""
    keys = {}
    for field, kind in _FIELDS.items():
        mode = host.text(field, "")
        if kind == "cgroup" and mode not in ("", "private", "host"):
            raise InvalidInput(f"invalid cgroup namespace mode: {mode[:80]}", field=f"HostConfig.{field}")
        if mode.startswith(_JOINED):
            keys[_PREFIX + kind] = _JOINED + _peer(request, kind, mode.removeprefix(_JOINED))
        elif mode == "host" or (mode == "none" and kind == "network"):
            keys[_PREFIX + kind] = mode
        elif kind != "network" and mode not in _PRIVATE:
            raise InvalidInput(f"invalid {kind.upper()} mode: {mode[:80]}", field=f"HostConfig.{field}")
        elif mode.startswith("ns:"):
            raise Unsupported("Network namespaces by path are not offered", field=f"HostConfig.{field}")
    return keys


def _peer(request: Request, kind: str, name: str) -> str:
    """Raises InvalidInput: clients take "not found" for a missing image, and pull it."""
    if kind == "network" and name == request.query.get("name", "").removeprefix("/"):
        raise InvalidInput("cannot join own network namespace", field="HostConfig.NetworkMode")
    try:
        return find(request, name).id
    except NotFound as error:
        where = "joining network namespace of container: " if kind == "network" else ""
        raise InvalidInput(f"{where}{error}") from None


def has_own_network(host: Fields) -> bool:
    """Whether it can have NICs."""
    mode = host.text("NetworkMode", "")
    return mode not in ("host", "none") and not mode.startswith(_JOINED)


def is_apart(host: Fields) -> bool:
    """Whether its names are its own, and not those of the host or of another container."""
    mode = host.text("NetworkMode", "")
    return mode != "host" and not mode.startswith(_JOINED)


def modes(config: Config) -> dict[str, Any]:
    """The fields by an expanded configuration, as far as they are not private."""
    found = {}
    for field, kind in _FIELDS.items():
        mode = config.get(_PREFIX + kind, "")
        if mode.startswith(_JOINED):
            other = mode.removeprefix(_JOINED)
            found[field] = _JOINED + (container_id(other) if len(other) == 16 else other)
        elif mode and mode != "private":
            found[field] = mode
    return found
