"""The thing a path names."""

from __future__ import annotations

from isola.doors.rest.request import Request
from isola.errors import NotFound
from isola.model.instance import Instance

_TYPES = {"containers": "container", "virtual-machines": "virtual-machine"}


def instance_of(request: Request) -> Instance:
    """The instance. Raises NotFound, also for a container under ``/1.0/virtual-machines``."""
    instance = request.services.instances.get(request.parameters["name"])
    if not of_tree(request, instance):
        raise NotFound(f"Instance {instance.name!r} is not one of {request.tree}", remedy="ask for /1.0/instances")
    return instance


def of_tree(request: Request, instance: Instance) -> bool:
    """Whether the tree of the path shows it."""
    return _TYPES.get(request.tree, instance.type) == instance.type
