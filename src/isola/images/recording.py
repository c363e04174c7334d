"""Recording images, naming them and forgetting them: one change of an image at a time, so that a new name keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace

from isola import state
from isola.errors import AlreadyExists
from isola.images.aliases import Aliases
from isola.images.catalogue import Catalogue
from isola.images.store import ContentStore
from isola.model.caller import Caller
from isola.model.image import Alias, Image
from isola.model.reference import Ref
from isola.state.turns import Turns


class Recording:
    """Writes the records of images together with their aliases."""

    def __init__(
        self,
        *,
        records: state.Scoped[Image],
        catalogue: Catalogue,
        aliases: Aliases,
        store: ContentStore,
        permit: Callable[[Image], None],
        changed: Callable[[], Awaitable[None]],
        publish: Callable[[str, Image, Caller], None],
    ) -> None:
        self._records = records
        self._catalogue = catalogue
        self._aliases = aliases
        self._store = store
        self._permit = permit
        self._changed = changed
        self._publish = publish
        self._turns = Turns()

    def one(self, image: Ref) -> AbstractAsyncContextManager[None]:
        """The turn of an image: meanwhile it is neither recorded nor forgotten."""
        return self._turns.one(image)

    @asynccontextmanager
    async def of_alias(self, ref: Ref, decide: Callable[[Alias], Alias] = lambda alias: alias) -> AsyncIterator[None]:
        """The turn of the image to which an alias refers after a change. Raises NotFound."""

        def target() -> Ref:
            return self._catalogue.get(ref.renamed(decide(self._aliases.get(ref)).target)).ref

        while True:
            async with self.one(wanted := target()):
                if target() == wanted:
                    yield
                    return

    async def record(self, image: Image, aliases: Sequence[str], caller: Caller) -> None:
        """Commit the image's record, unless it is there already, and point aliases to it."""
        async with self.one(image.ref):
            await self._catalogue.learn(image)
            recorded = self._catalogue.find(image.ref)
            if recorded is None:
                with suppress(AlreadyExists):  # by another daemon of the same records
                    await self._records.add(self._catalogue.key(image), image, allow=lambda: self._permit(image))
                    self._publish("created", image, caller)
            elif image.index not in ("", recorded.index):
                await self._change_index(recorded, image.index)
            for name in aliases:
                await self._aliases.point(Ref(image.project, name), image.fingerprint, caller=caller)
            await self._changed()

    async def forget(self, image: Image, caller: Caller, *, unless_named: bool = False) -> None:
        """Remove the record and the aliases. ``unless_named``: no effect if it has got a name, or was removed."""
        async with self.one(image.ref):
            if unless_named and (self._catalogue.find(image.ref) is None or self._aliases.of(image.ref)):
                return
            blobs = sorted(self._catalogue.blobs_of(image))
            with self._store.holding(blobs):  # another sweep would not find the mark useful while there is a record
                await self._store.mark_removable(blobs)
                await self._records.remove(self._catalogue.key(image))
            await self._aliases.remove_all_of(image.ref, caller)
            self._catalogue.forget(image.fingerprint)
            await self._changed()
            self._publish("deleted", image, caller)

    async def _change_index(self, recorded: Image, index: str) -> None:
        gone = [recorded.index] if recorded.index else []
        with self._store.holding(gone):
            await self._store.mark_removable(gone)
            await self._records.change(self._catalogue.key(recorded), lambda record: replace(record, index=index))
