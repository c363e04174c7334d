"""What doors do with archives of images: load them, save images as one, make an image of a root file system."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.archive.members import ArchiveIndex
from isola.host.cancellation import finish
from isola.host.threads import in_thread
from isola.images.acquire import Acquire
from isola.images.loading import holds_images
from isola.images.root_import import RootImport
from isola.images.saving import save
from isola.images.store import ContentStore
from isola.model.caller import DAEMON, Caller
from isola.model.image import Image, Layer
from isola.model.names import alias_name
from isola.model.reference import DEFAULT_PROJECT
from isola.operations import Operation, Operations


class ArchiveVerbs:
    """Loads and imports run as operations, which remove the uploaded file at their end."""

    def __init__(
        self,
        *,
        host: Host,
        store: ContentStore,
        acquire: Acquire,
        limits: Callable[[], UnpackLimits],
        layers: Callable[[str], Sequence[Layer]],
        operations: Callable[[], Operations],
    ) -> None:
        self._host = host
        self._store = store
        self._acquire = acquire
        self._limits = limits
        self._layers = layers
        self._operations = operations

    async def holds_images(self, file: Path) -> bool:
        """Whether a file looks like an archive for ``load``, by its beginning."""
        return await holds_images(self._host, file)

    async def receive(self, blocks: AsyncIterator[bytes], directory: Path) -> ArchiveIndex:
        """Store an archive that arrives in a directory, for ``load``. Raises InvalidInput, UnsafeArchive."""
        return await self._host.archives.receive(blocks, directory, limits=self._limits())

    def load(
        self,
        source: Path | ArchiveIndex,
        *,
        aliases: Sequence[str] = (),
        scratch: Path | None = None,
        project: str = DEFAULT_PROJECT,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Load all images of an archive of OCI's or Docker's layout in the background, under the names in it.

        ``scratch``, the directory of the file or of what was received, is removed at its end. ``metadata`` has
        ``images``: fingerprints and names. Raises InvalidInput for the aliases.
        """
        for name in aliases:
            alias_name(name, "aliases")
        known = self._layers(project)

        async def work(op: Operation) -> None:
            await self._acquire.load(op, source, project=project, limits=self._limits(), names=aliases, known=known)

        return self._start("Loading images", work, scratch, project, caller)

    def import_root(
        self,
        file: Path,
        wanted: RootImport,
        *,
        scratch: Path | None = None,
        project: str = DEFAULT_PROJECT,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Make an application image of a root file system in the background. Raises InvalidInput."""
        wanted.check()

        async def work(op: Operation) -> None:
            await self._acquire.import_root(op, file, wanted, project=project, limits=self._limits())

        return self._start("Importing root file system", work, scratch, project, caller)

    def save(self, images: Sequence[tuple[Image, Sequence[str]]]) -> AsyncIterator[bytes]:
        """Images with their names as one tar archive of OCI's and Docker's layout.

        Raises NotFound, InvalidInput at the first piece.
        """
        return save(self._host, self._store, images)

    def export(self, image: Image, names: Sequence[str]) -> AsyncIterator[bytes]:
        """The same for one image; without the names if its fingerprint is that of the archive."""
        return self.save([(image, names if image.is_known_by_manifest else ())])

    async def fingerprint(self, image: Image) -> str:
        """SHA-256 of its archive, which LXD's clients compare with the fingerprint of what they export."""
        found = hashlib.sha256()
        async for piece in self.save([(image, ())]):
            await in_thread(found.update, piece)
        return found.hexdigest()

    def _start(
        self,
        description: str,
        work: Callable[[Operation], Awaitable[None]],
        scratch: Path | None,
        project: str,
        caller: Caller,
    ) -> Operation:
        async def whole(op: Operation) -> None:
            try:
                await work(op)
            finally:
                if scratch is not None:
                    await finish(self._host.files.remove_tree(scratch))

        return self._operations().start(description, whole, project=project, caller=caller)
