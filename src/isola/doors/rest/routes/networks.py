"""Networks, and the host's own links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from aiohttp import web

from isola.devices.nics import HWADDR
from isola.doors.rest.acting import finished, verb_arguments
from isola.doors.rest.addresses import address, address_of
from isola.doors.rest.answers import created, sync
from isola.doors.rest.filtering import select_records
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.networks import lease_json, link_json, network_json, writable
from isola.errors import InvalidInput, NotFound
from isola.model.names import network_name
from isola.model.network import Network
from isola.model.reference import Entity, Kind, Ref
from isola.projects.restrictions import shows_network


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or networks, managed or not."""
    networks = request.services.networks
    everywhere = request.everywhere
    listed = [each for each in networks if request.lists(each.entity) and (everywhere or _shows(request, each.name))]
    shapes = {address(each.entity): _shape(request, each) for each in listed}
    if request.lists(Entity.of(Kind.NETWORK, Ref.default(""))):
        for name, kind in (await (networks.unmanaged() if everywhere else _links(request))).items():
            shapes[address_of(Kind.NETWORK, Ref.default(name))] = link_json(name, kind)
    found = select_records(shapes, shapes.__getitem__, request.query.get("filter", ""))
    return sync([shape if request.recursion else at for at, shape in found])


async def create(request: Request) -> web.StreamResponse:
    """A new managed network."""
    fields = await request.fields()
    network = Network(
        name=network_name(fields.text("name")),
        project=request.home(Kind.NETWORK),
        driver=fields.text("type", "") or "bridge",
        description=fields.text("description", ""),
        config=fields.mapping("config"),
    )
    await finished(request, request.services.network_verbs.create(network, **verb_arguments(request)))
    return created(address(network.entity))


async def get(request: Request) -> web.StreamResponse:
    """One network, or a link of the host."""
    networks, name = request.services.networks, request.parameters["name"]
    try:
        network = networks.get(_ref(request))
    except NotFound:
        kind = (await _links(request)).get(name)
        if kind is None:
            raise
        shape = link_json(name, kind)
        return sync(shape, etag=shape)
    return sync(_shape(request, network), etag=writable(network))


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration and description."""
    fields = await request.fields()
    description, config = fields.text("description", ""), fields.mapping("config")
    return await _update(request, lambda network: replace(network, description=description, config=config))


async def patch(request: Request) -> web.StreamResponse:
    """Change some of them; an empty key is removed."""
    fields = await request.fields()

    def merge(network: Network) -> Network:
        config = {
            key: value for key, value in {**network.config, **fields.mapping("config", empty=True)}.items() if value
        }
        return replace(network, description=fields.text("description", network.description), config=config)

    return await _update(request, merge)


async def rename(request: Request) -> web.StreamResponse:
    """Rename a network."""
    fields = await request.fields()
    new = network_name(fields.text("name"))
    network = await _managed(request)
    await finished(request, request.services.network_verbs.rename(network.ref, new, **verb_arguments(request)))
    return created(address_of(Kind.NETWORK, network.ref.renamed(new)))


async def delete(request: Request) -> web.StreamResponse:
    """Delete it with its bridge."""
    network = await _managed(request)
    await finished(request, request.services.network_verbs.delete(network.ref, **verb_arguments(request)))
    return sync()


async def leases(request: Request) -> web.StreamResponse:
    """Addresses in use; on a shared network, restricted callers see those of their own instances."""
    network = await _managed(request)
    found = await request.services.networks.leases(network.ref)
    if not request.caller.admin:
        mine = _mine(request)
        found = [each for each in found if each.type == "gateway" or (each.instance_id or each.mac.lower()) in mine]
    return sync([lease_json(lease) for lease in found])


def _mine(request: Request) -> set[str]:
    """Ids of the instances that the caller may see, and MAC addresses that only these have.

    Host names do not identify an instance: each project may have one of that name, and DHCP clients choose theirs.
    """
    owners: dict[str, bool] = {}
    for instance in request.services.instances:
        may = request.caller.may_use(instance.project)
        for own in (instance.id, *(state.facts.get(HWADDR, "") for state in instance.plugged.values())):
            owners[own.lower()] = owners.get(own.lower(), True) and may
    return {own for own, may in owners.items() if may and own}


async def state(request: Request) -> web.StreamResponse:
    """The observed state of its link."""
    ref = _ref(request)
    if request.services.networks.find(ref) is None and not _shows(request, ref.name, managed=False):
        raise _unknown(ref)
    return sync(await request.services.networks.state(ref))


async def _update(request: Request, decide: Callable[[Network], Network]) -> web.StreamResponse:
    ref, matching = (await _managed(request)).ref, request.matching(writable, decide)
    await finished(request, request.services.network_verbs.update(ref, matching, **verb_arguments(request)))
    return sync()


async def _managed(request: Request) -> Network:
    name = request.parameters["name"]
    try:
        return request.services.networks.get(_ref(request))
    except NotFound:
        if name in await _links(request):
            raise InvalidInput(f"{name!r} is a link of the host, which Isola does not manage", field="name") from None
        raise


def _ref(request: Request) -> Ref:
    """Raises NotFound for a network that the project of the request must not use."""
    ref = request.ref(request.parameters["name"], Kind.NETWORK)
    if request.services.networks.find(ref) is not None and not _shows(request, ref.name):
        raise _unknown(ref)
    return ref


async def _links(request: Request) -> Mapping[str, str]:
    """Links of the host, which are no managed networks, with their kinds."""
    links = await request.services.networks.unmanaged()
    return {name: kind for name, kind in links.items() if _shows(request, name, managed=False)}


def _shows(request: Request, name: str, *, managed: bool = True) -> bool:
    project = request.services.projects.find(request.project)
    return project is None or shows_network(project, name, managed=managed)


def _unknown(ref: Ref) -> NotFound:
    return NotFound(f"Network {ref.quoted} not found")


def _shape(request: Request, network: Network) -> dict[str, object]:
    return network_json(network, request.users(request.services.networks.used_by(network.ref)))


ROUTES = (
    ("GET", "/1.0/networks", list_all, Permission.VIEW),
    ("POST", "/1.0/networks", create, Permission.EDIT),
    ("GET", "/1.0/networks/{name}", get, Permission.VIEW),
    ("PUT", "/1.0/networks/{name}", put, Permission.EDIT),
    ("PATCH", "/1.0/networks/{name}", patch, Permission.EDIT),
    ("POST", "/1.0/networks/{name}", rename, Permission.EDIT),
    ("DELETE", "/1.0/networks/{name}", delete, Permission.EDIT),
    ("GET", "/1.0/networks/{name}/leases", leases, Permission.VIEW),
    ("GET", "/1.0/networks/{name}/state", state, Permission.VIEW),
)
