"""The instances that a verb of ``isola compose`` is for."""

from __future__ import annotations

from isola.cli.grammar import Argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isola.cli.context import Context
    from isola.client.operations import Operation
    from isola.client.shapes import InstanceInfo

    Begin = Callable[[str], Operation]

SERVICES = Argument("SERVICE", "Services; all of them if none is named", optional=True, many=True)


def instances_of(context: Context, services: Sequence[str] = (), *, one_off: bool = False) -> list[InstanceInfo]:
    """Of the application, and of these services only. Raises InvalidInput for a service that the file lacks."""
    from isola.cli.compose.files import application
    from isola.cli.compose.server import instances
    from isola.compose.application import order
    from isola.compose.instances import SERVICE

    found = application(context, services)
    order(found, services)
    known = instances(context.client, found.name, one_off=one_off)
    return [one for one in known if not services or one["config"][SERVICE] in services]


def instance_of(context: Context, service: str) -> InstanceInfo:
    """The instance that a command is for: the first of the service, or the one that --index numbers."""
    from isola.errors import NotFound

    index = context.args.number("index", 1) or 1
    found = instances_of(context, [service])
    if index > len(found):
        raise NotFound(f"Service {service} has no instance {index}", remedy="isola compose up starts it")
    return found[index - 1]


def each(context: Context, names: Sequence[str], begin: Begin, done: str) -> int:
    from isola.cli.commands.lifecycle import each as each_of

    return each_of(context, names, begin, "Working on", done) if names else 0
