"""Names of images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from isola.errors import AlreadyExists, NotFound
from isola.events import Events
from isola.model.image import Alias, Image
from isola.model.names import alias_name
from isola.state import Collection


class Aliases:
    """The aliases of this daemon; each names one image that is there."""

    def __init__(
        self,
        records: Collection[Alias],
        events: Events,
        image: Callable[[str], Image],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._records = records
        self._events = events
        self._image = image
        self._changed = changed

    def __iter__(self) -> Iterator[Alias]:
        return iter(self._records)

    def find(self, name: str) -> Alias | None:
        return self._records.find(name)

    def get(self, name: str) -> Alias:
        """Raises NotFound."""
        alias = self._records.find(name)
        if alias is None:
            raise NotFound(f"Image alias {name[:80]!r} not found")
        return alias

    def revision(self, name: str) -> int:
        """Changes with every write."""
        return self._records.revision(name)

    def check_free(self, name: str) -> None:
        """Raise InvalidInput for an impossible name, AlreadyExists for a taken one."""
        if (alias := self._records.find(alias_name(name))) is not None:
            raise AlreadyExists(
                f"Image alias {name!r} already exists",
                evidence=f"it names {alias.target[:12]}",
                remedy="remove it first",
            )

    async def add(self, alias: Alias) -> None:
        """Raises AlreadyExists, and NotFound where there is no such image."""
        self.check_free(alias.name)
        image = self._image(alias.target)
        await self._records.add(alias.name, replace(alias, target=image.fingerprint, type=image.type))
        await self._told("created", alias.name)

    async def point(self, name: str, fingerprint: str) -> None:
        """Make an alias name this image, whatever it named before."""
        held = self._records.find(alias_name(name))
        if held is not None and held.target == fingerprint:
            return
        await self._records.change(
            name, lambda alias: replace(alias, target=fingerprint), otherwise=Alias(name, fingerprint)
        )
        await self._told("created" if held is None else "updated", name)

    async def update(self, name: str, decide: Callable[[Alias], Alias]) -> None:
        """Another target or description. Raises NotFound for the alias or the image."""

        def checked(alias: Alias) -> Alias:
            wanted = decide(alias)
            return replace(wanted, target=self._image(wanted.target).fingerprint)

        self.get(name)
        await self._records.change(name, checked)
        await self._told("updated", name)

    async def rename(self, old: str, new: str) -> None:
        """Raises NotFound, AlreadyExists."""
        alias = self.get(old)
        self.check_free(new)
        await self._records.rename(old, new, replace(alias, name=new), at=self._records.revision(old))
        await self._told("renamed", new, old_name=old)

    async def remove(self, name: str) -> None:
        """Raises NotFound."""
        self.get(name)
        await self._records.remove(name)
        await self._told("deleted", name)

    async def remove_all_of(self, fingerprint: str) -> None:
        """Forget the names of an image that is gone."""
        for alias in [alias for alias in self._records if alias.target == fingerprint]:
            await self.remove(alias.name)

    async def _told(self, what: str, name: str, **context: str) -> None:
        await self._changed()
        self._events.lifecycle(f"image-alias-{what}", f"/1.0/images/aliases/{name}", **context)
