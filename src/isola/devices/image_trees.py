"""The content of an image as the source of a disk: ``image:NAME``.

A device keeps the fingerprint of its image. The layers are unpacked in the pool of the instance's root, as they are for
roots, and shown for the moment in which the mount inside is made: that is a clone, so that the host keeps nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isola.devices.driver import Parts, Plug
from isola.devices.image_sources import IMAGE, image_name
from isola.errors import HostFailure, InvalidInput, NotFound
from isola.images import ImageLibrary
from isola.model.device import DeviceState
from isola.model.image import Image, layer_keys
from isola.model.isolation import CONTAINER
from isola.model.reference import Ref
from isola.operations import Operation


class ImageTrees:
    """Finds images, unpacks them, and shows their files."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def choose(self, op: Operation, plug: Plug, known: DeviceState | None) -> DeviceState:
        """With the fingerprint; the image is ready to be shown. What was chosen stays as long as the source does.

        Raises NotFound, InvalidInput, with a field.
        """
        if (image := self._known(plug, known)) is None:
            image = await self._named(op, plug)
            await self._images.check_layers(image.layers)  # also of those that the pool has
        await self._unpack(op, plug, image)
        return plug.state.with_facts(image=image.fingerprint)

    @asynccontextmanager
    async def shown(self, plug: Plug) -> AsyncIterator[Path]:
        """Its files, with the instance's ids, to be mounted inside. Raises NotFound."""
        image = self._images.get(self._ref(plug, plug.state.facts.get(IMAGE, "")))
        driver = self._parts.pools.driver(_pool(plug))
        async with driver.layered(layer_keys(image.layers), plug.instance.idmap) as tree:
            yield tree

    def _known(self, plug: Plug, known: DeviceState | None) -> Image | None:
        """Of the project still: an instance may have been moved to another one."""
        if known is None or known.config.get("source") != plug.config.get("source") or IMAGE not in known.facts:
            return None
        return self._images.resolve(self._ref(plug, known.facts[IMAGE]))

    async def _named(self, op: Operation, plug: Plug) -> Image:
        name, field = image_name(plug.config), f"{plug.field}.source"
        try:
            image = await self._images.ensure(op, self._ref(plug, name), CONTAINER)
        except NotFound as error:
            raise NotFound(error.message, evidence=error.evidence, remedy=error.remedy, field=field) from error
        except InvalidInput as error:
            raise InvalidInput(error.message, evidence=error.evidence, remedy=error.remedy, field=field) from error
        if image.type != CONTAINER:
            raise InvalidInput(
                f"Image {name[:80]!r} is one of a virtual machine: it has a disk, but no files that can be mounted",
                field=field,
                remedy="name an image of a container",
            )
        return image

    async def _unpack(self, op: Operation, plug: Plug, image: Image) -> None:
        blobs = dict(zip(layer_keys(image.layers), image.layers, strict=True))

        async def unpack(key: str, target: Path) -> None:
            await self._images.unpack_layer(blobs[key], target)

        with op.step(f"Prepare image for device {plug.name}", total=len(blobs), unit="items") as step:
            await self._parts.pools.driver(_pool(plug)).layers.ensure(op, list(blobs), unpack, step.advance)

    def _ref(self, plug: Plug, name: str) -> Ref:
        return self._parts.image_ref(plug.instance.project, name)

    @property
    def _images(self) -> ImageLibrary:
        assert self._parts.images is not None
        return self._parts.images


def _pool(plug: Plug) -> str:
    """That of its root."""
    if not (pool := plug.instance.volatile.get("root.pool")):
        raise HostFailure(f"The record of instance {plug.instance.name!r} does not name the pool of its root")
    return pool
