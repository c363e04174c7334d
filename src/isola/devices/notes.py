"""Notes on the objects on the host of attached devices, written before they exist, so that a later daemon finds them.

A note applies to one run of an instance. It is not synced, because its objects do not survive a power failure either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from isola.errors import NotFound
from isola.host import Host

_BOOT = "boot"


class Notes:
    """A file per device, below ``directory/<instance id>``."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory

    def home(self, instance_id: str) -> Path:
        """The directory of one instance, which also has files of its devices."""
        return self._directory / instance_id

    async def read(self, instance_id: str, device: str) -> dict[str, str]:
        """Empty if there is no note."""
        try:
            found = orjson.loads(await self._host.files.read(self._file(instance_id, device)))
        except (NotFound, ValueError):
            return {}
        if not isinstance(found, dict) or found.pop(_BOOT, None) != self._host.system.boot_id():
            return {}
        return {str(key): str(value) for key, value in found.items()}

    async def write(self, instance_id: str, device: str, note: Mapping[str, str]) -> None:
        """Replace it."""
        await self.make_home(instance_id)
        content = orjson.dumps({**note, _BOOT: self._host.system.boot_id()})
        await self._host.files.write(self._file(instance_id, device), content, durable=False)

    async def make_home(self, instance_id: str) -> None:
        """Create the directory of the instance."""
        await self._host.files.make_directory(self._directory, self.home(instance_id), mode=0o700)

    async def forget(self, instance_id: str, device: str) -> None:
        """No effect if there is none."""
        await self._host.files.remove_tree(self._file(instance_id, device))

    async def forget_all(self, instance_id: str) -> None:
        """Remove all notes of the instance."""
        await self._host.files.remove_tree(self.home(instance_id))

    def _file(self, instance_id: str, device: str) -> Path:
        return self.home(instance_id) / f"{device}.json"
