"""Finds the volume or snapshot of a path."""

from __future__ import annotations

from collections.abc import Iterator

from isola.access import refusal_of_shared
from isola.doors.rest.request import Request
from isola.errors import Forbidden, InvalidInput, NotFound, Unsupported
from isola.model.instance import Instance
from isola.model.isolation import CONTAINER, VIRTUAL_MACHINE
from isola.model.reference import Kind
from isola.model.storage import Pool
from isola.model.volume import CUSTOM, VolumeRecord, VolumeRef

ROOTS = (CONTAINER, VIRTUAL_MACHINE)
"""Types of root volumes: those of their instances."""
TYPES = (*ROOTS, CUSTOM, "image")


def pool_of(request: Request) -> Pool:
    """Raises NotFound."""
    return request.services.pools.get(request.parameters["pool"])


def type_of(request: Request) -> str:
    """The requested type of volumes; empty for all. Raises InvalidInput."""
    kind = request.parameters.get("type", "")
    if kind and kind not in TYPES:
        raise InvalidInput(f"Unknown type of volumes {kind[:40]!r}", field="type", remedy=f"use {', '.join(TYPES)}")
    return kind


def home_of(request: Request) -> str:
    """The project whose volumes the request uses: its own, or the default one if it shares them."""
    return request.home(Kind.STORAGE_VOLUME)


def other_home(request: Request, project: str) -> str:
    """The same for a project named in the body. Raises NotFound if the caller may not use it."""
    if project in {"", request.project}:
        return home_of(request)
    if not request.caller.may_use(project):
        raise NotFound(f"Project {project[:80]!r} not found", field="project")
    request.services.projects.get(project)
    return request.services.projects.home(project, Kind.STORAGE_VOLUME)


def target_home(request: Request, project: str) -> str:
    """The same for the project of a new volume. Raises Forbidden if the caller may not change the shared volumes."""
    home = other_home(request, project)
    if reason := refusal_of_shared(request.caller, project or request.project, home):
        raise Forbidden(reason, field="project")
    return home


def ref_of(request: Request) -> VolumeRef:
    """Reference to the custom volume of the path, which may not exist. Raises Unsupported for root volumes."""
    pool = pool_of(request)
    if type_of(request) != CUSTOM:
        if type_of(request) in ROOTS:
            root_of(request)
        raise Unsupported(
            "Only custom volumes can be changed directly", remedy="change a root volume through its instance"
        )
    return VolumeRef.custom(pool.name, request.parameters["volume"], home_of(request))


def custom_of(request: Request) -> VolumeRecord:
    """Raises NotFound."""
    return request.services.volumes.get(ref_of(request))


def roots_in(request: Request, pool: Pool) -> Iterator[Instance]:
    """Instances with their root volume in a pool."""
    listed = (each for each in request.services.instances if request.lists(each.entity))
    return (each for each in listed if each.volatile.get("root.pool") == pool.name)


def root_of(request: Request) -> Instance:
    """The instance of the root volume in the path. Raises NotFound."""
    pool, kind, name = pool_of(request), type_of(request), request.parameters["volume"]
    for instance in roots_in(request, pool):
        if (instance.type, instance.name) == (kind, name):
            return instance
    raise NotFound(f"Storage volume {name[:80]!r} not found in pool {pool.name!r}")
