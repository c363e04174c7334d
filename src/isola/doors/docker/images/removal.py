"""Removing names of images and images, with the refusals of Docker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from isola.devices.image_sources import IMAGE
from isola.doors.docker.image_lookup import find_image, image_id
from isola.doors.docker.images.names import Names, familiar, find_alias, names_of, same_repository
from isola.doors.docker.request import Request
from isola.errors import Conflict, NotFound
from isola.model.image import Alias, Image
from isola.model.image_reference import parse, parse_full
from isola.model.instance import Instance, Status
from isola.model.reference import Kind

Record = dict[str, str]
_ENDED = (Status.STOPPED, Status.ERROR)


def made_of(request: Request, image: Image) -> list[Instance]:
    """Containers made of the image."""
    return [each for each in users(request, image) if each.image == image.fingerprint]


def users(request: Request, image: Image) -> list[Instance]:
    """Those, and containers that mount it."""
    instances = request.services.instances
    found = (
        instances.find(each.ref) for each in request.services.images.used_by(image.ref) if each.kind is Kind.INSTANCE
    )
    return [each for each in found if each is not None]


def is_used(request: Request, image: Image) -> bool:
    """Also by snapshots of containers that mount it."""
    return bool(users(request, image) or request.services.images.mounted_by(image.ref))


async def remove(request: Request, text: str, *, force: bool) -> list[Record]:
    """Remove a name, and the image with its last name; or the image with this id. Raises NotFound, Conflict."""
    image = find_image(request, text)
    alias, names = find_alias(request, text), names_of(request, image)
    if alias is not None:
        return await _remove_name(request, image, [alias, *_digests_without_tag(alias, names)], names, force=force)
    if "@" in text:  # all names in this repository
        return await _remove_name(request, image, same_repository(names.aliases, parse(text)), names, force=force)
    _check_id(request, image, names, force=force)
    records = [await _untag(request, each) for each in names.aliases]
    return [*records, *await delete(request, image)]


async def delete(request: Request, image: Image) -> list[Record]:
    """Delete the image; containers keep the layers that they need."""
    services = request.services
    await services.operations.finish(services.images.start_delete(image.ref, caller=request.caller))
    return [{"Deleted": image_id(image.fingerprint)}]


async def delete_unnamed(request: Request, image: Image) -> list[Record]:
    """The same, unless another request has given it a name, or was first."""
    services = request.services
    with suppress(NotFound):
        starting = services.images.start_delete(image.ref, caller=request.caller, unless_named=True)
        await services.operations.finish(starting)
    return [] if services.images.resolve(image.ref) is not None else [{"Deleted": image_id(image.fingerprint)}]


async def _remove_name(
    request: Request, image: Image, gone: Sequence[Alias], names: Names, *, force: bool
) -> list[Record]:
    left = [each for each in names.aliases if each not in gone]
    used_by = [] if left else users(request, image)
    if used_by and not force:
        raise Conflict(
            f'conflict: unable to remove repository reference "{familiar(gone[0].name)}" (must force) - container '
            f"{_short(used_by[0])} is using its referenced image {image.fingerprint[:12]}"
        )
    records = [await _untag(request, each) for each in gone]
    if not left:
        digests = [digest for digest in names.digests(image) if {"Untagged": digest} not in records]
        records += [{"Untagged": digest} for digest in digests]
        mounted = request.services.images.mounted_by(image.ref)
        if not mounted and not any(_runs(request, each) for each in used_by):
            records += await delete_unnamed(request, image)
    return records


def _digests_without_tag(alias: Alias, names: Names) -> list[Alias]:
    """Names by digest go with the last tag of their repository."""
    reference = parse_full(alias.name)
    if reference is None or reference.digest:
        return []
    others = [each for each in same_repository(names.aliases, reference) if each != alias]
    return others if all("@" in each.name for each in others) else []


def _check_id(request: Request, image: Image, names: Names, *, force: bool) -> None:
    short = image.fingerprint[:12]
    repositories = {tag.rpartition(":")[0] for tag in names.tags}
    for user in users(request, image):
        running = _runs(request, user)
        hard = running or _mounts(user, image)
        if hard or not force:
            how = "cannot be forced" if hard else "must be forced"
            what = "running" if running else "stopped"
            raise Conflict(
                f"conflict: unable to delete {short} ({how}) - image is being used by {what} container {_short(user)}"
            )
    if len(repositories) > 1 and not force:
        raise Conflict(
            f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )


def _runs(request: Request, instance: Instance) -> bool:
    return request.services.instances.status(instance) not in _ENDED


async def _untag(request: Request, alias: Alias) -> Record:
    await request.services.images.remove_alias(alias.ref, caller=request.caller)
    return {"Untagged": familiar(alias.name)}


def _mounts(instance: Instance, image: Image) -> bool:
    return any(state.facts.get(IMAGE) == image.fingerprint for state in instance.plugged.values())


def _short(instance: Instance) -> str:
    return instance.id[:12]
