"""Things as this API addresses them: ``/1.0/instances/web1?project=blue``."""

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
    Kind.NETWORK: ("networks",),
    Kind.STORAGE_POOL: ("storage-pools",),
    Kind.STORAGE_VOLUME: ("storage-pools", "volumes", ""),
    Kind.VOLUME_SNAPSHOT: ("storage-pools", "volumes", "", "snapshots"),
    Kind.CERTIFICATE: ("certificates",),
    Kind.OPERATION: ("operations",),
    Kind.SERVER: (),
    Kind.UNKNOWN: ("isola/unknown",),
}
"""What stands before each of an entity's names; what is empty adds nothing."""
_PLURALS: dict[Kind, str] = {
    Kind.INSTANCE: "instances",
    Kind.INSTANCE_SNAPSHOT: "instances_snapshots",
    Kind.PROFILE: "profiles",
    Kind.PROJECT: "projects",
    Kind.IMAGE: "images",
    Kind.IMAGE_ALIAS: "image_aliases",
    Kind.NETWORK: "networks",
    Kind.STORAGE_POOL: "storage_pools",
    Kind.STORAGE_VOLUME: "storage_volumes",
    Kind.VOLUME_SNAPSHOT: "storage_volume_snapshots",
    Kind.CERTIFICATE: "certificates",
    Kind.OPERATION: "operations",
    Kind.SERVER: "server",
    Kind.UNKNOWN: "isola_unknown",
}
"""What the resources of operations call things of a kind."""
_PLAIN = "/:+@"
"""Signs that names hold and that need no escape in a path."""


def path_of(entity: Entity) -> str:
    """``/1.0/instances/web1``: without its project."""
    parts = [ROOT]
    for part, name in zip(_PATHS[entity.kind], entity.names, strict=True):
        parts += [part, quote(name, safe=_PLAIN)] if part else [quote(name, safe=_PLAIN)]
    return "/".join(parts)


def address(entity: Entity, *, below: str = "") -> str:
    """Its path, and ``below`` it something of its own, in its project where that is not the default one."""
    return in_project(path_of(entity) + below, entity.project)


def in_project(path: str, project: str) -> str:
    """A path with the project it is meant in."""
    return path if project == DEFAULT_PROJECT else f"{path}?project={quote(project)}"


def address_of(kind: Kind, ref: Ref) -> str:
    """The address of what a reference names."""
    return address(Entity.of(kind, ref))


def resources(entities: Iterable[Entity]) -> dict[str, list[str]]:
    """``resources`` of an operation: addresses by kind; instances under their older name too, as LXD has it."""
    found: dict[str, list[str]] = {}
    for entity in entities:
        found.setdefault(_PLURALS[entity.kind], []).append(address(entity))
    if "instances" in found:
        found["containers"] = found["instances"]
    return found


def requestor(caller: Caller) -> dict[str, str] | None:
    """Who has caused an event; None for what the daemon does by itself."""
    if caller.credential is Credential.DAEMON:
        return None
    return {"username": caller.name, "protocol": caller.credential.value, "address": caller.address}
