"""Deployments: files that a new version gets, clients that the old one still has, and images that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from strike import end_tasks

from isola.errors import InvalidInput, WrongState
from isola.host.roots import Root
from isola.instances.volatile import HISTORY
from isola.model.deployment import Terms, Version
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.testing.clock import FakeClock
from isola.testing.host import fake_host
from isola.testing.parts import World

WEB, TERMS = Ref.default("web"), Terms(timeout=20, settle=3, drain=2)
FILES = {"isola.deploy.files": "/run/secrets/token,/nothing"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world in which only tests advance the clock."""
    world = World(fake_host(granted=((1 << 20, 1 << 24),), clock=FakeClock()))
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()


def serving(world: World) -> Instance:
    return world.parts.services.instances.get(WEB)


async def finish(world: World, operation: Operation) -> None:
    """While the clock runs."""
    ending = asyncio.ensure_future(world.finish(operation))
    while not ending.done():
        await asyncio.sleep(0.001)
        await world.host.clock.advance(0.5)
    await ending


async def deploy(world: World, version: Version | None = None) -> None:
    await finish(world, world.parts.services.instances.deployments.deploy(WEB, version or Version("tiny"), TERMS))


async def content(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def write(root: Root, path: str, data: bytes) -> None:
    await root.make_directory("/run", uid=0, gid=0, mode=0o755)
    await root.make_directory("/run/secrets", uid=0, gid=0, mode=0o755)
    await root.write(path, content(data), uid=5, gid=6, mode=0o400)


async def test_a_new_version_has_the_files_that_are_named(world: World) -> None:
    await world.create("web", start=True, config=FILES)
    async with world.parts.services.instances.files(WEB) as root:
        await write(root, "/run/secrets/token", b"s3cret")
    await deploy(world)
    async with world.parts.services.instances.files(WEB) as root:
        entry = await root.stat("/run/secrets/token")
        assert b"".join([block async for block in await root.read("/run/secrets/token")]) == b"s3cret"
    assert (entry.uid, entry.gid, entry.mode & 0o777) == (5, 6, 0o400)


async def test_a_file_that_is_too_large_ends_the_deployment(world: World) -> None:
    old = await world.create("web", start=True, config=FILES)
    async with world.parts.services.instances.files(WEB) as root:
        await write(root, "/run/secrets/token", b"x" * ((16 << 20) + 1))
    with pytest.raises(InvalidInput, match="too large"):
        await deploy(world)
    assert serving(world).id == old.id and [each.name for each in world.parts.services.instances] == ["web"]


async def stopped_after(world: World, terms: Terms, leaves: float) -> float:
    """Seconds of the clock between the switch and the stop of the old version, whose clients leave after some."""
    old = await world.create("web", start=True)
    world.on_host("web").clients = 3
    state = world.on_host("web")
    operation = world.parts.services.instances.deployments.deploy(WEB, Version("tiny"), terms)
    switched = 0.0
    while not (state.stops or state.status is not None):
        await asyncio.sleep(0.001)
        await world.host.clock.advance(0.25)
        now = world.host.clock.monotonic()
        if not switched and serving(world).id != old.id:
            switched = now
        if switched and now - switched >= leaves:
            state.clients = 0
    found = world.host.clock.monotonic() - switched
    await finish(world, operation)
    return found


async def test_the_old_version_is_stopped_when_its_last_client_has_left(world: World) -> None:
    assert 5 <= await stopped_after(world, Terms(timeout=20, settle=1, drain=60, stop_timeout=1), 5) < 12


async def test_clients_that_stay_are_waited_for_no_longer_than_allowed(world: World) -> None:
    assert 5 <= await stopped_after(world, Terms(timeout=20, settle=1, drain=6, stop_timeout=1), 1000) < 12


async def image(world: World, number: int) -> str:
    """One that was built for a deployment; its fingerprint."""
    return await world.import_image(f"docker.io/library/web:20260101-00000{number}", version=str(number))


async def test_images_of_former_versions_are_kept_as_configured(world: World) -> None:
    config = {"isola.deploy.images": "2"}
    first = await image(world, 0)
    await world.create("web", start=True, image=first, config=config)
    named = await world.import_image("release", version="named")
    prints = [named, *[await image(world, number) for number in range(1, 5)]]
    for each in prints:
        await deploy(world, Version(each))
    listed = serving(world).volatile[HISTORY].split(",")
    assert [one.partition("=")[2] for one in listed] == prints[3:1:-1]
    kept = {each.fingerprint for each in world.parts.services.images}
    assert {named, *prints[2:]} <= kept and not {first, prints[1]} & kept


async def test_an_image_that_another_instance_has_stays(world: World) -> None:
    first = await image(world, 0)
    await world.create("web", start=True, image=first, config={"isola.deploy.images": "1"})
    await world.create("other", image=first)
    for number in range(1, 4):
        await deploy(world, Version(await image(world, number)))
    kept = {each.fingerprint for each in world.parts.services.images}
    assert first in kept and len(kept) == 4, "tiny, this one, the one that serves and one before it"


async def test_a_rollback_is_part_of_the_history(world: World) -> None:
    prints = [await image(world, number) for number in range(3)]
    await world.create("web", start=True, image=prints[0])
    for each in prints[1:]:
        await deploy(world, Version(each))
    await finish(world, world.parts.services.instances.deployments.rollback(WEB, TERMS))
    assert serving(world).image == prints[1]
    assert [one.partition("=")[2] for one in serving(world).volatile[HISTORY].split(",")] == [prints[2], prints[0]]
    assert Ref.default("web-previous") in world.parts.records.instances


async def test_a_version_whose_namespaces_others_use_is_not_replaced(world: World) -> None:
    old = await world.create("web", start=True)
    side = await world.create("side", start=True)
    config = {"isola.namespaces.network": "container:web"}
    await world.parts.records.instances.change(side.ref, lambda found: replace(found, config=config))
    with pytest.raises(WrongState, match=r"used by running instances"):
        await deploy(world)
    await finish(world, world.parts.services.instances.stop(Ref.default("side"), force=True))
    await deploy(world)
    assert serving(world).id != old.id
