"""State of instances: looked at, and changed one by one or all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from isola.doors import Services
from isola.doors.rest.answers import background, sync
from isola.doors.rest.lookup import instance_of, instances_of
from isola.doors.rest.reading import Fields
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.instances import state_json
from isola.errors import InvalidInput, IsolaError
from isola.model.instance import Status
from isola.operations import Operation

Act = Callable[[str], Operation]
_DEFAULT_SECONDS = 30
_FITTING = {
    "start": (Status.STOPPED,),
    "stop": (Status.RUNNING, Status.FROZEN, Status.STARTING),
    "restart": (Status.RUNNING, Status.FROZEN, Status.STARTING),
    "freeze": (Status.RUNNING,),
    "unfreeze": (Status.FROZEN,),
}
"""Instances a change of all applies to."""


async def get(request: Request) -> web.StreamResponse:
    """What is observed now."""
    return sync(state_json(await request.services.instances.state(instance_of(request))))


async def put(request: Request) -> web.StreamResponse:
    """Begin to start, stop, restart, freeze or unfreeze."""
    fields = await request.fields()
    instance = instance_of(request)
    _, act = _action(fields, request.services)
    return background(act(instance.name))


async def put_all(request: Request) -> web.StreamResponse:
    """Begin to do the same to every instance it applies to."""
    fields = (await request.fields()).inside("state")
    action, act = _action(fields, request.services)
    services = request.services
    names = [
        instance.name for instance in instances_of(request) if services.instances.status(instance) in _FITTING[action]
    ]
    return background(
        services.operations.start(
            f"Changing the state of {len(names)} instances",
            lambda op: _change_all(services, op, names, act),
            resources={"instances": tuple(f"/1.0/instances/{name}" for name in names)},
        )
    )


async def _change_all(services: Services, op: Operation, names: Sequence[str], act: Act) -> None:
    """Begin all, then wait for all; the first error is raised at the end."""
    started: list[Operation] = []
    errors: list[IsolaError] = []
    with op.step("Change instances", total=len(names), unit="items") as step:
        for name in names:
            try:
                started.append(act(name))
            except IsolaError as error:
                errors.append(error)
        for operation in started:
            try:
                await services.operations.finish(operation)
            except IsolaError as error:
                errors.append(error)
            step.advance()
    if errors:
        raise errors[0]


def _action(fields: Fields, services: Services) -> tuple[str, Act]:
    instances = services.instances
    action = fields.text("action")
    seconds = fields.whole("timeout", 0, minimum=-1, maximum=86_400)
    timeout = None if seconds < 0 else float(seconds or _DEFAULT_SECONDS)
    force, stateful = fields.boolean("force"), fields.boolean("stateful")
    actions: dict[str, Act] = {
        "start": lambda name: _start(services, name, stateful),
        "stop": lambda name: instances.stop(name, timeout=timeout, force=force, stateful=stateful),
        "restart": lambda name: instances.restart(name, timeout=timeout, force=force),
        "freeze": instances.pause,
        "unfreeze": instances.resume,
    }
    if action not in actions:
        raise InvalidInput(
            f"Unknown action {action[:40]!r}", field="action", remedy=f"use one of: {', '.join(actions)}"
        )
    return action, actions[action]


def _start(services: Services, name: str, stateful: bool) -> Operation:
    """``lxc start`` is also the word that thaws a frozen instance."""
    instance = services.instances.get(name)
    if services.instances.status(instance) is Status.FROZEN:
        return services.instances.resume(name)
    return services.instances.start(name, stateful=stateful)


ROUTES = in_every_tree(
    ("PUT", "/1.0/instances", put_all, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/state", get, Permission.VIEW),
    ("PUT", "/1.0/instances/{name}/state", put, Permission.OPERATE),
)
