"""Images that lose their last name by a change of a repository: their records go, also after a kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from isola.host import Host
from isola.host.cancellation import finish
from isola.images.library import ImageLibrary
from isola.model.caller import DAEMON, Caller
from isola.model.image import Image
from isola.model.reference import Ref
from isola.state import Intent, Intents

DRIVER = "registry"
"""In the ``source`` of images that were pushed."""
_INTENT = "registry-image"


class Unnamed:
    """Drops images without a name. The content stays as long as a repository has it."""

    def __init__(self, host: Host, library: ImageLibrary, intents: Intents) -> None:
        self._host = host
        self._library = library
        self._intents = intents

    @asynccontextmanager
    async def dropped(self, images: Iterable[Image], caller: Caller = DAEMON) -> AsyncIterator[None]:
        """Around a change of names: those of the images that have none after it are dropped."""
        held: list[tuple[Image, Intent]] = []
        for image in {image.ref: image for image in images}.values():
            facts = {"project": image.project, "image": image.fingerprint}
            intent = Intent(f"{_INTENT}-{self._host.clock.token(8)}", _INTENT, facts)
            await self._intents.begin(intent)
            held.append((image, intent))
        try:
            yield
        finally:
            for image, intent in held:
                await finish(self._drop(image.ref, intent, caller))

    async def recover(self) -> None:
        """At the start: drop those that were left by a kill."""
        for intent in self._intents.of_kind(_INTENT):
            await self._drop(Ref(intent.facts["project"], intent.facts["image"]), intent, DAEMON)

    async def _drop(self, ref: Ref, intent: Intent, caller: Caller) -> None:
        image = self._library.resolve(ref)
        if image is not None and not self._library.names_of(image):
            await self._library.drop(image, caller=caller)
        await self._intents.end(intent.id)


def pushed(images: Iterable[Image | None]) -> list[Image]:
    """Those that were pushed: they are images as long as they have a name."""
    return [image for image in images if image is not None and image.source.get("driver") == DRIVER]
