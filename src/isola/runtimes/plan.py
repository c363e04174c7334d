"""A RunSpec as JSON, for a daemon that adopts the instance, a checkpoint, or another host. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from isola.host.link_kinds import Inside
from isola.model.confinement import Confinement
from isola.model.disk import Disk, DiskFormat
from isola.model.identity import IdRange
from isola.model.kernel import Kernel
from isola.model.limits import Limits
from isola.model.network import Endpoint, HostNetwork, HostTap, NetworkNamespace
from isola.runtimes.spec import DeviceNode, Firmware, Log, Mount, Root, RootKind, RunSpec, Shareable, TapNic

_ATOMS = frozenset((str, int, float, bool, type(None)))


def encode(spec: RunSpec) -> bytes:
    """JSON; paths are strings, enums their values."""
    return json.dumps(_plain(spec)).encode()


def decode(data: bytes) -> RunSpec:
    """Parse JSON of an older or newer daemon: missing fields get their defaults, unknown ones are ignored.

    Raises ValueError, also if a field without a default is missing.
    """
    try:
        found = json.loads(data)
        known = {key: value for key, value in found.items() if key in _READERS}
        return RunSpec(**{key: _READERS[key](value) for key, value in known.items()})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a plan of a run: {error}") from error


def _plain(value: object) -> Any:
    kind: Any = type(value)
    if kind in _ATOMS:
        return value
    names = _names(kind)
    if names is not None:
        return _kind_of(value) | {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _kind_of(value: object) -> dict[str, object]:
    """Tells endpoints apart."""
    if isinstance(value, HostTap | NetworkNamespace | HostNetwork):
        return {"taps": isinstance(value, HostTap), "host": isinstance(value, HostNetwork)}
    return {}


@cache
def _names(kind: type) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass; None for another type. Kept, since each start encodes a hundred values."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _same(value: Any) -> Any:
    return value


def _limits(value: dict[str, Any]) -> Limits:
    return Limits(**_known(Limits, value))


def _confinement(value: dict[str, Any]) -> Confinement:
    return Confinement(**_known(Confinement, value))


def _known(kind: type[Limits | Confinement], value: dict[str, Any]) -> dict[str, Any]:
    """Without the fields of a newer daemon; lists as tuples."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {key: tuple(part) if isinstance(part, list) else part for key, part in value.items() if key in names}


def _nic(value: dict[str, Any]) -> TapNic:
    inside = value.get("inside")
    if inside is not None:
        lists = {"addresses": tuple(inside["addresses"]), "gateways": tuple(inside["gateways"])}
        inside = Inside(**inside | lists)
    return TapNic(**value | {"inside": inside})


def _disk(value: dict[str, Any]) -> Disk:
    below = value.get("backing")
    paths = {"path": Path(value["path"]), "backing": below and Path(below)}
    return Disk(**value | paths | {"format": DiskFormat(value["format"])})


def _endpoint(value: dict[str, Any] | None) -> Endpoint | HostNetwork | None:
    if value is None:
        return None
    if value.get("host"):
        return HostNetwork()
    return HostTap(value["owner"]) if value["taps"] else NetworkNamespace(Path(value["path"]))


_READERS: dict[str, Callable[[Any], Any]] = {field.name: _same for field in dataclasses.fields(RunSpec)} | {
    "root": lambda value: Root(Path(value["path"]), RootKind(value["kind"]), bool(value.get("read_only"))),
    "command": tuple,
    "idmap": lambda value: value and IdRange(**value),
    "kernel": lambda value: value and Kernel(**value),
    "limits": _limits,
    "firmware": lambda value: value and Firmware(**value),
    "log": lambda value: Log(**value),
    "lxcfs": lambda value: value and Path(value),
    "network": _endpoint,
    "nics": lambda value: tuple(map(_nic, value)),
    "disks": lambda value: tuple(map(_disk, value)),
    "mounts": lambda value: tuple(Mount(**each | {"options": tuple(each["options"])}) for each in value),
    "groups": tuple,
    "console": tuple,
    "late_files": tuple,
    "confinement": _confinement,
    "devices": lambda value: tuple(DeviceNode(**each) for each in value),
    "ulimits": lambda value: {name: (soft, hard) for name, (soft, hard) in value.items()},
    "host_namespaces": lambda value: tuple(map(Shareable, value)),
    "shares": lambda value: {Shareable(kind): id for kind, id in value.items()},
}
