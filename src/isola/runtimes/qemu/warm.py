"""Booted kernels that guests start from: a guest is saved when its agent waits for its plan, before it is any instance.

Nothing of an instance is in them: no root was mounted, no plan was sent, no NIC was there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from isola.errors import IsolaError
from isola.host import Host
from isola.runtimes.qemu import saving
from isola.runtimes.qemu.engines import Engines
from isola.runtimes.qemu.kit import Kit
from isola.runtimes.qemu.saving import Shape

Save = Callable[[Path], Awaitable[None]]
log = logging.getLogger(__name__)
PLACE = "warm"
"""Directory in that of the daemon."""
MOST = 4
"""How many are kept: one for each shape of machine, the oldest is removed for a new one."""
_MAKING = "making-"


class Warm:
    """Those of one daemon."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._place = directory / PLACE
        self._making: set[Path] = set()

    async def find(self, shape: Shape, kit: Kit, engines: Engines) -> Path | None:
        """One for a machine of this shape, with this kernel and these programs; None if there is none yet."""
        place = self._place / _name(shape, kit, engines)
        try:
            await saving.read(self._host, place)
        except IsolaError:
            return None
        return place

    async def keep(self, id: str, save: Save, shape: Shape, kit: Kit, engines: Engines) -> None:
        """Save a machine that stands still; a failure is reported in the log alone."""
        files = self._host.files
        name = _name(shape, kit, engines)
        making = self._place / f"{_MAKING}{id}"
        self._making.add(making)
        try:
            await files.remove_tree(making)
            await files.make_directory(self._place, making, mode=0o700)
            await save(making)
            await self._make_room(name)
            await files.rename(making, self._place / name)
            await files.flush(self._place)
        except IsolaError as error:
            log.warning("A booted kernel could not be kept for later starts: %s", error)
            await files.remove_tree(making)
        finally:
            self._making.discard(making)

    async def drop(self, place: Path) -> None:
        """One that could not be loaded."""
        await self._host.files.remove_tree(place)

    async def _make_room(self, name: str) -> None:
        """Remove what a killed daemon has left, what has this name, and the oldest."""
        files = self._host.files
        there = [self._place / each for each in await files.names(self._place)]
        left = [each for each in there if each.name.startswith(_MAKING) and each not in self._making]
        others = [each for each in there if not each.name.startswith(_MAKING) and each.name != name]
        ages = {each: await files.modified(each / saving.STATE) for each in others}
        oldest = sorted(others, key=lambda each: ages[each])[: max(0, len(others) - MOST + 1)]
        for each in (self._place / name, *left, *oldest):
            await files.remove_tree(each)


def _name(shape: Shape, kit: Kit, engines: Engines) -> str:
    text = json.dumps([asdict(shape), kit.stamp, engines.qemu, engines.virtiofsd])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
