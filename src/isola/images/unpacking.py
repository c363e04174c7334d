"""Unpacking layers of images, which are what the configurations of those say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isola.errors import InvalidInput
from isola.host import Host
from isola.host.archive.archives import UnpackLimits, UnpackReport
from isola.host.disk_images import DiskLimits
from isola.images.descriptor import DISK_TYPE
from isola.images.store import ContentStore
from isola.images.vm_layers import unpack_disk
from isola.model.image import Layer


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
        return report


def _differs(layer: Layer, found: str) -> InvalidInput:
    return InvalidInput(
        "The content of an image layer does not match the image's configuration",
        evidence=f"diff id {found}, expected {layer.diff_id}",
        remedy="delete the image and import it again, from a source you trust",
    )
