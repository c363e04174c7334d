"""Removal of containers, with the volumes that they have created for themselves."""

from __future__ import annotations

from contextlib import suppress

from isola.devices.volume_sources import volume_name
from isola.doors.docker.containers.mounts import mount_devices
from isola.doors.docker.containers.sizes import sizes_of
from isola.doors.docker.containers.view import View, view
from isola.doors.docker.filtering import matches_labels
from isola.doors.docker.identity import containers_of
from isola.doors.docker.request import Request
from isola.doors.docker.times import nanoseconds, parse_time
from isola.doors.docker.volume_keys import ANONYMOUS
from isola.errors import Conflict, InvalidInput, IsolaError, NotFound
from isola.model.reference import Kind
from isola.model.volume import VolumeRef


async def remove(request: Request, seen: View, *, force: bool, own: bool) -> None:
    """Raises Conflict for a running container without ``force``."""
    instance = seen.instance
    if seen.running and not force:
        name, state = request.parameters.get("name", instance.name)[:200], seen.state
        if state == "paused":
            raise Conflict(f'cannot remove container "{name}": container is paused and must be unpaused first')
        raise Conflict(
            f'cannot remove container "{name}": container is {state}: '
            "stop the container before removing or force remove"
        )
    volumes = own_volumes(request, seen) if own or instance.ephemeral else []
    operation = request.services.instances.delete(instance.ref, force=force, caller=request.caller)
    await request.services.operations.finish(operation)
    for ref in volumes:
        with suppress(IsolaError):  # another container uses it
            removal = await request.services.volumes.delete(ref, caller=request.caller)
            await request.services.operations.finish(removal)


def own_volumes(request: Request, seen: View) -> list[VolumeRef]:
    """Volumes without a name of a user's."""
    found = []
    for _, device in mount_devices(seen.devices):
        if device.get("pool") and device.get("source"):
            ref = VolumeRef.custom(device["pool"], volume_name(device), request.home(Kind.STORAGE_VOLUME))
            with suppress(NotFound):
                if request.services.volumes.get(ref).config.get(ANONYMOUS):
                    found.append(ref)
    return found


async def prune(request: Request) -> tuple[list[str], int]:
    """Ids of the removed containers, and bytes that this has freed. Raises InvalidInput."""
    filters = request.filters()
    for name in filters:
        if name not in ("until", "label", "label!"):
            raise InvalidInput(f"invalid filter '{name[:80]}'", field="filters")
    until = min((_until(request, text) for text in filters.get("until", ())), default=None)
    deleted, space = [], 0
    for instance in list(containers_of(request)):
        seen = view(request, instance)
        if seen.running or (until is not None and nanoseconds(instance.created_at) >= until):
            continue
        if not matches_labels(seen.labels, filters.get("label", ())):
            continue
        if any(matches_labels(seen.labels, [each]) for each in filters.get("label!", ())):
            continue
        with suppress(IsolaError):  # started or removed meanwhile, or protected
            size, _ = await sizes_of(request, instance)
            await remove(request, seen, force=False, own=False)
            deleted.append(seen.id)
            space += size
    return deleted, space


def _until(request: Request, text: str) -> int:
    moment = parse_time(text, "until", request.services.host.clock.now())
    if moment is None:
        raise InvalidInput("invalid filter 'until'", field="filters")
    return moment
