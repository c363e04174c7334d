"""Where a path of an instance is: in its root, or, while it does not run, in what would be mounted there."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from isola.devices.image_sources import IMAGE, image_name
from isola.devices.volume_sources import below
from isola.errors import NotFound
from isola.host.files import Root
from isola.instances import files as files_verb
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.model.identity import IdRange
from isola.model.image import layer_keys
from isola.model.instance import Devices, Instance
from isola.model.reference import Kind
from isola.settings import boolean
from isola.storage.volume_mounts import mount_of

_INSIDE = IdRange(0)
"""The ids inside."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path below a root."""

    root: Root
    path: str
    """Ends as the path that was asked for: in ``/.`` or not."""
    read_only: bool = False


@asynccontextmanager
async def place(context: Context, instance: Instance, path: str) -> AsyncIterator[Place]:
    """Where an absolute path is; a mount point by its own path, not by a link to it. Raises NotFound, WrongState."""
    found = None if instance.id in context.live else disk_at(expanded(context, instance)[1], path)
    async with AsyncExitStack() as stack:
        if found is not None:
            device, inner = found
            if (content := await _content(stack, context, instance, device)) is not None:
                yield Place(content, f"/{device.get('subpath', '')}{inner}", read_only=True)
                return
            read_only = boolean(device.get("readonly") or "false")
            try:
                root = await _opened(stack, context, instance, device)
            except NotFound:  # of a path that is a file, its directory is opened
                parent = await _opened(stack, context, instance, _above(device))
                if parent is None or inner.strip("/"):
                    raise
                yield Place(parent, "/" + posixpath.basename(device["source"]), read_only)
                return
            if root is not None:
                yield Place(root, inner, read_only)
                return
        yield Place(await stack.enter_async_context(files_verb.root(context, instance)), path)


async def _content(
    stack: AsyncExitStack, context: Context, instance: Instance, device: Mapping[str, str]
) -> Root | None:
    """Of the image that it has; None for another disk."""
    states = [each for each in instance.plugged.values() if IMAGE in each.facts]
    chosen = [each.facts[IMAGE] for each in states if _point(each.config) == device["path"]]
    if not image_name(device) or not chosen:
        return None
    image = context.images.get(context.scoped(instance.project, Kind.IMAGE, chosen[0]))
    tree = await stack.enter_async_context(context.storage(instance).layered(layer_keys(image.layers), _INSIDE))
    return await stack.enter_async_context(context.host.files.root(tree))


def disk_at(devices: Devices, path: str) -> tuple[Mapping[str, str], str] | None:
    """The disk whose mount point is the longest beginning of a path, and what is left of the path. Pure."""
    wanted = posixpath.normpath("/" + path.lstrip("/"))
    best: Mapping[str, str] | None = None
    for device in devices.values():
        point = _point(device)
        if device.get("type") != "disk" or point == "/" or (device.get("pool") and below(device)):
            continue
        if (wanted == point or wanted.startswith(f"{point}/")) and (best is None or len(point) > len(best["path"])):
            best = {**device, "path": point}
    if best is None:
        return None
    rest = wanted.removeprefix(best["path"]).lstrip("/")
    end = next((end for end in ("/.", "/") if path.endswith(end)), "")
    return best, f"/{rest}{end if rest else end.lstrip('/')}"


def _point(device: Mapping[str, str]) -> str:
    return posixpath.normpath(f"/{device.get('path', '').lstrip('/')}")


def _above(device: Mapping[str, str]) -> Mapping[str, str]:
    return {**device, "source": posixpath.dirname(device.get("source", ""))}


async def _opened(
    stack: AsyncExitStack, context: Context, instance: Instance, device: Mapping[str, str]
) -> Root | None:
    """None for memory, which is not there before the start, and for paths that are checked when they are mounted."""
    source, pool = device.get("source", ""), device.get("pool", "")
    idmap = None if boolean(device.get("shift") or "false") else instance.idmap
    if pool:
        ref = context.volume_ref(instance.project, pool, source)
        volume = context.volumes.get(ref)
        context.permit_host_path(instance.project, volume)
        if (mount := mount_of(volume.config)) is None:
            directory = await stack.enter_async_context(context.volumes.visit(ref))
            return await stack.enter_async_context(context.host.files.root(directory))
        source, idmap = str(mount.path or ""), None
    if not source.startswith("/") or context.disk_paths(instance.project):
        return None
    return await stack.enter_async_context(context.host.files.root(Path(source), idmap=idmap))
