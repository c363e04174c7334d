"""API paths of entities: ``/1.0/instances/web1?project=blue``."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from isola.model.caller import Caller, Credential
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref

ROOT = "/1.0"
_PATHS: dict[Kind, tuple[str, ...]] = {
    Kind.INSTANCE: ("instances",),
    Kind.INSTANCE_SNAPSHOT: ("instances", "snapshots"),
    Kind.PROFILE: ("profiles",),
    Kind.PROJECT: ("projects",),
    Kind.IMAGE: ("images",),
    Kind.IMAGE_ALIAS: ("images/aliases",),
    Kind.REPOSITORY: ("isola/registry/repositories",),
    Kind.NETWORK: ("networks",),
    Kind.STORAGE_POOL: ("storage-pools",),
    Kind.STORAGE_VOLUME: ("storage-pools", "volumes", ""),
    Kind.VOLUME_SNAPSHOT: ("storage-pools", "volumes", "", "snapshots"),
    Kind.CERTIFICATE: ("certificates",),
    Kind.LOGIN_TOKEN: ("isola/registry/tokens",),
    Kind.OPERATION: ("operations",),
    Kind.SERVER: (),
    Kind.WARNING: ("warnings",),
    Kind.UNKNOWN: ("isola/unknown",),
}
"""The path component before each of an entity's names; an empty one adds nothing."""
_PLURALS: dict[Kind, str] = {
    Kind.INSTANCE: "instances",
    Kind.INSTANCE_SNAPSHOT: "instances_snapshots",
    Kind.PROFILE: "profiles",
    Kind.PROJECT: "projects",
    Kind.IMAGE: "images",
    Kind.IMAGE_ALIAS: "image_aliases",
    Kind.REPOSITORY: "isola_registry_repositories",
    Kind.NETWORK: "networks",
    Kind.STORAGE_POOL: "storage_pools",
    Kind.STORAGE_VOLUME: "storage_volumes",
    Kind.VOLUME_SNAPSHOT: "storage_volume_snapshots",
    Kind.CERTIFICATE: "certificates",
    Kind.LOGIN_TOKEN: "isola_registry_tokens",
    Kind.OPERATION: "operations",
    Kind.SERVER: "server",
    Kind.WARNING: "warnings",
    Kind.UNKNOWN: "isola_unknown",
}
"""The key of each kind in ``resources`` of operations."""
_PLAIN = "/:+@"
"""Characters of names that need no percent-encoding in a path."""


def path_of(entity: Entity) -> str:
    """``/1.0/instances/web1``: without its project."""
    parts = [ROOT]
    for part, name in zip(_PATHS[entity.kind], entity.names, strict=True):
        parts += [part, quote(name, safe=_PLAIN)] if part else [quote(name, safe=_PLAIN)]
    return "/".join(parts)


def address(entity: Entity, *, below: str = "") -> str:
    """The entity's path, ``below`` appended, with ``?project=`` unless that is the default project."""
    return in_project(path_of(entity) + below, entity.project)


def in_project(path: str, project: str) -> str:
    """A path with ``?project=`` unless that is the default project."""
    return path if project == DEFAULT_PROJECT else f"{path}?project={quote(project)}"


def address_of(kind: Kind, ref: Ref) -> str:
    """The address of a referenced entity."""
    return address(Entity.of(kind, ref))


def resources(entities: Iterable[Entity]) -> dict[str, list[str]]:
    """``resources`` of an operation: addresses by kind; instances also as ``containers``, as in LXD."""
    found: dict[str, list[str]] = {}
    for entity in entities:
        found.setdefault(_PLURALS[entity.kind], []).append(address(entity))
    if "instances" in found:
        found["containers"] = found["instances"]
    return found


def requestor(caller: Caller) -> dict[str, str] | None:
    """The caller that caused an event; None for the daemon itself."""
    if caller.credential is Credential.DAEMON:
        return None
    return {"username": caller.name, "protocol": caller.credential.value, "address": caller.address}
