"""Volumes: list, inspect, create, remove, prune. Each is a custom volume of one pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from isola.doors.docker.answers import NO_MANAGER, Unavailable, answer, created, empty
from isola.doors.docker.containers.volumes import pool_of, volume_ref
from isola.doors.docker.filtering import finds, matches_labels, truth
from isola.doors.docker.identity import container_id
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.docker.times import rfc3339
from isola.doors.docker.volume_keys import (
    ANONYMOUS,
    check_name,
    label_keys,
    labels_of,
    mount_keys,
    mount_options,
    mount_point,
)
from isola.errors import AlreadyExists, Conflict, InUse, InvalidInput, NotFound
from isola.model.reference import Kind
from isola.model.volume import CUSTOM, VolumeRecord, VolumeRef

_ANONYMOUS_SIZE = 32
"""Bytes of the name of a volume without one."""
_Match = Callable[[VolumeRecord], bool]


async def list_volumes(request: Request) -> web.StreamResponse:
    """Of the door's pool."""
    keeps = _filter(request, request.filters())
    found = [volume_json(request, record) for record in volumes_of(request) if keeps(record)]
    return answer({"Volumes": found, "Warnings": None})


async def inspect(request: Request) -> web.StreamResponse:
    """One volume."""
    return answer(volume_json(request, _named(request)))


async def create(request: Request) -> web.StreamResponse:
    """An empty volume; one that is there is answered as if it were new."""
    fields = await request.fields()
    name = fields.text("Name", "")
    if driver := fields.text("Driver", "").removeprefix("local"):
        text = f'error looking up volume plugin {driver[:80]}: plugin "{driver[:80]}" not found'
        raise NotFound(f"create {name[:200]}: {text}" if name else text)
    if fields.has("ClusterVolumeSpec"):
        raise Unavailable(NO_MANAGER)
    config = label_keys(fields.mapping("Labels", empty=True))
    if not name:
        name = request.services.host.clock.token(_ANONYMOUS_SIZE)
        config[ANONYMOUS] = "true"
    else:
        check_name(name)
    config |= mount_keys(name, fields.mapping("DriverOpts", empty=True))
    ref = volume_ref(request, name)
    if _find(request, ref) is None:
        try:
            operation = await request.services.volumes.create(ref, config, caller=request.caller)
            await request.services.operations.finish(operation)
        except AlreadyExists:  # by another client meanwhile
            pass
    return created(volume_json(request, request.services.volumes.get(ref)))


async def remove(request: Request) -> web.StreamResponse:
    """Unless a container has it; with ``force`` also one that is not there."""
    try:
        record = _named(request)
    except NotFound:
        if request.flag("force"):
            return empty()
        raise
    if users := _users(request, record):
        raise Conflict(f"remove {record.name}: volume is in use - [{', '.join(users)}]")
    operation = await request.services.volumes.delete(record.ref, caller=request.caller)
    await request.services.operations.finish(operation)
    return empty()


async def prune(request: Request) -> web.StreamResponse:
    """Unused ones: those without a name of a user's, with ``all`` every one that was made for containers."""
    filters = request.filters()
    if unknown := sorted(set(filters) - {"label", "label!", "all"}):
        raise InvalidInput(f"invalid filter '{unknown[0][:80]}'")
    every = bool(filters.get("all")) and truth(filters["all"], "all")
    every = every or request.version < (1, 42)
    removed, reclaimed = [], 0
    for record in volumes_of(request):
        labels = _labels(record)
        unwanted = filters.get("label!") and matches_labels(labels, filters["label!"])
        if unwanted or not matches_labels(labels, filters.get("label", ())):
            continue
        if not (every or ANONYMOUS in record.config) or _users(request, record) or mount_options(record.config):
            continue
        try:
            size = (await request.services.volumes.usage(record.ref)).used
            operation = await request.services.volumes.delete(record.ref, caller=request.caller)
            await request.services.operations.finish(operation)
        except (InUse, NotFound):  # meanwhile
            continue
        removed.append(record.name)
        reclaimed += max(size, 0)
    request.history.tell("volume", "prune", reclaimed=str(reclaimed))
    return answer({"VolumesDeleted": removed, "SpaceReclaimed": reclaimed})


def volumes_of(request: Request) -> list[VolumeRecord]:
    """Custom volumes of the project in the door's pool, that are complete."""
    home = request.home(Kind.STORAGE_VOLUME)
    found = request.services.volumes.in_pool(pool_of(request))
    return [each for each in found if each.kind == CUSTOM and each.project == home and each.ready]


def volume_json(request: Request, record: VolumeRecord) -> dict[str, Any]:
    """As inspected."""
    return {
        "CreatedAt": rfc3339(record.created_at, seconds=True),
        "Driver": "local",
        "Labels": _labels(record),
        "Mountpoint": mount_point(request.services, record),
        "Name": record.name,
        "Options": mount_options(record.config) or None,
        "Scope": "local",
    }


def _labels(record: VolumeRecord) -> dict[str, str]:
    return labels_of(record.config)


def _named(request: Request) -> VolumeRecord:
    name = request.parameters["name"]
    record = _find(request, volume_ref(request, name))
    if record is None:
        raise NotFound(f"get {name[:200]}: no such volume")
    return record


def _find(request: Request, ref: VolumeRef) -> VolumeRecord | None:
    try:
        return request.services.volumes.get(ref)
    except NotFound:
        return None


def _users(request: Request, record: VolumeRecord) -> list[str]:
    """Ids of containers that have it, running or not; names of what else uses it."""
    ids = {each.ref: container_id(each.id) for each in request.services.instances}
    users = request.services.volumes.used_by(record.ref)
    return [ids.get(user.ref, str(user)) if user.kind is Kind.INSTANCE else str(user) for user in users]


def _filter(request: Request, filters: Mapping[str, Sequence[str]]) -> _Match:
    tests: list[_Match] = []
    for name, values in filters.items():
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name[:80]}'")
        tests.append(_FILTERS[name](request, values))
    return lambda record: all(test(record) for test in tests)


def _dangling(request: Request, values: Sequence[str]) -> _Match:
    wanted = truth(values, "dangling")
    return lambda record: (not _users(request, record)) is wanted


_FILTERS: Mapping[str, Callable[[Request, Sequence[str]], _Match]] = {
    "dangling": _dangling,
    "driver": lambda request, values: lambda record: "local" in values,
    "name": lambda request, values: lambda record: any(finds(value, record.name) for value in values),
    "label": lambda request, values: lambda record: matches_labels(_labels(record), values),
}

ROUTES: tuple[Route, ...] = (
    ("GET", "/volumes", list_volumes, Permission.VIEW),
    ("POST", "/volumes/create", create, Permission.EDIT),
    ("POST", "/volumes/prune", prune, Permission.EDIT),
    ("GET", "/volumes/{name}", inspect, Permission.VIEW),
    ("DELETE", "/volumes/{name}", remove, Permission.EDIT),
)
