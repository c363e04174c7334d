"""The working directory of a program is made with its instance."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isola.errors import NotFound
from isola.host.mounts import OverlayMount
from isola.model.program import Program
from isola.model.reference import Ref
from isola.testing.mounts import FakeMounts
from isola.testing.parts import World, host_with_ids


class CountedMounts(FakeMounts):
    made: int = 0
    failing: bool = False

    async def overlay(self, mount: OverlayMount) -> None:
        self.made += 1
        if self.failing:
            raise NotFound("a layer is missing")
        await super().overlay(mount)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    host = host_with_ids()
    world = World(dataclasses.replace(host, mounts=CountedMounts(host.files)))
    await world.start()
    await world.import_image()
    yield world
    world.forget()


def mounts(world: World) -> CountedMounts:
    assert isinstance(world.host.mounts, CountedMounts)
    return world.host.mounts


async def create(world: World, name: str, cwd: str, **config: str) -> int:
    """Returns how many overlays were mounted."""
    before = mounts(world).made
    await world.create(name, program=Program(arguments=("/x",), cwd=cwd, user="1000"), config=config)
    return mounts(world).made - before


async def kinds(world: World, name: str, *paths: str) -> list[tuple[str, int, int, int]]:
    async with world.parts.services.instances.files(Ref.default(name)) as root:
        found = [await root.stat(path) for path in paths]
    return [(each.kind, each.uid, each.gid, each.mode & 0o7777) for each in found]


async def test_it_is_there_before_the_first_start_with_its_parents(world: World) -> None:
    assert await create(world, "c1", "/made/here/") == 1
    assert await kinds(world, "c1", "/made", "/made/here") == [("directory", 0, 0, 0o755)] * 2
    assert await world.parts.services.instances.contents.changes(Ref.default("c1"))


async def test_that_of_the_configuration_comes_first(world: World) -> None:
    await create(world, "c1", "/made", **{"oci.cwd": "/other"})
    assert await kinds(world, "c1", "/other")
    with pytest.raises(NotFound):
        await kinds(world, "c1", "/made")


async def test_one_that_is_there_stays_as_it_is_and_costs_no_mount(world: World) -> None:
    assert [await create(world, name, cwd) for name, cwd in (("c1", "/etc"), ("c2", "/etc/."), ("c3", "/"))] == [0] * 3
    assert await kinds(world, "c1", "/etc") == await kinds(world, "c3", "/etc")
    assert not await world.parts.services.instances.contents.changes(Ref.default("c1"))


async def test_what_is_remembered_of_an_image_has_a_bound(world: World) -> None:
    known = world.context.image_directories
    known |= {(("a layer",), f"/{number}"): None for number in range(1024)}
    await create(world, "c1", "/etc")
    assert len(known) == 1024
    assert [path for _, path in known][-1] == "/etc"


async def test_a_file_in_its_place_does_not_hinder_the_creation(world: World) -> None:
    await create(world, "c1", "/etc/hostname/deep")
    assert (await kinds(world, "c1", "/etc/hostname"))[0][0] == "file"


async def test_nor_does_a_volume_that_cannot_be_mounted(world: World) -> None:
    mounts(world).failing = True
    assert await create(world, "c1", "/made") == 1
    mounts(world).failing = False
    with pytest.raises(NotFound):
        await kinds(world, "c1", "/made")


async def test_a_way_upwards_ends_in_the_root(world: World) -> None:
    await create(world, "c1", "/../../made/../here")
    assert await kinds(world, "c1", "/here")
    assert not await world.host.files.exists(Path("/here"))


async def test_a_system_has_none(world: World) -> None:
    await world.create("c1", program=Program(cwd="/made"))
    with pytest.raises(NotFound):
        await kinds(world, "c1", "/made")
