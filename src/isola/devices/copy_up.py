"""Copies what an instance has at the path of a volume into the volume, if that is empty.

Everything is first copied into one directory of the volume, and then renamed out of it. An interruption leaves that
directory: if it is alone the copy is made again, otherwise the renames are completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import IsolaError, NotFound
from isola.host import Host
from isola.host.copying import Inside
from isola.host.roots import Changes, Root
from isola.model.identity import IdRange

_STAGE = ".isola-copying"


class CopyUp:
    """One for all volumes, since two instances may start with the same empty volume."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._turns: dict[Path, tuple[asyncio.Lock, int]] = {}

    async def fill(self, volume: Path, key: Path, root: Path, path: str, idmap: IdRange) -> None:
        """``volume``: where it is mounted, with the ids of ``idmap``, like ``root``. ``key`` identifies it.

        No effect if it has files, or if there is no directory at ``path`` in the root. Raises HostFailure.
        """
        async with self._turn(key), self._host.files.root(volume, idmap=idmap) as inside:
            names = await _names(inside)
            if names - {_STAGE, "lost+found"} and _STAGE not in names:
                return
            if not names - {_STAGE, "lost+found"}:
                await self._host.files.remove_tree(volume / _STAGE)
                if not await self._staged(volume, root, path, idmap):
                    return
            await self._unstage(volume, inside)

    async def _staged(self, volume: Path, root: Path, path: str, idmap: IdRange) -> bool:
        async with self._host.files.root(root, idmap=idmap) as tree:
            try:
                if (await tree.stat(path)).kind != "directory":
                    return False
            except IsolaError:
                return False
        try:
            await self._host.files.copy_tree(Path(path), volume / _STAGE, inside=Inside(root, idmap.base))
        except BaseException:
            await self._host.files.remove_tree(volume / _STAGE)
            raise
        await self._host.files.sync(volume)
        return True

    async def _unstage(self, volume: Path, inside: Root) -> None:
        """By paths that the kernel resolves in the volume, because its content is untrusted."""
        try:
            look = await inside.stat(_STAGE, follow=False)
            if look.kind != "directory":
                return
            async for names in await inside.names(_STAGE):
                for name in names:
                    await inside.rename(f"{_STAGE}/{name}", name, replace=False)
            await inside.change("/", Changes(uid=look.uid, gid=look.gid))
            await inside.change("/", Changes(mode=look.mode))
            await inside.remove(_STAGE)
        except NotFound:
            return
        await self._host.files.sync(volume)

    @asynccontextmanager
    async def _turn(self, key: Path) -> AsyncIterator[None]:
        lock, waiting = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(key)
            if waiting > 1:
                self._turns[key] = lock, waiting - 1


async def _names(root: Root) -> set[str]:
    """Of its first entries: enough to know whether there are any."""
    async for names in await root.names("/"):
        return set(names)
    return set()
