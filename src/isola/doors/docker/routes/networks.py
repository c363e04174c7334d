"""Networks: list, inspect, create, remove, connect, disconnect, prune."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from isola.doors.docker.answers import answer, created, empty
from isola.doors.docker.filtering import finds, matches_labels
from isola.doors.docker.identity import container_id, find
from isola.doors.docker.networks.configurations import check_configuration, completed
from isola.doors.docker.networks.creation import new_network, overlap_of
from isola.doors.docker.networks.endpoints import connected, disconnected, networks_of
from isola.doors.docker.networks.lookup import (
    PREDEFINED,
    RESERVED,
    Shown,
    all_networks,
    default_network,
    find_network,
    no_address,
)
from isola.doors.docker.networks.notes import labels_of, note_of
from isola.doors.docker.networks.shape import network_json
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.docker.times import nanoseconds, parse_time
from isola.errors import AlreadyExists, Exhausted, Forbidden, InUse, InvalidInput, IsolaError, NotFound
from isola.model.instance import Instance, InstanceUpdate
from isola.model.reference import Entity, Kind

_Match = Callable[[Shown], bool]
_CUSTOM, _BUILT_IN = "custom", "builtin"


async def list_networks(request: Request) -> web.StreamResponse:
    """Of the project, the usual three included."""
    keeps = _filter(request, request.filters())
    return answer([network_json(request, each, containers=False) for each in all_networks(request) if keeps(each)])


async def inspect(request: Request) -> web.StreamResponse:
    """One, with the containers that run on it."""
    each = _named(request)
    if request.query.get("scope", "local") not in ("", "local"):
        raise NotFound(f"network {request.parameters['name'][:200]} not found")
    return answer(network_json(request, each, containers=True))


async def create(request: Request) -> web.StreamResponse:
    """A bridge with subnets of its own, a network of a link, or settings for other networks."""
    fields = await request.fields()
    check_configuration(fields)
    network = new_network(completed(request, fields), request.home(Kind.NETWORK))
    name = note_of(network).name or network.name
    if name in RESERVED:
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    if any(each.name == name for each in all_networks(request)):
        raise AlreadyExists(f"network with name {name} already exists")
    try:
        operation = request.services.network_verbs.create(network, caller=request.caller, project=request.project)
        await request.services.operations.finish(operation)
    except IsolaError as error:
        raise overlap_of(error) from None
    return created({"Id": find_network(request, network.name).id, "Warning": ""})


async def remove(request: Request) -> web.StreamResponse:
    """Unless a container is on it."""
    each = _named(request)
    if each.network is None or each.name in PREDEFINED:
        raise Forbidden(f"{each.name} is a pre-defined network and cannot be removed")
    users = request.services.networks.used_by(each.network.ref)
    if users and each.configuration:
        raise Forbidden(f'error while removing network: configuration network "{each.name}" is in use')
    if users:
        raise Forbidden(
            f"error while removing network: network {each.name} has active endpoints ({_endpoints(request, users)})"
        )
    operation = request.services.network_verbs.delete(each.network.ref, caller=request.caller, project=request.project)
    await request.services.operations.finish(operation)
    return empty()


async def connect(request: Request) -> web.StreamResponse:
    """A container, running or not, to one more network."""
    each, fields = _named(request), await request.fields()
    instance = find(request, fields.text("Container"))
    await _update(request, instance, connected(request, each, fields.inside("EndpointConfig")))
    return empty(200)


async def disconnect(request: Request) -> web.StreamResponse:
    """A container, running or not, from a network."""
    each, fields = _named(request), await request.fields()
    instance = find(request, fields.text("Container"))
    await _update(request, instance, disconnected(request, each))
    return empty(200)


async def prune(request: Request) -> web.StreamResponse:
    """Those that were created through this door, and that nothing uses."""
    filters = request.filters()
    if unknown := sorted(set(filters) - {"until", "label", "label!"}):
        raise InvalidInput(f"invalid filter '{unknown[0][:80]}'")
    until = parse_time(next(iter(filters.get("until", ())), ""), "until", request.services.host.clock.now())
    removed = []
    for each in list(all_networks(request)):
        if each.network is None or each.configuration or each.name in PREDEFINED or not note_of(each.network).ours:
            continue
        labels, made = labels_of(each.network), each.network.created_at
        if not matches_labels(labels, filters.get("label", ())):
            continue
        if filters.get("label!") and matches_labels(labels, filters["label!"]):
            continue
        if until is not None and made is not None and nanoseconds(made) > until:
            continue
        if request.services.networks.used_by(each.network.ref):
            continue
        try:
            operation = request.services.network_verbs.delete(
                each.network.ref, caller=request.caller, project=request.project
            )
            await request.services.operations.finish(operation)
        except (InUse, NotFound):  # meanwhile
            continue
        removed.append(each.name)
    request.history.tell("network", "prune", reclaimed="0")
    return answer({"NetworksDeleted": removed or None})


def _named(request: Request) -> Shown:
    return find_network(request, request.parameters["name"])


async def _update(request: Request, instance: Instance, decide: Callable[[Instance], InstanceUpdate]) -> None:
    operation = request.services.instances.update(instance.ref, decide, caller=request.caller)
    try:
        await request.services.operations.finish(operation)
    except Exhausted as error:
        raise no_address(request, error) from None


def _endpoints(request: Request, users: Sequence[Entity]) -> str:
    """``name:"web" id:"0123456789ab"`` of each."""
    ids = {each.ref: container_id(each.id)[:12] for each in request.services.instances}
    return ", ".join(f'name:"{user.names[-1]}" id:"{ids.get(user.ref, "")}"' for user in users[:10])


def _filter(request: Request, filters: Mapping[str, Sequence[str]]) -> _Match:
    """All filters of different names, any of one name, but all labels. Raises InvalidInput."""
    tests: list[_Match] = []
    for name, values in filters.items():
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name[:80]}'")
        tests.append(_FILTERS[name](request, values))
    return lambda each: all(test(each) for test in tests)


def _by_label(request: Request, values: Sequence[str]) -> _Match:
    return lambda each: matches_labels(labels_of(each.network) if each.network is not None else {}, values)


def _by_type(request: Request, values: Sequence[str]) -> _Match:
    for value in values:
        if value not in (_CUSTOM, _BUILT_IN):
            raise InvalidInput(f"invalid filter: 'type'='{value[:80]}'")
    return lambda each: (_BUILT_IN if each.name in PREDEFINED else _CUSTOM) in values


def _by_use(request: Request, values: Sequence[str]) -> _Match:
    wanted = {value.lower() in ("1", "true") for value in values}
    if any(value.lower() not in ("0", "1", "true", "false") for value in values) or len(wanted) != 1:
        raise InvalidInput('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
    used: set[str] = set()
    for instance in request.services.instances:
        used.update(networks_of(request, request.services.instances.expanded(instance)[1]))
    default = default_network(request)
    dangling = wanted.pop()
    return lambda each: (
        (each.name not in PREDEFINED and (default is None or each.network != default) and each.name not in used)
        == dangling
        and (each.name not in PREDEFINED or not dangling)
    )


_FILTERS: Mapping[str, Callable[[Request, Sequence[str]], _Match]] = {
    "driver": lambda request, values: lambda each: each.driver in values,
    "id": lambda request, values: lambda each: any(finds(value, each.id) for value in values),
    "name": lambda request, values: lambda each: any(finds(value, each.name) for value in values),
    "scope": lambda request, values: lambda each: "local" in values,
    "label": _by_label,
    "type": _by_type,
    "dangling": _by_use,
}

ROUTES: tuple[Route, ...] = (
    ("GET", "/networks", list_networks, Permission.VIEW),
    ("POST", "/networks/create", create, Permission.EDIT),
    ("POST", "/networks/prune", prune, Permission.EDIT),
    ("GET", "/networks/{name}", inspect, Permission.VIEW),
    ("DELETE", "/networks/{name}", remove, Permission.EDIT),
    ("POST", "/networks/{name}/connect", connect, Permission.EDIT),
    ("POST", "/networks/{name}/disconnect", disconnect, Permission.EDIT),
)
