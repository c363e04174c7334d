"""The use cases of repositories: pushing, mounting, deleting and collecting garbage, one change of each at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from isola.errors import IsolaError
from isola.events import Events
from isola.host import Host
from isola.images.descriptor import check_digest
from isola.images.library import ImageLibrary
from isola.images.repositories.pushing import Pushed, Pushing
from isola.images.repositories.records import RepositoryRecords
from isola.images.repositories.removing import Removing
from isola.images.repositories.unnamed import Unnamed
from isola.images.repositories.uploads import Uploads
from isola.images.repositories.views import Views
from isola.model.caller import DAEMON, Caller
from isola.model.image import Image
from isola.model.reference import Ref
from isola.model.repository import RepositoryBlob, by_digest, repository_entity
from isola.state import Intents
from isola.state.turns import Turns

_RECENT = timedelta(hours=1)
_MOST_RECENT = 10_000
_EVERY = 60
"""Minutes between searches for blobs that nothing needs."""
_GATHERED = 1.0
"""Seconds in which further removals are waited for, so that one collection serves all."""
log = logging.getLogger(__name__)


class Repositories:
    """All repositories of this daemon. ``views`` reads them."""

    def __init__(
        self,
        *,
        host: Host,
        directory: Path,
        records: RepositoryRecords,
        library: ImageLibrary,
        intents: Intents,
        events: Events,
        upload_limit: Callable[[], int],
        permit: Callable[[RepositoryBlob], None] = lambda blob: None,
    ) -> None:
        self._host = host
        self._records = records
        self._library = library
        self._events = events
        self._permit = permit
        self.views = Views(records, library, host.system.kernel().architecture)
        self._unnamed = Unnamed(host, library, intents)
        self._pushing = Pushing(
            host=host, records=records, library=library, views=self.views, intents=intents, unnamed=self._unnamed
        )
        self._removing = Removing(records, library, self.views, self._unnamed)
        self.uploads = Uploads(
            host=host,
            directory=directory / "images" / "uploads",
            store=library.store,
            intents=intents,
            limit=upload_limit,
            link=self._link,
        )
        self._turns = Turns()
        self._recent: dict[Ref, datetime] = {}
        """Blobs that were reported to clients as present: they may push a manifest that needs them."""
        self._sweeping: asyncio.Task[None] | None = None
        self._sweep_again = False
        self._minutes = 0
        library.also_named = records.named
        library.ownership.in_repositories = records.owns
        library.ownership.pushed_with = records.pushed_with
        library.on_deletion = self._image_deleted

    # --- at daemon start and end ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Continue uploads, finish interrupted pushes, and remove what belonged to images that are gone."""
        await self.uploads.open()
        await self._pushing.finish_tags()
        await self._unnamed.recover()
        for repository in {Ref(tag.project, tag.repository) for tag in self._records.tags}:
            await self._removing.forget_image(repository)
        for repository in [each.ref for each in self._records.repositories]:
            await self._removing.settle(repository)
        await self._library.collect_garbage()

    async def close(self) -> None:
        """End the collection of garbage."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def look(self, now: datetime) -> None:
        """Every minute: give up old uploads; every hour also remove blobs that nothing needs."""
        await self.uploads.expire(now)
        self._minutes += 1
        if self._minutes % _EVERY == 0:
            await self.collect_garbage(now)

    async def collect_garbage(self, now: datetime) -> None:
        """Remove old blobs that no manifest needs, and their content."""
        self._recent = {ref: at for ref, at in self._recent.items() if at > now - _RECENT}
        for repository in [each.ref for each in self._records.repositories]:
            async with self._turns.one(repository):
                await self._removing.forget_unused_blobs(repository, now, self._recent)
                await self._removing.settle(repository)
        await self._library.collect_garbage()

    # --- pushing ----------------------------------------------------------------------------------------------------

    def note_found(self, repository: Ref, digest: str) -> None:
        """A blob was reported to a client as present, so it will not send it."""
        if len(self._recent) >= _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[by_digest(repository, digest)] = self._host.clock.now()

    async def upload(self, repository: Ref, digest: str, blocks: AsyncIterator[bytes]) -> RepositoryBlob:
        """A blob in one piece. Raises InvalidInput, TooLarge, Busy, Forbidden."""
        check_digest(digest)
        upload = await self.uploads.begin(repository)
        try:
            await self.uploads.append(upload, blocks)
            return await self.uploads.complete(upload, digest)
        except BaseException:
            await self.uploads.discard(upload)
            raise

    async def mount(self, repository: Ref, digest: str, source: Ref | None, may_read: Callable[[Ref], bool]) -> bool:
        """Add a blob that another repository has, ``source`` or any that ``may_read`` allows; whether there is one."""
        check_digest(digest)
        sources = [source] if source is not None else self._records.homes_of(digest)
        found = next((each for each in sources if may_read(each) and self.views.has_blob(each, digest)), None)
        if found is None:
            return False
        intake = self._library.store.intake()
        try:
            await intake.keep(digest)
            if not await self._library.store.has(digest):
                return False
            size = await self._host.files.size(self._library.store.path(digest))
            await self._link(RepositoryBlob(repository.name, digest, size, self._host.clock.now(), repository.project))
            await intake.recorded()
        finally:
            intake.close()
        return True

    async def push(
        self,
        repository: Ref,
        reference: str,
        data: bytes,
        media_type: str,
        tags: Sequence[str] = (),
        *,
        caller: Caller = DAEMON,
    ) -> Pushed:
        """Store a manifest. Raises InvalidInput, Unsupported, NotFound (something that it refers to), Forbidden."""
        async with self._turns.one(repository):
            pushed = await self._pushing.push(repository, reference, data, media_type, tags, caller=caller)
        self._publish("pushed", repository, caller, digest=pushed.digest, tags=",".join(pushed.tags))
        return pushed

    # --- removing ---------------------------------------------------------------------------------------------------

    async def remove_tag(self, repository: Ref, tag: str, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound."""
        async with self._turns.one(repository):
            await self._removing.tag(repository, tag, caller=caller)
        self._publish("deleted", repository, caller, tag=tag)
        self._sweep_soon()

    async def remove_manifest(self, repository: Ref, digest: str, *, caller: Caller = DAEMON) -> None:
        """With its tags. Raises NotFound."""
        async with self._turns.one(repository):
            await self._removing.manifest(repository, check_digest(digest), caller=caller)
        self._publish("deleted", repository, caller, digest=digest)
        self._sweep_soon()

    async def remove_blob(self, repository: Ref, digest: str) -> None:
        """Raises NotFound, InUse."""
        async with self._turns.one(repository):
            await self._removing.blob(repository, check_digest(digest))
        self._sweep_soon()

    async def remove(self, repository: Ref, *, caller: Caller = DAEMON) -> None:
        """A repository with everything in it. Raises NotFound."""
        async with self._turns.one(repository):
            await self._removing.everything(repository, caller=caller)
            await self.uploads.drop_all(repository)
        self._publish("deleted", repository, caller)
        self._sweep_soon()

    # --- private ----------------------------------------------------------------------------------------------------

    async def _link(self, blob: RepositoryBlob) -> None:
        """Record that a repository has a blob. Raises Forbidden (a limit of the project)."""
        repository = Ref(blob.project, blob.repository)
        async with self._turns.one(repository):
            await self._pushing.ensure(repository)
            if self._records.blob(repository, blob.digest) is None:
                await self._records.blobs.add(blob.ref, blob, allow=lambda: self._permit(blob))
            else:
                await self._pushing.link(blob)

    async def _image_deleted(self, image: Image) -> None:
        homes = {Ref(tag.project, tag.repository) for tag in self._records.tags if tag.image == image.fingerprint}
        for repository in sorted(each for each in homes if each.project == image.project):
            async with self._turns.one(repository):
                await self._removing.forget_image(repository, image)

    def _sweep_soon(self) -> None:
        """Remove content in the background: clients do not wait for it."""
        self._sweep_again = True
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep(), name="remove repository content")

    async def _sweep(self) -> None:
        while self._sweep_again:
            await self._host.clock.sleep(_GATHERED)
            self._sweep_again = False
            try:
                await self._library.collect_garbage()
            except IsolaError as error:
                log.warning("Content of repositories is left to the next collection of garbage: %s", error)

    def _publish(self, what: str, repository: Ref, caller: Caller, **context: str) -> None:
        self._events.lifecycle(f"image-repository-{what}", repository_entity(repository), caller=caller, **context)
