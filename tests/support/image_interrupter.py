"""Interrupts operations on images at every point, and checks what stays."""

from __future__ import annotations

from image_library import World

from isola.errors import HostFailure
from isola.images import ImageLibrary
from isola.operations import Operation


class Interrupter:
    """Interrupts at one of the points that are reached, counted from 0."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[str] = []
        self.at = -1
        self.action = ""
        self.picture: object = None

    async def reached(self, operation: Operation, point: str) -> None:
        self.seen.append(point)
        if len(self.seen) - 1 != self.at:
            return
        if self.action == "fail":
            raise HostFailure(f"Injected failure at {point}")
        if self.action == "cancel" and operation.may_cancel:
            operation.cancel()
        if self.action == "kill":
            self.picture = self.world.picture()


async def agree(world: World, library: ImageLibrary) -> None:
    """Check: every blob has a record, every record its blobs, every alias its image, and there are no scratch files."""
    named: set[str] = set()
    for image in library:
        named |= {image.manifest, image.artifact or image.manifest} | {layer.digest for layer in image.layers}
        for _, path in library.export(image.ref) if image.artifact else ():
            assert await world.host.files.exists(path)
    assert named <= await world.blobs()
    assert await world.blobs() == library._catalogue.blobs()
    assert await world.leftovers() == ()
    assert all(library.resolve(alias.ref) is not None for alias in library.aliases())
