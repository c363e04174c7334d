"""Changes of one thing as operations, whichever door asks for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from isola.model.caller import DAEMON, Caller
from isola.model.reference import Entity
from isola.operations.operation import Operation
from isola.operations.operations import Operations


def alone(
    operations: Operations,
    description: str,
    entity: Entity,
    work: Callable[[Operation], Awaitable[object]],
    *,
    caller: Caller = DAEMON,
    project: str | None = None,
) -> Operation:
    """Begin ``work`` on a thing, while no other operation works on it. ``project`` is the thing's own by default."""
    return operations.start(description, work, locks=[entity.lock], resources=[entity], caller=caller, project=project)
