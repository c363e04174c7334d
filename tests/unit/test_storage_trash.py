"""The removal of trees in the background."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from isola.storage.trash import Trash
from isola.storage.tree_layers import Trees
from isola.testing.files import FakeFiles
from isola.testing.host import fake_host


class _Held(Trees):
    """Each removal waits to be let through."""

    def __init__(self) -> None:
        super().__init__(fake_host(), Path("/pool/partial"))
        self.gates: dict[str, asyncio.Event] = {}

    async def destroy(self, place: Path) -> None:
        await self.gates.setdefault(place.name, asyncio.Event()).wait()
        await super().destroy(place)


async def made() -> tuple[_Held, Trash, FakeFiles]:
    """On a full disk."""
    trees = _Held()
    files = trees.host.files
    assert isinstance(files, FakeFiles)
    await files.make_directory(trees.partial)
    files.capacity = replace(files.capacity, used=files.capacity.total)
    return trees, Trash(trees.host, trees), files


async def test_a_new_tree_waits_only_until_there_is_room() -> None:
    trees, trash, files = await made()
    for name in ("one", "endless"):
        trash.remove(trees.partial / name)
    waiting = asyncio.ensure_future(trash.make_room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    files.capacity = replace(files.capacity, used=0)
    trees.gates["one"].set()
    async with asyncio.timeout(60):
        await waiting
    trees.gates["endless"].set()
    await trash.settled()


async def test_a_new_tree_does_not_wait_for_what_is_deleted_later() -> None:
    trees, trash, _ = await made()
    trash.remove(trees.partial / "one")
    waiting = asyncio.ensure_future(trash.make_room())
    await asyncio.sleep(0.01)
    trash.remove(trees.partial / "later")
    await asyncio.sleep(0.01)
    trees.gates["one"].set()
    async with asyncio.timeout(60):
        await waiting
    trees.gates["later"].set()
    await trash.settled()
