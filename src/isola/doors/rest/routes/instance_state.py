"""State of instances: reading it, and changing one or all."""

from __future__ import annotations

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.answers import background, sync
from isola.doors.rest.lookup import instance_of, instances_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.instances import state_json
from isola.errors import InvalidInput
from isola.model.state_change import Action, StateChange

_DEFAULT_SECONDS = 30


async def get(request: Request) -> web.StreamResponse:
    """The observed state."""
    return sync(state_json(await request.services.instances.state(instance_of(request))))


async def put(request: Request) -> web.StreamResponse:
    """Start an operation: start, stop, restart, freeze or unfreeze."""
    fields = await request.fields()
    ref, change = instance_of(request).ref, _change(fields)
    return background(request.services.instances.change_state(ref, change, caller=request.caller))


async def put_all(request: Request) -> web.StreamResponse:
    """Start the same operation for all instances to which it applies."""
    change = _change((await request.fields()).inside("state"))
    return background(
        request.services.instances.change_states(
            instances_of(request), change, project=request.project, caller=request.caller
        )
    )


def _change(fields: Fields) -> StateChange:
    action = fields.text("action")
    seconds = fields.whole("timeout", 0, minimum=-1, maximum=86_400)
    force = fields.boolean("force")
    # lxc and incus say false only where a state is not wanted, or there is none.
    stateful = fields.boolean("stateful") if fields.has("stateful") else None
    if action not in list(Action):
        raise InvalidInput(f"Unknown action {action[:40]!r}", field="action", remedy=f"use one of: {', '.join(Action)}")
    timeout = None if seconds < 0 else float(seconds or _DEFAULT_SECONDS)
    return StateChange(Action(action), timeout, force, stateful, kill=fields.boolean("kill"))


ROUTES = in_every_tree(
    ("PUT", "/1.0/instances", put_all, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/state", get, Permission.VIEW),
    ("PUT", "/1.0/instances/{name}/state", put, Permission.OPERATE),
)
