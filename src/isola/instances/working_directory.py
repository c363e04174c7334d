"""The working directory of a program is there as soon as its instance, as in Docker, for ``docker cp`` and the like."""

from __future__ import annotations

import posixpath
from contextlib import suppress

from isola.errors import IsolaError
from isola.host.files import Root
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.disks import has_disks
from isola.instances.program import configured
from isola.model.instance import Instance

_MOST = 1024
"""Directories of images that are remembered."""


async def make_working_directory(context: Context, instance: Instance) -> None:
    """In its new volume. No effect for a system, or where the root is a disk: there the start makes it."""
    path = _wanted(context, instance)
    if instance.start.system or path == "/" or has_disks(context, instance.runtime):
        return
    with suppress(IsolaError):  # the start tells why it cannot be made
        if await _in_image(context, instance, path):
            return
        async with (
            context.storage(instance).visit(context.volume(instance)) as directory,
            context.host.files.root(directory, idmap=instance.idmap) as root,
        ):
            await _make(root, path)


def _wanted(context: Context, instance: Instance) -> str:
    config, _ = expanded(context, instance)
    return posixpath.normpath(f"/{configured(instance.start, config).cwd.lstrip('/')}")


async def _in_image(context: Context, instance: Instance, path: str) -> bool:
    """Found without a mount of the volume, and remembered: what is in a layer never changes."""
    layers, known = instance.start.layers, context.image_directories
    if not layers or (layers, path) in known:
        return bool(layers)
    async with context.storage(instance).layered(layers) as tree, context.host.files.root(tree) as root:
        if not await _is_there(root, path):
            return False
    while len(known) >= _MOST:
        del known[next(iter(known))]
    known[layers, path] = None
    return True


async def _is_there(root: Root, path: str) -> bool:
    with suppress(IsolaError):
        await root.stat(path)
        return True
    return False


async def _make(root: Root, path: str) -> None:
    """With its parents. They belong to root, not to the user of the program."""
    names = path.strip("/").split("/")
    for count in range(1, len(names) + 1):
        await root.make_directory("/" + "/".join(names[:count]), uid=0, gid=0, mode=0o755)
