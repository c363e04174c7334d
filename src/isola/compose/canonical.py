"""Short forms of a compose file -> the long forms, on which files are merged and checked. Pure.

What has a wrong type is left as it is: the check of the merged document reports it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from isola.compose.documents import Override
from isola.compose.short_forms import device, port, volume
from isola.errors import InvalidInput

Tree = dict[str, Any]
Change = Callable[[Any], Any]
_HOST = re.compile(r"([^=:\s]+)[=:](.+)")


def canonical(document: Tree) -> Tree:
    """A whole file. Raises InvalidInput for a malformed short form."""
    found = dict(document)
    if "services" in found:
        found["services"] = _each(found["services"], service)
    for kind in ("networks", "volumes", "configs", "secrets"):
        if kind in found:
            found[kind] = _each(found[kind], _resource)
    if isinstance(found.get("include"), list):
        found["include"] = [{"path": each} if isinstance(each, str) else each for each in found["include"]]
    return found


def service(found: Any, name: str) -> Any:
    """With its keys in long forms; ``name`` is for errors."""
    return _mapped(found, _SERVICE, f"services.{name}")


def pairs(value: Any) -> Any:
    """``[A=1, B]`` -> ``{A: "1", B: None}``."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return value
    return {key: (text if equals else None) for key, equals, text in (each.partition("=") for each in value)}


def _each(value: Any, change: Callable[[Any, str], Any]) -> Any:
    if isinstance(value, Override):
        return value.map(lambda inner: _each(inner, change))
    if not isinstance(value, dict):
        return value
    return {name: _through(item, partial(_named, change, name)) for name, item in value.items()}


def _named(change: Callable[[Any, str], Any], name: str, value: Any) -> Any:
    return change(value, name)


def _through(value: Any, change: Change) -> Any:
    return value.map(change) if hasattr(value, "map") else change(value)


def _mapped(value: Any, changes: Mapping[str, Change], where: str) -> Any:
    """The mapping with its keys changed. Errors name the key."""
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for key, change in changes.items():
        if found.get(key) is not None:
            try:
                found[key] = _through(found[key], change)
            except ValueError as error:
                raise InvalidInput(
                    f"{where}.{key} is malformed", evidence=str(error)[:200], field=f"{where}.{key}"
                ) from None
    return found


def _argv(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


def _test(value: Any) -> Any:
    return ["CMD-SHELL", value] if isinstance(value, str) else value


def _dependencies(value: Any) -> Any:
    if isinstance(value, list):
        return {name: {"condition": "service_started"} for name in value if isinstance(name, str)}
    return value


def _names(value: Any) -> Any:
    return dict.fromkeys(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else value


def _env_files(value: Any) -> Any:
    listed = [value] if isinstance(value, str | dict) else value
    return [{"path": each} if isinstance(each, str) else each for each in listed] if isinstance(listed, list) else value


def _hosts(value: Any) -> Any:
    """Host -> addresses."""
    if isinstance(value, dict):
        return {name: [each] if isinstance(each, str) else each for name, each in value.items()}
    found: dict[str, list[str]] = {}
    for each in value if isinstance(value, list) else ():
        match = _HOST.fullmatch(each) if isinstance(each, str) else None
        if match is None:
            raise ValueError(f"{each!r}: HOST=ADDRESS is expected")
        found.setdefault(match[1], []).append(match[2].strip("[]"))
    return found


def _ulimits(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: {"soft": each, "hard": each} if isinstance(each, int | str) else each for name, each in value.items()}


def _granted(value: Any) -> Any:
    return [{"source": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else value


def _several(parse: Callable[[str], list[Tree]]) -> Change:
    def change(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        found: list[Any] = []
        for each in value:
            found += parse(str(each)) if isinstance(each, str | int) else [each]
        return found

    return change


def _hooks(value: Any) -> Any:
    return [_mapped(each, _HOOK, "hook") for each in value] if isinstance(value, list) else value


def _build(value: Any) -> Any:
    return _mapped({"context": value} if isinstance(value, str) else value, _BUILD, "build")


def _resource(item: Any, name: str) -> Any:
    found = _mapped(item, _RESOURCE, name)
    if isinstance(found, dict) and isinstance(outside := found.get("external"), dict):  # of older files
        return {**found, "external": True} | ({"name": outside["name"]} if outside.get("name") else {})
    return found


_BUILD: Mapping[str, Change] = {
    "args": pairs,
    "labels": pairs,
    "additional_contexts": pairs,
    "extra_hosts": _hosts,
    "ulimits": _ulimits,
    "secrets": _granted,
    "ssh": lambda value: [value] if isinstance(value, str) else value,
}
_HOOK: Mapping[str, Change] = {"environment": pairs}
_HEALTH: Mapping[str, Change] = {"test": _test}
_RESOURCE: Mapping[str, Change] = {"labels": pairs}
_SERVICE: Mapping[str, Change] = {
    "build": _build,
    "command": _argv,
    "entrypoint": _argv,
    "environment": pairs,
    "labels": pairs,
    "annotations": pairs,
    "sysctls": pairs,
    "env_file": _env_files,
    "label_file": _listed,
    "depends_on": _dependencies,
    "networks": _names,
    "ports": _several(port),
    "volumes": _several(volume),
    "devices": _several(device),
    "configs": _granted,
    "secrets": _granted,
    "dns": _listed,
    "dns_search": _listed,
    "tmpfs": _listed,
    "expose": lambda value: [str(each) for each in value] if isinstance(value, list) else value,
    "extra_hosts": _hosts,
    "ulimits": _ulimits,
    "post_start": _hooks,
    "pre_stop": _hooks,
    "healthcheck": lambda value: _mapped(value, _HEALTH, "healthcheck"),
    "extends": lambda value: {"service": value} if isinstance(value, str) else value,
}
