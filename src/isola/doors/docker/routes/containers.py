"""Containers: lists, creation, description, changes and removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from isola.doors.docker.answers import answer, created, empty, json
from isola.doors.docker.containers import older, volumes
from isola.doors.docker.containers.creation import (
    container_name,
    require_platform,
    translate,
    with_volumes,
)
from isola.doors.docker.containers.filters import matcher
from isola.doors.docker.containers.inspect import inspect
from isola.doors.docker.containers.lines import Lines
from isola.doors.docker.containers.mounts import missing_source
from isola.doors.docker.containers.removal import prune as prune_containers
from isola.doors.docker.containers.removal import remove as remove_container
from isola.doors.docker.containers.sizes import sizes_of
from isola.doors.docker.containers.update import changed
from isola.doors.docker.containers.view import view
from isola.doors.docker.containers.warnings import warnings_of
from isola.doors.docker.identity import container_id, named
from isola.doors.docker.image_lookup import find_image, shown
from isola.doors.docker.json_body import decoded
from isola.doors.docker.networks.links import without_link
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission
from isola.doors.http.reading import Fields
from isola.errors import AlreadyExists, Conflict, InvalidInput, IsolaError, NotFound
from isola.model.program import Program, command_of
from isola.model.reference import Ref


async def list_all(request: Request) -> web.StreamResponse:
    """The newest first; without ``all`` only those that run, unless filters name others."""
    filters = request.filters()
    match = matcher(request, filters)
    limit = request.whole("limit") or 0
    everything = request.flag("all") or limit > 0 or bool(filters.get("status"))
    lines = Lines(request)
    found = [seen for seen in lines.views() if (everything or seen.running) and match(seen)]
    chosen = found[:limit] if limit > 0 else found
    sizes: list[dict[str, int]] = []
    for each in chosen if request.flag("size") else ():
        own, whole = await sizes_of(request, each.instance)
        sizes.append({"SizeRw": own, "SizeRootFs": whole})
    return json(lines.joined(chosen, sizes))


async def create(request: Request) -> web.StreamResponse:
    """Create a container; its volumes are created with it."""
    raw = older.as_meant(await _object(request), request.version)
    fields = Fields(raw)
    if not raw.keys() - {"HostConfig", "NetworkingConfig"}:
        raise InvalidInput("config cannot be empty in order to create a container")
    if not fields.text("Image", ""):
        program = fields.has("Cmd") or fields.has("Entrypoint")
        raise InvalidInput("no image specified" if program else "no command specified")
    image = find_image(request, fields.text("Image"))
    require_platform(older.platform_of(request.query, request.version), image, shown(fields.text("Image")))
    wanted = translate(request, fields, raw, image)
    if not command_of(wanted.request.program or Program(), image.config.entrypoint, image.config.command)[1]:
        raise InvalidInput("no command specified")
    if wanted.request.name is not None:
        _require_free(request, wanted.request.name)
    devices, made = await volumes.devices_of(request, wanted.mounts.volumes)
    try:
        operation = request.services.instances.create(
            replace(wanted.request, devices=with_volumes(wanted, devices)), caller=request.caller
        )
        await request.services.operations.finish(operation)
    except AlreadyExists:
        await volumes.remove(request, made)
        if wanted.request.name is not None:
            _require_free(request, wanted.request.name)
        raise
    except NotFound as error:
        await volumes.remove(request, made)
        raise missing_source(error, wanted.request.devices) from error
    except IsolaError as error:
        await volumes.remove(request, made)
        raise volumes.no_quotas(error, fields.inside("HostConfig")) from error
    instance = request.services.instances.get(operation.resources[0].ref)
    return created({"Id": container_id(instance.id), "Warnings": warnings_of(request, fields, image)})


async def get(request: Request) -> web.StreamResponse:
    """The complete description."""
    instance = named(request)
    seen = view(request, instance)
    state = await request.services.instances.state(instance, disk=False)
    sizes = await sizes_of(request, instance) if request.flag("size") else None
    return answer(inspect(request, seen, pid=state.pid, sizes=sizes))


async def remove(request: Request) -> web.StreamResponse:
    """``force`` kills it first; ``v`` removes volumes that it has created for itself."""
    if request.flag("link"):
        raise Conflict("Conflict, cannot remove the default link name of the container")
    await remove_container(request, view(request, named(request)), force=request.flag("force"), own=request.flag("v"))
    return empty()


async def remove_link(request: Request) -> web.StreamResponse:
    """With ``link`` the name by which a container knows another; both stay."""
    name, alias = request.parameters["name"], request.parameters["alias"]
    if not request.flag("link"):
        raise NotFound(f"No such container: {name[:200]}/{alias[:200]}")
    instance = named(request)
    operation = request.services.instances.update(instance.ref, without_link(alias), caller=request.caller)
    await request.services.operations.finish(operation)
    return empty()


async def rename(request: Request) -> web.StreamResponse:
    """Another name; running containers keep their host name."""
    instance = named(request)
    given = request.query.get("name", "")
    if not given:
        raise InvalidInput("Neither old nor new names may be empty")
    if given.removeprefix("/") == instance.name:
        raise InvalidInput("Renaming a container with the same name as its current name")
    try:
        new = container_name("/" + given.removeprefix("/"))
        _require_free(request, new)
    except (InvalidInput, Conflict) as error:
        raise type(error)(f"Error when allocating new name: {error}") from None
    operation = request.services.instances.rename(instance.ref, new, running=True, caller=request.caller)
    await request.services.operations.finish(operation)
    return empty()


async def update(request: Request) -> web.StreamResponse:
    """Change limits and the restart policy, also while it runs."""
    fields = await request.fields()
    instance = named(request)
    if instance.ephemeral and fields.inside("RestartPolicy").text("Name", "") not in ("", "no"):
        raise Conflict(
            f"Cannot update container {container_id(instance.id)}: Restart policy cannot be updated because "
            "AutoRemove is enabled for the container"
        )
    operation = request.services.instances.update(instance.ref, changed(request, fields), caller=request.caller)
    await request.services.operations.finish(operation)
    return answer({"Warnings": None})


async def prune(request: Request) -> web.StreamResponse:
    """Remove all containers that do not run."""
    deleted, space = await prune_containers(request)
    request.history.tell("container", "prune", reclaimed=str(space))
    return answer({"ContainersDeleted": deleted or None, "SpaceReclaimed": space})


async def _object(request: Request) -> Mapping[str, Any]:
    request.require_json()
    data = await request.body()
    if not data.strip():
        raise InvalidInput("invalid JSON: got EOF while reading request body")
    value = decoded(data)
    if not isinstance(value, dict):
        raise InvalidInput("invalid JSON: an object is expected")
    return value


def _require_free(request: Request, name: str) -> None:
    """Raises Conflict with the text that scripts look for."""
    if (found := request.services.instances.find(Ref(request.project, name))) is not None:
        raise Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{container_id(found.id)}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


ROUTES = (
    ("GET", "/containers/json", list_all, Permission.VIEW),
    ("POST", "/containers/create", create, Permission.EDIT),
    ("POST", "/containers/prune", prune, Permission.EDIT),
    ("GET", "/containers/{name}/json", get, Permission.VIEW),
    ("DELETE", "/containers/{name}", remove, Permission.EDIT),
    ("DELETE", "/containers/{name}/{alias}", remove_link, Permission.EDIT),
    ("POST", "/containers/{name}/rename", rename, Permission.EDIT),
    ("POST", "/containers/{name}/update", update, Permission.EDIT),
)
