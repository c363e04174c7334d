"""The thing a path names."""

from __future__ import annotations

from isola.doors.rest.request import Request
from isola.errors import InvalidInput, NotFound
from isola.model.instance import Instance

_TREES = {"containers": "container", "virtual-machines": "virtual-machine"}
_TYPES = tuple(_TREES.values())


def instance_of(request: Request) -> Instance:
    """The instance. Raises NotFound, also for a container where only virtual machines are asked for."""
    instance = request.services.instances.get(request.ref(request.parameters["name"]))
    wanted = _wanted_type(request)
    if wanted not in (None, instance.type):
        raise NotFound(f"Instance {instance.name!r} is not a {wanted}", remedy="ask for it among all instances")
    return instance


def instances_of(request: Request) -> list[Instance]:
    """The instances the request is about."""
    wanted = _wanted_type(request)
    found = [instance for instance in request.services.instances if request.lists(instance.entity)]
    return found if wanted is None else [instance for instance in found if instance.type == wanted]


def _wanted_type(request: Request) -> str | None:
    """The only type asked for: by the tree of the path, else by ``instance-type=``, which clients of LXD send."""
    wanted = _TREES.get(request.tree) or request.query.get("instance-type") or None
    if wanted is not None and wanted not in _TYPES:
        raise InvalidInput("Unknown type of instances", field="instance-type", remedy=f"use {' or '.join(_TYPES)}")
    return wanted
