"""Named volumes that containers use: custom volumes of one pool."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from isola.doors.docker.containers.mounts import Volume, mount_devices, volume_device
from isola.doors.docker.identity import find
from isola.doors.docker.request import Request
from isola.doors.docker.volume_keys import ANONYMOUS, label_keys, mount_keys
from isola.doors.http.reading import Fields
from isola.errors import AlreadyExists, InvalidInput, IsolaError, NotFound, Unsupported
from isola.model.instance import Devices
from isola.model.reference import Kind, Ref
from isola.model.volume import VolumeRef

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([kmgtp]?)i?b?", re.ASCII | re.IGNORECASE)
_DIGITS = 64
"""Of the name of a volume without one."""


def pool_of(request: Request) -> str:
    """The setting ``docker.pool``, else the pool of the default profile's root. Raises InvalidInput."""
    services = request.services
    if name := services.server.config.get("docker.pool"):
        return name
    profile = services.profiles.get(Ref(request.home(Kind.PROFILE), "default"))
    for device in profile.devices.values():
        if device.get("type") == "disk" and device.get("path") == "/" and device.get("pool"):
            return device["pool"]
    raise InvalidInput("There is no storage pool for volumes", remedy="set docker.pool, or a root in profile default")


def root_devices(request: Request, host: Fields) -> Devices:
    """The root of the default profile, if the request changes it: one of a size, or that cannot be written to."""
    size, read_only = _root_size(host), host.boolean("ReadonlyRootfs")
    if not size and not read_only:
        return {}
    profile = request.services.profiles.get(Ref(request.home(Kind.PROFILE), "default"))
    more = ({"size": size} if size else {}) | ({"readonly": "true"} if read_only else {})
    return {
        name: {**device, **more}
        for name, device in profile.devices.items()
        if device.get("type") == "disk" and device.get("path") == "/"
    }


def _root_size(host: Fields) -> str:
    """``StorageOpt``. Raises InvalidInput."""
    options = host.mapping("StorageOpt", empty=True)
    if unknown := next((name for name in options if name != "size"), ""):
        raise InvalidInput(f"Unknown option {unknown[:80]}", field="HostConfig.StorageOpt")
    if "size" not in options:
        return ""
    found = _SIZE.fullmatch(options["size"])
    if found is None:
        raise InvalidInput(f"invalid size: '{options['size'][:80]}'", field="HostConfig.StorageOpt")
    return str(int(float(found[1]) * 1024 ** " kmgtp".index(found[2].lower() or " ")))


def no_quotas(error: IsolaError, host: Fields) -> IsolaError:
    """The error of a creation; where the pool has no quotas, as Docker says it."""
    if host.has("StorageOpt") and isinstance(error, Unsupported):
        return InvalidInput(
            f"--storage-opt is supported only for pools with quotas: {error}", field="HostConfig.StorageOpt"
        )
    return error


def volumes_from(request: Request, host: Fields) -> dict[str, Mapping[str, str]]:
    """Disks of other containers, ``NAME`` or ``NAME:ro``. Raises InvalidInput."""
    found: dict[str, Mapping[str, str]] = {}
    for text in host.texts("VolumesFrom"):
        name, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidInput(f"invalid mode: {mode[:80]}", field="HostConfig.VolumesFrom")
        try:
            _, devices = request.services.instances.expanded(find(request, name))
        except NotFound as error:  # after 404 clients would pull the image
            raise InvalidInput(str(error), field="HostConfig.VolumesFrom") from None
        for each, device in mount_devices(devices):
            # What its volumes hold is the other container's: they are not filled from this image.
            own = {key: value for key, value in device.items() if key != "copy"}
            found[each] = {**own, "readonly": "true"} if mode == "ro" else own
    return found


def volume_ref(request: Request, name: str) -> VolumeRef:
    """The volume of this name, in the door's pool and project."""
    return VolumeRef.custom(pool_of(request), name, request.home(Kind.STORAGE_VOLUME))


async def devices_of(request: Request, volumes: Sequence[Volume]) -> tuple[Devices, list[VolumeRef]]:
    """Disk devices of volumes, by path, and the volumes created for it. Raises InvalidInput, NotFound."""
    devices, created = {}, []
    for volume in volumes:
        name = volume.name or request.services.host.clock.token(_DIGITS // 2)
        ref = volume_ref(request, name)
        if await ensure(request, ref, volume):
            created.append(ref)
        devices[volume.path] = volume_device(volume, name, ref.pool)
    return devices, created


async def ensure(request: Request, ref: VolumeRef, volume: Volume) -> bool:
    """Create the volume unless it exists; returns whether it was created."""
    volumes = request.services.volumes
    try:
        volumes.get(ref)
    except NotFound:
        keys = {**label_keys(volume.labels or {}), **mount_keys(ref.name, volume.options or {})}
        if not volume.name:
            keys[ANONYMOUS] = "true"
        try:
            operation = await volumes.create(ref, keys, caller=request.caller)
        except AlreadyExists:
            return False
        await request.services.operations.finish(operation)
        return True
    return False


async def remove(request: Request, refs: Sequence[VolumeRef]) -> None:
    """Delete volumes; raises the error of the first that cannot be deleted."""
    for ref in refs:
        operation = await request.services.volumes.delete(ref, caller=request.caller)
        await request.services.operations.finish(operation)
