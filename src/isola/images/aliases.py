"""Aliases of images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from isola.errors import AlreadyExists, NotFound
from isola.events import Events
from isola.model.caller import DAEMON, Caller
from isola.model.image import Alias, Image
from isola.model.names import alias_name
from isola.model.reference import Entity, Kind, Ref
from isola.state import Scoped


class Aliases:
    """The aliases of this daemon; each refers to an existing image."""

    def __init__(
        self,
        records: Scoped[Alias],
        events: Events,
        image: Callable[[Ref], Image],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._records = records
        self._events = events
        self._image = image
        self._changed = changed

    def __iter__(self) -> Iterator[Alias]:
        return iter(self._records)

    def find(self, ref: Ref) -> Alias | None:
        return self._records.find(ref)

    def of(self, image: Ref) -> list[Alias]:
        """Those that refer to an image; its full fingerprint, not a prefix."""
        return [alias for alias in self._records if Ref(alias.project, alias.target) == image]

    def get(self, ref: Ref) -> Alias:
        """Raises NotFound."""
        return self._records.get(ref)

    @property
    def generation(self) -> int:
        """Changes with every change of any of them."""
        return self._records.generation

    def revision(self, ref: Ref) -> int:
        """Changes with every write."""
        return self._records.revision(ref)

    def check_free(self, ref: Ref) -> None:
        """Raise InvalidInput for an impossible name, AlreadyExists for a taken one."""
        alias_name(ref.name)
        if (alias := self._records.find(ref)) is not None:
            raise AlreadyExists(
                f"Image alias {ref.quoted} already exists",
                evidence=f"it refers to image {alias.target[:12]}",
                remedy="remove it first",
            )

    async def add(self, alias: Alias, *, caller: Caller = DAEMON) -> None:
        """Raises AlreadyExists, and NotFound for an unknown image."""
        self.check_free(alias.ref)
        image = self._image(Ref(alias.project, alias.target))
        await self._records.add(alias.ref, replace(alias, target=image.fingerprint, type=image.type))
        await self._publish("created", alias.ref, caller)

    async def point(self, ref: Ref, fingerprint: str, *, caller: Caller = DAEMON) -> None:
        """Point an alias, new or existing, to this image."""
        alias_name(ref.name)
        held = self._records.find(ref)
        if held is not None and held.target == fingerprint:
            return
        new = Alias(ref.name, fingerprint, project=ref.project)
        await self._records.change(ref, lambda alias: replace(alias, target=fingerprint), otherwise=new)
        await self._publish("created" if held is None else "updated", ref, caller)

    async def update(self, ref: Ref, decide: Callable[[Alias], Alias], *, caller: Caller = DAEMON) -> None:
        """Change target or description. Raises NotFound for the alias or the image."""

        def checked(alias: Alias) -> Alias:
            wanted = decide(alias)
            return replace(wanted, target=self._image(ref.renamed(wanted.target)).fingerprint)

        self.get(ref)
        await self._records.change(ref, checked)
        await self._publish("updated", ref, caller)

    async def rename(self, old: Ref, name: str, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound, AlreadyExists."""
        held, new = self._records.read(old), old.renamed(name)
        self.check_free(new)
        await self._records.rename(old, new, replace(held.value, name=name), at=held.revision)
        await self._publish("renamed", new, caller, old_name=old.name)

    async def remove(self, ref: Ref, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound."""
        self.get(ref)
        await self._records.remove(ref)
        await self._publish("deleted", ref, caller)

    async def remove_all_of(self, image: Ref, caller: Caller) -> None:
        """Delete the aliases of a deleted image, but none that refers to another one meanwhile."""

        def still(alias: Alias) -> None:
            if alias.target != image.name:
                raise NotFound(f"Image alias {alias.ref.quoted} refers to another image")

        for alias in self.of(image):
            if self._records.find(alias.ref) is not None:
                with suppress(NotFound):
                    await self._records.remove(alias.ref, still)
                    await self._publish("deleted", alias.ref, caller)

    async def _publish(self, what: str, ref: Ref, caller: Caller, **context: str) -> None:
        await self._changed()
        self._events.lifecycle(f"image-alias-{what}", Entity.of(Kind.IMAGE_ALIAS, ref), caller=caller, **context)
