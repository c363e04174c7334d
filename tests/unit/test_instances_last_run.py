"""What is recorded of a run when it has ended, and clients that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from channels import eventually
from memory_audit import settle

from isola.errors import HostFailure, NotFound
from isola.instances.last_run import status_of_failure
from isola.instances.own_volumes import OWN
from isola.model.instance import Instance
from isola.model.last_run import LastRun, Until
from isola.model.reference import Ref
from isola.model.volume import VolumeRef
from isola.testing.clock import FakeClock
from isola.testing.host import fake_host
from isola.testing.parts import World

WEB = Ref.default("web1")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(fake_host(granted=((1 << 20, 1 << 24),), clock=FakeClock()))
    await world.start()
    await world.import_image()
    yield world
    world.forget()


def record(world: World) -> Instance:
    return world.parts.services.instances.get(WEB)


def last(world: World) -> LastRun:
    found = record(world).last_run
    assert found is not None
    return found


async def begin(world: World) -> str:
    return (await world.create("web1", start=True)).id


async def test_an_instance_that_never_ran_has_no_last_run(world: World) -> None:
    assert (await world.create("web1")).last_run is None


async def test_a_run_that_ends_by_itself_is_recorded(world: World) -> None:
    id = await begin(world)
    began = world.host.clock.now()
    assert record(world).last_run is None
    await world.host.clock.advance(60)
    world.runtime.end(id, 3, oom_killed=True)
    await settle(world)
    now = world.host.clock.now()
    assert last(world) == LastRun(3, oom_killed=True, started_at=began, finished_at=now)


async def test_stopping_and_killing_are_told_apart(world: World) -> None:
    id = await begin(world)
    world.runtime.ends_on = frozenset()
    stopping = world.parts.services.instances.stop(WEB)
    await eventually(lambda: world.on_host("web1").stops == 1)
    world.runtime.end(id, 0)
    await world.finish(stopping)
    assert last(world).exit_status == 0
    for force, status in ((True, 137), (False, 143)):
        world.runtime.ends_on = frozenset({9, 15, 37})
        await world.finish(world.parts.services.instances.start(WEB))
        assert last(world).started_at is None
        if not force:
            await world.runtime.guest(id).signal(15)
            await settle(world)
        else:
            await world.finish(world.parts.services.instances.stop(WEB, force=True))
        assert last(world).exit_status == status


async def test_a_second_stop_or_a_repair_does_not_write_it_again(world: World) -> None:
    id = await begin(world)
    world.runtime.keeps = True
    world.runtime.end(id, 7)
    await settle(world)
    assert record(world).last_run is None
    world.runtime.keeps = False
    await world.host.clock.advance(120)
    assert last(world).exit_status == 7
    ended = last(world)
    assert ended.finished_at is not None and (world.host.clock.now() - ended.finished_at).total_seconds() == 120


async def test_the_next_daemon_finds_out_how_it_ended(world: World) -> None:
    id = await begin(world)
    await world.parts.services.instances.close()
    world.runtime.end(id, 4, oom_killed=True)
    at = world.host.clock.now()
    await world.host.clock.advance(30)
    await world.start()
    assert (last(world).exit_status, last(world).oom_killed, last(world).finished_at) == (4, True, at)


async def test_after_a_boot_of_the_host_the_status_is_lost(world: World) -> None:
    id = await begin(world)
    await world.parts.services.instances.close()
    await world.runtime.remove(id)
    world.host.system.boot = "another"
    await world.start()
    assert last(world).exit_status == 255


async def test_a_failed_start_is_recorded_beside_the_run_before(world: World) -> None:
    id = await begin(world)
    world.runtime.end(id, 3)
    await settle(world)
    ran = last(world).finished_at
    world.runtime.dying["/sbin/init"] = (b"oh no", 9)
    with pytest.raises(HostFailure):
        await world.finish(world.parts.services.instances.start(WEB))
    assert last(world).exit_status == 128 and "ended at once" in last(world).error and last(world).finished_at == ran
    world.runtime.dying.clear()
    await world.finish(world.parts.services.instances.start(WEB))
    assert last(world).error == ""


def test_failed_starts_have_the_status_of_a_shell() -> None:
    assert status_of_failure('exec: "nosuch": executable file not found in $PATH') == 127
    assert status_of_failure("stat /x: no such file or directory") == 127
    assert status_of_failure("open executable: Permission denied") == 126
    assert status_of_failure("the path `/etc` is not a regular file: Operation not permitted") == 126
    assert status_of_failure("exec format error") == 126
    assert status_of_failure("open executable: Operation not permitted") == 126
    assert status_of_failure("something else") == 128


async def test_waiting_for_one_that_does_not_run_is_over_at_once(world: World) -> None:
    await world.create("web1")
    instances = world.parts.services.instances
    assert await instances.wait(WEB) == 0
    with pytest.raises(NotFound):
        instances.wait(Ref.default("other"))
    await world.finish(instances.start(WEB))
    world.runtime.end(record(world).id, 6)
    await settle(world)
    assert await instances.wait(WEB, Until.NOT_RUNNING) == 6
    following = instances.wait(WEB, Until.NEXT_EXIT)
    await settle(world)
    assert not following.done()
    following.cancel()
    await settle(world)
    assert len(world.context.waits) == 0


async def test_hundreds_of_clients_wait_for_each_condition(world: World) -> None:
    await begin(world)
    instances = world.parts.services.instances
    waiting = {until: [instances.wait(WEB, until) for _ in range(200)] for until in Until}
    world.runtime.end(record(world).id, 5)
    await settle(world)
    assert await asyncio.gather(*waiting[Until.NOT_RUNNING], *waiting[Until.NEXT_EXIT]) == [5] * 400
    assert last(world).exit_status == 5 and not any(each.done() for each in waiting[Until.REMOVED])
    await world.finish(instances.delete(WEB))
    assert await asyncio.gather(*waiting[Until.REMOVED]) == [5] * 200
    assert len(world.context.waits) == 0


@pytest.mark.parametrize("verb", ["stop", "restart", "delete"])
async def test_every_way_of_ending_a_run_ends_the_wait(world: World, verb: str) -> None:
    await begin(world)
    instances = world.parts.services.instances
    waiting = [instances.wait(WEB, until) for until in (Until.NOT_RUNNING, Until.NEXT_EXIT)]
    await world.finish(getattr(instances, verb)(WEB, force=True))
    assert await asyncio.gather(*waiting) == [137, 137]


async def test_an_ephemeral_instance_that_ends_is_removed_with_its_status(world: World) -> None:
    instance = await world.create("web1", start=True, ephemeral=True)
    waiting = world.parts.services.instances.wait(WEB, Until.REMOVED)
    world.runtime.end(instance.id, 9)
    await settle(world)
    assert await waiting == 9


async def test_the_end_of_a_run_that_cannot_be_cleaned_up_is_told(world: World) -> None:
    id = await begin(world)
    waiting = world.parts.services.instances.wait(WEB, Until.NEXT_EXIT)
    world.runtime.keeps = True
    world.runtime.end(id, 7)
    await settle(world)
    assert await waiting == 7
    assert await world.parts.services.instances.wait(WEB) == 7


@pytest.mark.parametrize("ephemeral", [True, False])
async def test_volumes_made_for_an_ephemeral_instance_go_with_it(world: World, ephemeral: bool) -> None:
    volumes = world.parts.services.volumes
    refs = [VolumeRef.custom("default", name) for name in ("own", "named", "shared")]
    for ref in refs:
        await world.finish(await volumes.create(ref, {OWN: "1"} if ref.name != "named" else {}))
    disk = {"type": "disk", "pool": "default"}
    devices = {ref.name: disk | {"source": ref.name, "path": f"/{ref.name}"} for ref in refs}
    await world.create("other", devices={"shared": devices["shared"]})
    instance = await world.create("web1", start=True, ephemeral=ephemeral, devices=devices)
    world.runtime.end(instance.id, 0)
    await settle(world)
    left = {volume.ref.name for volume in volumes if volume.ref in refs}
    assert left == ({"named", "shared"} if ephemeral else {"own", "named", "shared"})
