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
from isola.model.reference import Entity, Kind, Ref
from isola.operations import Operation

Act = Callable[[Ref], Operation]
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
    _, act = _action(fields, request)
    return background(act(instance.ref))


async def put_all(request: Request) -> web.StreamResponse:
    """Begin to do the same to every instance it applies to."""
    fields = (await request.fields()).inside("state")
    action, act = _action(fields, request)
    services = request.services
    chosen = [
        instance.ref for instance in instances_of(request) if services.instances.status(instance) in _FITTING[action]
    ]
    return background(
        services.operations.start(
            f"Changing the state of {len(chosen)} instances",
            lambda op: _change_all(services, op, chosen, act),
            resources=[Entity.of(Kind.INSTANCE, ref) for ref in chosen],
            project=request.project,
            caller=request.caller,
        )
    )


async def _change_all(services: Services, op: Operation, chosen: Sequence[Ref], act: Act) -> None:
    """Begin all, then wait for all; the first error is raised at the end."""
    started: list[Operation] = []
    errors: list[IsolaError] = []
    with op.step("Change instances", total=len(chosen), unit="items") as step:
        for ref in chosen:
            try:
                started.append(act(ref))
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


def _action(fields: Fields, request: Request) -> tuple[str, Act]:
    instances, caller = request.services.instances, request.caller
    action = fields.text("action")
    seconds = fields.whole("timeout", 0, minimum=-1, maximum=86_400)
    timeout = None if seconds < 0 else float(seconds or _DEFAULT_SECONDS)
    force, stateful = fields.boolean("force"), fields.boolean("stateful")
    actions: dict[str, Act] = {
        "start": lambda ref: _start(request, ref, stateful),
        "stop": lambda ref: instances.stop(ref, timeout=timeout, force=force, stateful=stateful, caller=caller),
        "restart": lambda ref: instances.restart(ref, timeout=timeout, force=force, caller=caller),
        "freeze": lambda ref: instances.pause(ref, caller=caller),
        "unfreeze": lambda ref: instances.resume(ref, caller=caller),
    }
    if action not in actions:
        raise InvalidInput(
            f"Unknown action {action[:40]!r}", field="action", remedy=f"use one of: {', '.join(actions)}"
        )
    return action, actions[action]


def _start(request: Request, ref: Ref, stateful: bool) -> Operation:
    """``lxc start`` is also the word that thaws a frozen instance."""
    instances = request.services.instances
    if instances.status(instances.get(ref)) is Status.FROZEN:
        return instances.resume(ref, caller=request.caller)
    return instances.start(ref, stateful=stateful, caller=request.caller)


ROUTES = in_every_tree(
    ("PUT", "/1.0/instances", put_all, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/state", get, Permission.VIEW),
    ("PUT", "/1.0/instances/{name}/state", put, Permission.OPERATE),
)
