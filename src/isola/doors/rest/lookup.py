"""Finds the instances of a request."""

from __future__ import annotations

from collections.abc import Hashable

from isola.doors.rest.request import Request
from isola.errors import InvalidInput, NotFound
from isola.model.instance import Instance
from isola.model.reference import Kind

_TREES = {"containers": "container", "virtual-machines": "virtual-machine"}
_TYPES = tuple(_TREES.values())


def instance_of(request: Request) -> Instance:
    """The instance of a path. Raises NotFound, also for a container below ``/1.0/virtual-machines``."""
    instance = request.services.instances.get(request.ref(request.parameters["name"]))
    required = _wanted_type(request)
    if required not in (None, instance.type):
        raise NotFound(f"Instance {instance.name!r} is not a {required}", remedy="look for it among all instances")
    return instance


def instances_of(request: Request) -> list[Instance]:
    """The instances that the request refers to."""
    required = _wanted_type(request)
    instances = request.services.instances
    if request.everywhere:
        found = [instance for instance in instances if request.caller.may_use(instance.project)]
    else:
        home = request.home(Kind.INSTANCE)
        found = [instance for instance in instances if instance.project == home]
    return found if required is None else [instance for instance in found if instance.type == required]


def scope_of(request: Request) -> Hashable:
    """Requests of the same scope refer to the same instances."""
    projects = request.caller.projects if request.everywhere else request.home(Kind.INSTANCE)
    return _wanted_type(request), projects


def _wanted_type(request: Request) -> str | None:
    """The type that the path's tree or ``instance-type=`` (sent by LXD's clients) selects; None for all."""
    required = _TREES.get(request.tree) or request.query.get("instance-type") or None
    if required is not None and required not in _TYPES:
        raise InvalidInput("Unknown type of instances", field="instance-type", remedy=f"use {' or '.join(_TYPES)}")
    return required
