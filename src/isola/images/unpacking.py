"""Unpacking layers of images, which are what the configurations of those say.

Pools share unpacked layers by their diff ids, which configurations of images only claim. So a layer that is not
unpacked because a pool has it is read once too: otherwise an image whose configuration names the diff id of another
project's layer would start with the content of that. What was found is noted in a file, since it never changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host import Host
from isola.host.archive.archives import UnpackLimits, UnpackReport
from isola.host.disk_images import DiskLimits
from isola.images.descriptor import DISK_TYPE, is_digest
from isola.images.store import ContentStore
from isola.images.vm_layers import unpack_disk
from isola.model.image import Layer

log = logging.getLogger(__name__)


class Unpacking:
    """Unpacks layers of the store."""

    def __init__(
        self,
        host: Host,
        store: ContentStore,
        limits: Callable[[], UnpackLimits],
        disk_limits: Callable[[], DiskLimits],
    ) -> None:
        self._host = host
        self._store = store
        self._limits = limits
        self._disk_limits = disk_limits
        self._found: dict[str, str] = {}
        """Diff ids by digest."""

    async def unpack(self, layer: Layer, target: Path, progress: Callable[[int], None] | None = None) -> UnpackReport:
        """Unpack a layer to an empty directory. Raises UnsafeArchive, and InvalidInput if the diff id differs.

        The diff id of a layer that is not compressed is its digest, which was checked when it came.
        """
        source, check = self._store.path(layer.digest), layer.diff_id != layer.digest
        if layer.media_type == DISK_TYPE:
            if layer.diff_id not in ("", layer.digest):  # pools would keep it as a layer that it is not
                raise _differs(layer, layer.digest)
            return await unpack_disk(self._host, source, target, self._disk_limits(), progress)
        report = await self._host.archives.unpack(
            source, target, whiteouts=True, limits=self._limits(), progress=progress, digest=check
        )
        if layer.diff_id and report.diff_id not in ("", layer.diff_id):
            raise _differs(layer, report.diff_id)
        if layer.diff_id and check:
            await self._note(layer.digest, layer.diff_id)
        return report

    async def check(self, layers: Iterable[Layer]) -> None:
        """Raise InvalidInput unless the content of the layers has the diff ids; NotFound for a missing one."""
        for layer in layers:
            if layer.diff_id not in ("", layer.digest) and await self._diff_id(layer) != layer.diff_id:
                raise _differs(layer, await self._diff_id(layer))

    async def _diff_id(self, layer: Layer) -> str:
        if (found := self._found.get(layer.digest) or await self._noted(layer.digest)) is not None:
            return found
        if layer.media_type == DISK_TYPE:
            return layer.digest
        report = await self._host.archives.repack(self._store.path(layer.digest), None, limits=self._limits())
        await self._note(layer.digest, report.diff_id)
        return report.diff_id

    async def _noted(self, digest: str) -> str | None:
        try:
            noted = (await self._host.files.read(self._store.note(digest), 200)).decode("ascii", "replace")
        except NotFound:
            return None
        if not is_digest(noted):  # cut off by a power failure
            return None
        self._found[digest] = noted
        return noted

    async def _note(self, digest: str, diff_id: str) -> None:
        """Failing to write only costs time later."""
        if self._found.get(digest) == diff_id:
            return
        self._found[digest] = diff_id
        place = self._store.note(digest)
        try:
            if not await self._host.files.exists(place.parent):
                await self._host.files.make_directory(place.parent, mode=0o700)
            await self._host.files.write(place, diff_id.encode(), durable=False)
        except HostFailure as error:
            log.warning("Cannot note the diff id of a layer: %s", error)


def _differs(layer: Layer, found: str) -> InvalidInput:
    return InvalidInput(
        "The content of an image layer does not match the image's configuration",
        evidence=f"diff id {found}, expected {layer.diff_id}",
        remedy="delete the image and import it again, from a source you trust",
    )
