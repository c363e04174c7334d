"""Namespaces that a service does not have for itself -> configuration keys. Pure."""

from __future__ import annotations

from typing import Any

from isola.compose.application import Application
from isola.compose.changes import instance_name
from isola.errors import InvalidInput

Tree = dict[str, Any]
_OWN = ("", "private", "shareable")
_KINDS = (("network_mode", "network"), ("ipc", "ipc"), ("pid", "pid"), ("uts", "uts"), ("cgroup", "cgroup"))


def namespaces(application: Application, name: str) -> dict[str, str]:
    """Of the host, of another service's first instance, or of an instance. Raises InvalidInput."""
    service = application.services[name]
    found = {}
    for key, kind in _KINDS:
        if mode := _mode(application, str(service.get(key) or ""), f"services.{name}.{key}"):
            found[f"isola.namespaces.{kind}"] = mode
    if "isola.namespaces.network" in found:
        _require_no_network_of_its_own(service, f"services.{name}")
    if service.get("userns_mode"):
        found["security.privileged"] = "true"
    return found


def instance_of(application: Application, service: str, number: int = 1) -> str:
    """The name of an instance of a service."""
    return application.services[service].get("container_name") or instance_name(application.name, service, number)


def _mode(application: Application, mode: str, where: str) -> str:
    kind, _, name = mode.partition(":")
    if kind == "service" and name:
        return f"container:{instance_of(application, name)}"
    if mode == "host" or (kind == "container" and name):
        return mode
    if where.endswith(".network_mode"):
        if mode in ("", "bridge", "none"):
            return ""
    elif mode in _OWN:
        return ""
    raise InvalidInput(f"{where} {mode[:80]!r} is not supported", field=where)


def _require_no_network_of_its_own(service: Tree, where: str) -> None:
    for key in ("ports", "links", "mac_address", "hostname", "extra_hosts"):
        if service.get(key) and not (service["network_mode"] == "host" and key in ("hostname", "extra_hosts")):
            raise InvalidInput(
                f"{where}.{key} cannot be combined with network_mode {service['network_mode']}",
                field=f"{where}.{key}",
                remedy="the service has no network of its own: give it to the one that has",
            )
