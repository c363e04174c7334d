"""Unknown objects (on the host but not in the database), and copies of the database. Not in LXD's API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from isola.doors import Services
from isola.doors.rest.answers import background, sync
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.errors import InvalidInput, IsolaError, NotFound
from isola.model.caller import Caller
from isola.model.instance import Unknown
from isola.model.volume import CUSTOM
from isola.operations import Operation

_BLOBS = "image-content"
_FILE = "file"
_ROOT = "/1.0/isola/unknown"


async def list_all(request: Request) -> web.StreamResponse:
    """Instances, pools, networks, image content and files in pools that are not in the database."""
    return sync(await _all(request.services))


async def get(request: Request) -> web.StreamResponse:
    """One unknown object."""
    id = request.parameters["id"]
    for item in await _all(request.services):
        if id in {item["id"], f"{item.get('pool')}/{item['id']}"}:
            return sync(item)
    raise NotFound(f"There is nothing unknown called {id[:80]!r}")


async def act(request: Request) -> web.StreamResponse:
    """``adopt``: recreate an object's record from the metadata stored with it. ``remove``: delete it with its data."""
    fields = await request.fields()
    action, kind, id = fields.text("action"), fields.text("type", "") or "instance", fields.text("id")
    begin = _verbs(request.services, id, fields.text("name", ""), request.caller).get((action, kind))
    if kind == _FILE:
        raise InvalidInput("Files that are not Isola's are listed only", field="action", remedy="remove them by hand")
    if begin is None:
        raise InvalidInput(f"{action[:20]!r} is not offered for {kind[:40]!r}", field="action")
    return background(begin())


async def copy_state(request: Request) -> web.StreamResponse:
    """A consistent copy of the daemon's database; ``isolad --recover FILE`` restores it."""
    data = await request.services.server.copy_state()
    headers = {"Content-Disposition": "inline;filename=isola.db"}
    return web.Response(body=data, content_type="application/octet-stream", headers=headers)


def _verbs(services: Services, id: str, name: str, caller: Caller) -> dict[tuple[str, str], Callable[[], Operation]]:
    look = services.instances.look
    return {
        ("adopt", "instance"): lambda: services.instances.adopt(id, name, caller=caller),
        ("remove", "instance"): lambda: services.instances.remove_unknown(id, caller=caller),
        ("adopt", "storage-pool"): lambda: services.pool_verbs.adopt(id, look, caller=caller),
        ("adopt", "network"): lambda: services.network_verbs.adopt(id, caller=caller),
        ("remove", "network"): lambda: services.network_verbs.remove_unknown(id, caller=caller),
        ("remove", _BLOBS): lambda: services.images.start_remove_unknown(caller=caller),
    }


async def _all(services: Services) -> list[dict[str, object]]:
    await services.instances.look()
    pools, networks = await services.pools.unknown(), await services.networks.unknown()
    found = [_item("storage-pool", name, name, adoptable=record is not None) for name, record in pools.items()]
    found += [_item("network", name, name, adoptable=record is not None) for name, record in networks.items()]
    found += [_instance(each) for each in services.instances.unknown()]
    for pool in services.pools:
        with suppress(IsolaError):  # its disk is missing, or it was deleted meanwhile
            found += [_file(pool.name, path) for path in await services.volumes.foreign(pool.name)]
    if blobs := await services.images.unknown():
        found.append(_item(_BLOBS, _BLOBS, "", size=sum(blobs.values()), count=len(blobs)))
    return found


def _file(pool: str, path: Path) -> dict[str, object]:
    shown = path.name if path.parent.name != CUSTOM else f"{CUSTOM}/{path.name}"
    return _item(_FILE, shown, "", pool=pool, path=str(path))


def _instance(unknown: Unknown) -> dict[str, object]:
    return _item(
        "instance",
        unknown.id,
        unknown.instance.name if unknown.instance is not None else "",
        adoptable=unknown.instance is not None and bool(unknown.pool),
        pool=unknown.pool,
        running=unknown.running,
    )


def _item(kind: str, id: str, name: str, *, adoptable: bool = False, **more: object) -> dict[str, object]:
    return {"type": kind, "id": id, "name": name, "adoptable": adoptable, **more}


ROUTES = (
    ("GET", _ROOT, list_all, Permission.ADMIN),
    ("POST", _ROOT, act, Permission.ADMIN),
    ("GET", f"{_ROOT}/{{id}}", get, Permission.ADMIN),
    ("GET", "/1.0/isola/state", copy_state, Permission.ADMIN),
)
