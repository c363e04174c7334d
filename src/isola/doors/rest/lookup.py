"""The thing a path names."""

from __future__ import annotations

from isola.doors.rest.request import Request
from isola.errors import NotFound
from isola.model.instance import Instance

_TYPES = {"containers": "container", "virtual-machines": "virtual-machine"}


def instance_of(request: Request) -> Instance:
    """The instance. Raises NotFound, also for a container under ``/1.0/virtual-machines``."""
    instance = request.services.instances.get(request.parameters["name"])
    tree = request.tree
    if _TYPES.get(tree, instance.type) != instance.type:
        raise NotFound(f"Instance {instance.name!r} is not one of {tree}", remedy="ask for it among all instances")
    return instance


def instances_of(request: Request) -> list[Instance]:
    """The instances the tree of the path shows."""
    kind = _TYPES.get(request.tree)
    instances = request.services.instances
    return list(instances) if kind is None else [instance for instance in instances if instance.type == kind]
