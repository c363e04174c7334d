"""``isola compose down``: removes what ``up`` has made."""

from __future__ import annotations

from isola.cli.compose.builds import image_name
from isola.cli.compose.hooks import PRE_STOP, run_hooks
from isola.cli.compose.images import known
from isola.cli.compose.server import facts, instances
from isola.compose.application import order
from isola.compose.instances import LABEL, SERVICE
from isola.errors import InUse, IsolaError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.operations import Operation
    from isola.client.shapes import InstanceInfo
    from isola.compose.application import Application

_SECONDS = 10
"""For a clean stop, where neither the command nor the service says."""


def down(
    context: Context, application: Application, *, volumes: bool, orphans: bool, images: str = "", seconds: int | None
) -> None:
    """Stop and remove instances, those that depend on others first, then networks and with ``volumes`` volumes.

    ``images``: ``local`` removes those without a name in the file, too, ``all`` all. ``seconds``: until they are
    killed.
    """
    client = context.client
    wanted = order(application)
    found = [
        one
        for one in instances(client, application.name, kept=True, one_off=True)
        if _service(one) in application.services or (orphans and _service(one) not in application.inactive)
    ]
    for name in [*{_service(one) for one in found if _service(one) not in wanted}, *reversed(wanted)]:
        remove(context, application, [one for one in found if _service(one) == name], seconds)
    for network in application.networks.values():
        if not network.get("external"):
            _try(context, f"Network {network['name']}", lambda name=network["name"]: client.networks.delete(name))
    if volumes:
        _remove_volumes(context, application, {one["name"] for one in found})
    for name in wanted if images else ():
        if images == "all" or "image" not in application.services[name]:
            _remove_image(context, image_name(application, name))


def remove(context: Context, application: Application, found: list[InstanceInfo], seconds: int | None = None) -> None:
    """Stop and remove instances, side by side."""
    stop_running(context, application, found, seconds)
    for one in found:
        _try(context, one["name"], lambda name=one["name"]: context.client.instances.delete(name, force=True))


def stop_running(
    context: Context, application: Application, found: list[InstanceInfo], seconds: int | None = None
) -> None:
    """Stop those that run, side by side."""
    running = [one for one in found if one["status"] != "Stopped"]
    for one in running:
        before_stop(context, application, one)
    for name, operation in [(one["name"], stop(context, one, seconds)) for one in running]:
        context.follow(operation, f"Stopping {name}")


def before_stop(context: Context, application: Application, one: InstanceInfo) -> None:
    """Run what its service wants to be run first; a failure does not keep it from being stopped."""
    service = application.services.get(_service(one), {})
    if one["status"] == "Running" and service.get(PRE_STOP):
        try:
            run_hooks(context, service, one, PRE_STOP)
        except IsolaError as error:
            context.say(f"Warning: {error}")


def stop(context: Context, one: InstanceInfo, seconds: int | None = None) -> Operation:
    """Stop it cleanly, or kill it after the time that its service allows."""
    return context.client.instances.stop(one["name"], timeout=stop_timeout(one, seconds), kill=True)


def stop_timeout(one: InstanceInfo, seconds: int | None = None) -> int:
    """Seconds that a clean stop may take."""
    allowed = one["program"].get("stop_timeout")
    return next((each for each in (seconds, allowed) if isinstance(each, int)), _SECONDS)


def _remove_volumes(context: Context, application: Application, names: set[str]) -> None:
    pool = facts(context.client).pool
    wanted = {volume["name"] for volume in application.volumes.values() if not volume.get("external")}
    for volume in context.client.volumes.all(pool):
        if volume.get("type") != "custom":
            continue
        labels, name = volume.get("config") or {}, volume["name"]
        ours = labels.get(LABEL + "project") == application.name
        holder = labels.get(LABEL + "anonymous")
        if (ours and (name in wanted or holder)) or holder in names:
            _try(context, f"Volume {name}", lambda name=name: context.client.volumes.delete(pool, name))


def _remove_image(context: Context, name: str) -> None:
    if fingerprint := known(context, name):
        _try(context, f"Image {name}", lambda: context.client.images.delete(fingerprint))


def _try(context: Context, what: str, begin: object) -> None:
    """Remove one thing: one that is gone or used by others is no failure."""
    assert callable(begin)
    try:
        operation: Operation = begin()
        context.follow(operation, f"Removing {what}")
    except NotFound:
        return
    except InUse as error:
        context.say(f"{what} stays: {error}")
        return
    context.say(f"{what} is removed")


def _service(one: InstanceInfo) -> str:
    return one["config"].get(SERVICE, "")
