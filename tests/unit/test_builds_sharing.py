"""Equal steps of stages and builds that run at once: one performs them, the others take its result."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from memory_audit import differences

from isola.errors import Cancelled, HostFailure
from isola.host.archive.archives import LayerReport
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest
from isola.operations import Operation
from isola.testing.archives import FakeArchives
from isola.testing.parts import World, host_with_ids

TEXT = "FROM tiny\nCOPY a /x\n"
STAGES = "FROM tiny AS one\nCOPY a /x\nFROM tiny AS two\nCOPY a /x\nFROM tiny\n" + "".join(
    f"COPY --from={name} /x /{name}\n" for name in ("one", "two")
)


async def context(dockerfile: str) -> AsyncIterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {"Dockerfile": dockerfile, "a": "A"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    yield buffer.getvalue()


async def left(world: World) -> list[str]:
    await world.parts.services.builds.prune()
    return await differences(world)


class Gated(FakeArchives):
    """Layers are begun at once, and written when the gate is open."""

    begun = 0
    failures = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.gate = asyncio.Event()

    async def copy_layer(self, *args: Any, **options: Any) -> LayerReport | None:
        self.begun += 1
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise HostFailure("The disk has failed")
        return await super().copy_layer(*args, **options)


class Stand:
    def __init__(self, world: World, archives: Gated) -> None:
        self.world, self.archives = world, archives

    async def begin(self, text: str = TEXT, **options: Any) -> tuple[Operation, list[BuildEvent]]:
        builds, events = self.world.parts.services.builds, list[BuildEvent]()
        archive = await builds.receive(context(text))
        return builds.start(BuildRequest(names=("built",), **options), archive, events.append), events

    async def until(self, begun: int, *events: list[BuildEvent]) -> None:
        """All builds are at their COPY, and as many as that are begun."""
        more = 200  # they would begin it then
        for _ in range(1_000_000):
            more -= self.archives.begun >= begun and all(map(self._copies, events))
            if not more:
                break
            await asyncio.sleep(0)
        assert self.archives.begun == begun

    @staticmethod
    def _copies(events: list[BuildEvent]) -> bool:
        return any(each.kind is BuildEventKind.STEP and each.text.startswith("COPY") for each in events)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    host = host_with_ids()
    archives = Gated(host.files)
    world = World(dataclasses.replace(host, archives=archives))
    await world.start()
    await world.import_image("tiny")
    yield Stand(world, archives)
    world.forget()


def cached(events: list[BuildEvent]) -> int:
    return sum(each.kind is BuildEventKind.CACHED for each in events)


async def test_two_builds_perform_a_step_once(stand: Stand) -> None:
    (one, of_one), (two, of_two) = await stand.begin(), await stand.begin()
    await stand.until(1, of_one, of_two)
    stand.archives.gate.set()
    for each in (one, two):
        await stand.world.finish(each)
    assert stand.archives.begun == 1 and sorted((cached(of_one), cached(of_two))) == [0, 1]
    assert one.metadata["fingerprint"] == two.metadata["fingerprint"]
    assert await left(stand.world) == []


async def test_so_do_two_stages(stand: Stand) -> None:
    build, events = await stand.begin(STAGES)
    await stand.until(1, events)
    stand.archives.gate.set()
    await stand.world.finish(build)
    assert stand.archives.begun == 3 and cached(events) == 1
    assert await left(stand.world) == []


@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_one_that_ends_early_leaves_the_step_to_the_other(stand: Stand, end: str) -> None:
    (one, of_one), (two, of_two) = await stand.begin(), await stand.begin()
    await stand.until(1, of_one, of_two)
    if end == "cancelled":
        one.cancel()
        with pytest.raises(Cancelled):
            await stand.world.finish(one)
        await stand.until(2)
    else:
        stand.archives.failures = 1
    stand.archives.gate.set()
    if end == "failed":
        with pytest.raises(HostFailure, match="disk"):
            await stand.world.finish(one)
    await stand.world.finish(two)
    assert stand.archives.begun == 2 and cached(of_two) == 0
    assert await left(stand.world) == []


async def test_one_that_waits_can_be_cancelled(stand: Stand) -> None:
    (one, of_one), (two, of_two) = await stand.begin(), await stand.begin()
    await stand.until(1, of_one, of_two)
    two.cancel()
    with pytest.raises(Cancelled):
        await stand.world.finish(two)
    stand.archives.gate.set()
    await stand.world.finish(one)
    assert stand.archives.begun == 1 and await left(stand.world) == []


@pytest.mark.parametrize("alone", [{"no_cache": True}, {"cache_from": ("other",)}])
async def test_one_without_the_cache_waits_for_nobody(stand: Stand, alone: dict[str, Any]) -> None:
    (one, of_one), (two, of_two) = await stand.begin(), await stand.begin(**alone)
    await stand.until(2, of_one, of_two)
    stand.archives.gate.set()
    for each in (one, two):
        await stand.world.finish(each)
    assert await left(stand.world) == []
