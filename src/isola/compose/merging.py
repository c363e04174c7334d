"""Merging of compose files, of services with those they extend, and of what files include. Pure; on long forms."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from isola.compose.documents import Override, Reset

Tree = dict[str, Any]
Path = tuple[str, ...]
_GONE = Reset()
_REPLACED = {
    ("services", "*", "command"),
    ("services", "*", "entrypoint"),
    ("services", "*", "healthcheck", "test"),
}
"""Sequences that replace those of the files before."""


def merge(base: Any, other: Any, path: Path = ()) -> Any:
    """``other`` over ``base``: mappings are merged, sequences are joined, other values replaced."""
    if isinstance(other, Override):
        return settled(other.value)
    if isinstance(other, Reset):
        return _GONE
    if isinstance(base, dict) and isinstance(other, dict):
        return _mappings(base, other, path)
    if isinstance(base, list) and isinstance(other, list) and _general(path) not in _REPLACED:
        return _sequences(base, other, path)
    if other is None and isinstance(base, dict | list):
        return base
    return settled(other)


def settled(value: Any) -> Any:
    """A document without tags: what ``!reset`` marks is absent, what ``!override`` marks is as it is."""
    if isinstance(value, Override):
        return settled(value.value)
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items() if not isinstance(item, Reset)}
    if isinstance(value, list):
        return [settled(item) for item in value if not isinstance(item, Reset)]
    return value


def _mappings(base: Tree, other: Tree, path: Path) -> Tree:
    if _general(path) == ("services", "*", "logging") and base.get("driver") != other.get("driver", base.get("driver")):
        return dict(settled(other))  # options of another driver
    found = dict(base)
    for key, value in other.items():
        merged = merge(found[key], value, (*path, key)) if key in found else settled(value)
        if merged is _GONE or isinstance(value, Reset):
            found.pop(key, None)
        else:
            found[key] = merged
    return found


def _sequences(base: list[Any], other: list[Any], path: Path) -> list[Any]:
    """Entries take the place of those with the same key before them, equal ones are kept once."""
    key = _KEYS.get(_general(path))
    found: dict[Hashable, Any] = {}
    for value in [*base, *settled(other)]:
        name = key(value) if key is not None and isinstance(value, dict) else _frozen(value)
        found[name] = value
    return list(found.values())


def _general(path: Path) -> Path:
    """The path with ``*`` in the place of a service's name."""
    return (path[0], "*", *path[2:]) if len(path) > 1 and path[0] == "services" else path


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, list) else (type(value).__name__, value)


def _target(value: Tree) -> Hashable:
    return str(value.get("target") or value.get("source"))


def _port(value: Tree) -> Hashable:
    return (*(str(value.get(key, "")) for key in ("host_ip", "target", "published")), value.get("protocol") or "tcp")


_KEYS: dict[Path, Callable[[Tree], Hashable]] = {
    ("services", "*", "volumes"): _target,
    ("services", "*", "configs"): _target,
    ("services", "*", "secrets"): _target,
    ("services", "*", "devices"): _target,
    ("services", "*", "ports"): _port,
    ("services", "*", "env_file"): lambda value: str(value.get("path")),
}
