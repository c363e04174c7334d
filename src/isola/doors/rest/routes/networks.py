"""Networks, and the host's own links beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.acting import done
from isola.doors.rest.answers import created, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.networks import lease_json, link_json, network_json, writable
from isola.errors import InvalidInput, NotFound
from isola.model.names import network_name
from isola.model.network import Network


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or networks, managed and not."""
    networks = request.services.networks
    managed = [network_json(network, networks.used_by(network.name)) for network in networks]
    shapes = managed + [link_json(name, kind) for name, kind in (await networks.unmanaged()).items()]
    shapes = select(shapes, request.query.get("filter", ""))
    return sync(shapes if request.recursion else [f"/1.0/networks/{shape['name']}" for shape in shapes])


async def create(request: Request) -> web.StreamResponse:
    """A new managed network."""
    fields = await request.fields()
    network = Network(
        name=network_name(fields.text("name")),
        driver=fields.text("type", "") or "bridge",
        description=fields.text("description", ""),
        config=fields.mapping("config"),
    )
    path = f"/1.0/networks/{network.name}"
    services = request.services
    await done(
        services, "Creating network", path, lambda op: services.networks.create(op, network), lock=_lock(network.name)
    )
    return created(path)


async def get(request: Request) -> web.StreamResponse:
    """One network, or a link of the host."""
    networks, name = request.services.networks, request.parameters["name"]
    try:
        network = networks.get(name)
    except NotFound:
        kind = (await networks.unmanaged()).get(name)
        if kind is None:
            raise
        shape = link_json(name, kind)
        return sync(shape, etag=shape)
    return sync(network_json(network, networks.used_by(name)), etag=writable(network))


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration and description."""
    fields = await request.fields()
    description, config = fields.text("description", ""), fields.mapping("config")
    return await _update(request, lambda network: replace(network, description=description, config=config))


async def patch(request: Request) -> web.StreamResponse:
    """Change some of them; a key set to nothing goes."""
    fields = await request.fields()

    def merge(network: Network) -> Network:
        config = {
            key: value for key, value in {**network.config, **fields.mapping("config", empty=True)}.items() if value
        }
        return replace(network, description=fields.text("description", network.description), config=config)

    return await _update(request, merge)


async def rename(request: Request) -> web.StreamResponse:
    """Give it another name."""
    fields = await request.fields()
    new = network_name(fields.text("name"))
    network = await _managed(request)
    services, path = request.services, f"/1.0/networks/{new}"
    await done(
        services,
        "Renaming network",
        path,
        lambda op: services.networks.rename(op, network.name, new),
        lock=_lock(network.name),
    )
    return created(path)


async def delete(request: Request) -> web.StreamResponse:
    """Take it down and forget it."""
    network = await _managed(request)
    services = request.services
    await done(
        services,
        "Deleting network",
        f"/1.0/networks/{network.name}",
        lambda op: services.networks.delete(op, network.name),
        lock=_lock(network.name),
    )
    return sync()


async def leases(request: Request) -> web.StreamResponse:
    """Addresses in use."""
    network = await _managed(request)
    return sync([lease_json(lease) for lease in await request.services.networks.leases(network.name)])


async def state(request: Request) -> web.StreamResponse:
    """What is observed of its link."""
    return sync(await request.services.networks.state(request.parameters["name"]))


async def _update(request: Request, decide: Callable[[Network], Network]) -> web.StreamResponse:
    services, network = request.services, await _managed(request)
    await done(
        services,
        "Updating network",
        f"/1.0/networks/{network.name}",
        lambda op: services.networks.update(op, network.name, request.matching(writable, decide)),
        lock=_lock(network.name),
    )
    return sync()


async def _managed(request: Request) -> Network:
    name = request.parameters["name"]
    try:
        return request.services.networks.get(name)
    except NotFound:
        if name in await request.services.networks.unmanaged():
            raise InvalidInput(f"{name!r} is a link of the host and not managed here", field="name") from None
        raise


def _lock(name: str) -> str:
    return f"network/{name}"


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
