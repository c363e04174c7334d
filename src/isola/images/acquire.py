"""Adding images: built on demand, built explicitly, or imported."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput, NotFound
from isola.host.archive.archives import UnpackLimits
from isola.host.archive.members import ArchiveIndex
from isola.host.cancellation import finish
from isola.images.aliases import Aliases
from isola.images.catalogue import Catalogue
from isola.images.compose import Named
from isola.images.loading import Loading
from isola.images.ownership import Owned
from isola.images.root_import import RootImport, import_root
from isola.images.source import SourceRequest
from isola.images.sources import Sources
from isola.images.store import ContentStore, Intake
from isola.model.caller import Caller
from isola.model.image import Image, Layer
from isola.model.names import alias_name
from isola.model.reference import DEFAULT_PROJECT, Ref
from isola.operations import Operation

_NOTHING: Mapping[str, str] = {}


class Acquire:
    """Ways to add an image. ``build`` and ``import_files`` commit the operation that they are given."""

    def __init__(
        self,
        *,
        store: ContentStore,
        sources: Sources,
        catalogue: Catalogue,
        aliases: Aliases,
        record: Callable[[Image, Sequence[str], Caller], Awaitable[None]],
        collect_garbage: Callable[[], Awaitable[object]],
        owned: Callable[[str], Owned],
    ) -> None:
        """``owned``: for a project, what of the store it may use without sending it."""
        self._owned = owned
        self._store = store
        self._sources = sources
        self._catalogue = catalogue
        self._aliases = aliases
        self._record = record
        self._collect_garbage = collect_garbage
        self._builds: dict[Ref, asyncio.Future[None]] = {}

    async def ensure(self, op: Operation, reference: Ref, type: str = "") -> Image:
        """The image of that name; a source builds it if it is missing. Concurrent callers share one build.

        ``type``: of the instance; a source may have another image under the same name for it. It is not checked.
        Part of a larger operation: nothing is committed, and a complete image stays if ``op`` fails later.
        """
        image = self._resolve(reference)
        if type and (image is None or image.type != type):
            reference = reference.renamed(self._sources.of_type(reference.name, type))
        while True:
            if (image := self._resolve(reference)) is not None:
                return image
            offering = self._sources.offering(reference.name)
            if offering is None:
                raise self._unknown(reference)
            source, name = offering[0], reference.renamed(offering[1])
            if (image := self._resolve(name)) is not None:
                if reference.name in self._sources.aliases(source, reference.name):
                    await self._aliases.point(reference, image.fingerprint, caller=op.caller)
                return image
            if (build := self._builds.get(name)) is None:
                return await self._make(op, source, name, reference)
            with op.step(f"Wait for image {name.name}"):
                await asyncio.wait([build])
            if not build.cancelled() and (error := build.exception()) is not None:
                raise error

    async def build(
        self,
        op: Operation,
        source: str,
        request: SourceRequest,
        *,
        project: str = DEFAULT_PROJECT,
        aliases: Sequence[str] = (),
        public: bool = False,
        auto_update: bool = False,
    ) -> Image:
        """Build an image and point the aliases to it. Identical content is stored once.

        Without aliases and options it gets the source's name for it.
        """
        self.check_build(source, request, aliases)
        driver = self._sources.get(source)
        if not aliases and not request.options and driver.serves(request.name):
            aliases = driver.aliases(request.name)
        async with self._fetched(op, source, request, project) as made:
            image = replace(made, public=public, auto_update=auto_update, project=project)
            if (same := self._catalogue.same(image)) is not None:
                image = replace(same, index=made.index or same.index)
            await op.commit(lambda: self._record(image, aliases, op.caller))
        _set_result(op, image)
        return image

    async def import_files(
        self,
        op: Operation,
        files: Sequence[Path],
        *,
        project: str = DEFAULT_PROJECT,
        properties: Mapping[str, str] = _NOTHING,
        public: bool = False,
        filename: str = "",
        aliases: Sequence[str] = (),
        auto_update: bool = False,
        fingerprint: str | None = None,
    ) -> Image:
        """Import a unified file, or metadata and root. The caller keeps the files.

        ``fingerprint``: as announced by the client. Raises AlreadyExists with the image's name, InvalidInput.
        """
        self.check_aliases(project, aliases)
        digest, _ = await self._store.host.files.digest(*files)
        if fingerprint is not None and fingerprint != digest:
            raise InvalidInput(
                "The upload is damaged", evidence=f"its SHA-256 is {digest}, expected {fingerprint}",
                field="fingerprint",
                remedy="send it again",
            )  # fmt: skip
        self._check_new(Ref(project, digest))
        request = SourceRequest(files=tuple(files), properties=dict(properties), fingerprint=digest, filename=filename)
        async with self._fetched(op, "file", request, project) as made:
            image = replace(made, public=public, auto_update=auto_update, project=project)
            self._check_new(image.ref)  # another client may have uploaded the same image meanwhile
            await op.commit(lambda: self._record(image, aliases, op.caller))
        _set_result(op, image)
        return image

    async def add(
        self, op: Operation, make: Callable[[Intake], Awaitable[Sequence[Named]]], *, project: str
    ) -> Sequence[Image]:
        """Record the images of a project that ``make`` brings into the store, under their names, and commit.

        An image that a project has already stays as it is, and gets the names.
        """
        async with self._taking(op, project) as intake:
            made = await make(intake)

            async def record() -> None:
                for each in made:
                    await self._record(each.image, each.names, op.caller)

            try:
                await op.commit(record)
            finally:
                if op.committed and made:  # without a record, the next sweep removes what was brought in
                    await finish(intake.recorded())
        images = [self._catalogue.find(each.image.ref) or each.image for each in made]
        op.resources = tuple(image.entity for image in images)
        if images:
            op.update_metadata(fingerprint=images[0].fingerprint, size=images[0].size)
        return images

    async def load(
        self,
        op: Operation,
        source: Path | ArchiveIndex,
        *,
        project: str = DEFAULT_PROJECT,
        limits: UnpackLimits,
        names: Sequence[str] = (),
        known: Sequence[Layer] = (),
    ) -> Sequence[Named]:
        """Load all images of an archive, under the names in it, and ``names`` if it has one image. Commits.

        Raises InvalidInput, UnsafeArchive, Unsupported.
        """
        loaded: list[Named] = []

        async def make(intake: Intake) -> Sequence[Named]:
            loading = Loading(self._store.host, self._store, intake, project=project, limits=limits, known=known)
            loaded.extend(await loading.load(op, source))
            if names and len(loaded) > 1:
                raise InvalidInput("The archive has several images", field="aliases", remedy="import without an alias")
            loaded[:] = [replace(each, names=(*each.names, *names)) for each in loaded]
            return loaded

        await self.add(op, make, project=project)
        op.update_metadata(images=[{"fingerprint": each.image.fingerprint, "names": [*each.names]} for each in loaded])
        return loaded

    async def import_root(
        self,
        op: Operation,
        file: Path,
        wanted: RootImport,
        *,
        project: str = DEFAULT_PROJECT,
        limits: UnpackLimits,
    ) -> Image:
        """Make an application image of a root file system, and commit. Raises InvalidInput, UnsafeArchive."""
        importing = partial(import_root, self._store.host, self._store, op)
        bring = partial(importing, file=file, wanted=wanted, project=project, limits=limits)
        (image,) = await self.add(op, bring, project=project)
        return image

    def check_aliases(self, project: str, names: Sequence[str], *, but: str = "") -> None:
        """Raise InvalidInput for an impossible name, AlreadyExists for a taken one.

        ``but``: the fingerprint of an image that may have them.
        """
        for name in names:
            held = self._aliases.find(Ref(project, name))
            if held is None or held.target != but:
                self._aliases.check_free(Ref(project, name))

    def check_build(self, source: str, request: SourceRequest, aliases: Sequence[str]) -> None:
        """Check a request before the operation starts. Raises NotFound, DriverUnavailable, InvalidInput."""
        self._sources.get(source).check(request)
        for name in aliases:
            alias_name(name, "aliases")

    def _resolve(self, reference: Ref) -> Image | None:
        alias = self._aliases.find(reference)
        return self._catalogue.find(reference.renamed(alias.target) if alias else reference)

    async def _make(self, op: Operation, source: str, name: Ref, reference: Ref) -> Image:
        """Build it for all concurrent callers; if this caller is cancelled, a waiting one takes over."""
        build: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._builds[name] = build
        try:
            async with self._fetched(op, source, SourceRequest(name=name.name), name.project) as made:
                made = replace(made, project=name.project)  # noqa: PLW2901
                image = self._catalogue.same(made) or made
                names = self._sources.aliases(source, reference.name)
                await op.effect("record image", lambda: finish(self._record(image, names, op.caller)))
        except Exception as error:
            build.set_exception(error)
            build.exception()  # retrieved, because asyncio logs an error if no other caller waits
            raise
        finally:
            del self._builds[name]
            build.cancel()
        return image

    @asynccontextmanager
    async def _fetched(self, op: Operation, source: str, request: SourceRequest, project: str) -> AsyncIterator[Image]:
        """The image with its blobs in the store."""
        driver = self._sources.get(source)
        async with self._taking(op, project) as intake:
            yield await driver.fetch(op, request, intake)
            await finish(intake.recorded())

    @asynccontextmanager
    async def _taking(self, op: Operation, project: str) -> AsyncIterator[Intake]:
        """An intake whose blobs the rollback removes, unless the block recorded an image of them."""
        intake = self._store.intake(self._owned(project), project)
        op.on_rollback("bring in image", self._collect_garbage)
        try:
            yield intake
        finally:
            intake.close()

    def _check_new(self, ref: Ref) -> None:
        if self._catalogue.find(ref) is not None:
            raise AlreadyExists(
                f"Image {ref.name} already exists", remedy="use it by its fingerprint, or delete it first"
            )

    def _unknown(self, reference: Ref) -> NotFound:
        own = (alias.name for alias in self._aliases if alias.project == reference.project)
        known = sorted({*own, *self._sources.offers()})
        near = difflib.get_close_matches(reference.name, known, n=3, cutoff=0.4) or known[:10]
        remedy = f"did you mean {', '.join(near)}?" if near else "import one first"
        return NotFound(f"Image {reference.quoted} not found", remedy=remedy)


def _set_result(op: Operation, image: Image) -> None:
    op.resources = (image.entity,)
    op.update_metadata(fingerprint=image.fingerprint, size=image.size)
