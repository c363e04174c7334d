"""Instances in a reboot loop: increasing pauses, which do not block other verbs."""

from __future__ import annotations

import pytest
from channels import eventually
from memory_audit import differences, settle
from strike import Fate, Strike

from isola.errors import IsolaError, WrongState
from isola.instances.reboots import leave, pause_before
from isola.instances.volatile import RESTARTING
from isola.model.instance import Status
from isola.model.reference import Ref
from isola.testing.parts import World


@pytest.fixture
async def still(still: World) -> World:
    """With an instance that has rebooted once without a pause."""
    await still.create("web1", start=True)
    await reboot(still)
    await eventually(lambda: status(still) is Status.RUNNING)
    return still


def status(world: World) -> Status:
    return world.context.status(world.parts.records.instances.get(Ref.default("web1")))


def runs(world: World) -> bool:
    return status(world) is Status.RUNNING


async def reboot(world: World) -> None:
    id = world.parts.records.instances.get(Ref.default("web1")).id
    before = world.context.live[id]
    world.runtime.reboot(id)
    await eventually(lambda: world.context.live.get(id) is not before)
    await settle(world)


async def pause(world: World) -> float:
    """Seconds until it runs again."""
    seconds = 0.0
    while not runs(world):
        await world.host.clock.advance(0.5)
        await settle(world)
        seconds += 0.5
        assert seconds < 100
    return seconds


def test_pauses_double_from_the_second_on() -> None:
    assert [pause_before(reboots) for reboots in range(1, 10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert pause_before(10_000) == 60


async def test_the_first_reboot_is_at_once_and_the_next_wait_longer_and_longer(still: World) -> None:
    waited = []
    for _ in range(8):
        await reboot(still)
        assert status(still) is Status.STARTING and not await differences(still)
        waited.append(await pause(still))
        assert not await differences(still)
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_after_a_while_without_reboots_there_is_no_pause(still: World) -> None:
    for _ in range(3):
        await reboot(still)
        await pause(still)
    await still.host.clock.advance(61)
    await reboot(still)
    assert runs(still)
    await reboot(still)
    assert await pause(still) == 1


async def test_a_pause_holds_no_lock(still: World) -> None:
    await reboot(still)
    assert still.context.operations.holder("instance/web1") is None
    assert [operation.description for operation in still.context.operations if not operation.status.final] == []


@pytest.mark.parametrize("force", [True, False])
async def test_a_stop_ends_the_pause_at_once(still: World, force: bool) -> None:
    await reboot(still)
    await still.finish(still.parts.services.instances.stop(Ref.default("web1"), force=force))
    assert status(still) is Status.STOPPED
    await still.host.clock.advance(200)
    assert status(still) is Status.STOPPED and not still.context.restarts and not await differences(still)
    await still.finish(still.parts.services.instances.start(Ref.default("web1")))
    await reboot(still)
    assert runs(still), "a stop and start by the user resets the count"


async def test_a_deletion_ends_the_pause_at_once_but_wants_force(still: World) -> None:
    await reboot(still)
    with pytest.raises(WrongState):
        still.parts.services.instances.delete(Ref.default("web1"))
    await still.finish(still.parts.services.instances.delete(Ref.default("web1"), force=True))
    await still.host.clock.advance(200)
    assert list(still.parts.records.instances) == [] and not await differences(still)


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_a_start_ends_the_pause_at_once(still: World, verb: str) -> None:
    await reboot(still)
    await still.finish(getattr(still.parts.services.instances, verb)(Ref.default("web1")))
    assert runs(still) and not still.context.restarts and not await differences(still)
    first = still.on_host("web1").number
    await still.host.clock.advance(200)
    assert still.on_host("web1").number == first


async def test_pausing_instances_may_be_changed_but_run_no_commands(still: World) -> None:
    await reboot(still)
    with pytest.raises(WrongState, match="reboot loop"):
        still.parts.services.instances.pause(Ref.default("web1"))
    await still.finish(still.parts.services.instances.rename(Ref.default("web1"), "web2"))
    await still.host.clock.advance(2)
    await settle(still)
    assert still.on_host("web2").spec.hostname == "web2" and not await differences(still)


async def test_a_restarted_daemon_continues_a_pause(still: World) -> None:
    for _ in range(3):
        await reboot(still)
        await pause(still)
    await reboot(still)
    await still.parts.close()
    await still.start()
    assert status(still) is Status.STARTING and not await differences(still)
    assert await pause(still) == 8
    assert RESTARTING not in still.parts.records.instances.get(Ref.default("web1")).volatile and not await differences(
        still
    )


async def test_a_daemon_continues_a_pause_after_a_kill(still: World) -> None:
    await reboot(still)
    leave(still.context)  # with its tasks
    await still.start()
    assert await pause(still) == 1 and not await differences(still)


async def test_a_shutdown_during_a_pause_leaves_it_to_the_next_start(still: World) -> None:
    await reboot(still)
    await still.parts.shutdown()
    await still.host.clock.advance(200)
    assert not still.runtime.instances
    await still.start()
    await pause(still)
    assert not await differences(still)


async def struck(world: World, point: int, action: str, *, seconds: float) -> Strike:
    """Advance the clock until the instance is started again, which fails at the given point."""
    fate = world.observer
    assert isinstance(fate, Fate)
    strike = fate.strike = Strike("Starting instance after its reboot", point, action)
    await world.host.clock.advance(seconds)
    await settle(world)
    fate.strike = None
    return strike


async def test_an_instance_that_cannot_be_restarted_is_stopped(still: World) -> None:
    await reboot(still)
    strike = await struck(still, 3, "fail", seconds=2)
    assert strike.hit.is_set()
    assert status(still) is Status.STOPPED and not still.context.restarts and not await differences(still)


async def test_a_cancelled_start_is_tried_again(still: World) -> None:
    await reboot(still)
    await struck(still, 0, "cancel", seconds=1)
    assert status(still) is Status.STARTING
    assert await pause(still) == 1


async def test_stopping_a_pausing_ephemeral_instance_deletes_it(still: World) -> None:
    await still.create("gone", start=True, ephemeral=True)
    id = still.parts.records.instances.get(Ref.default("gone")).id
    for _ in range(2):
        before = still.context.live[id]
        still.runtime.reboot(id)
        await eventually(lambda before=before: still.context.live.get(id) is not before)
        await settle(still)
    assert still.context.status(still.parts.records.instances.get(Ref.default("gone"))) is Status.STARTING
    await still.finish(still.parts.services.instances.stop(Ref.default("gone")))
    with pytest.raises(IsolaError):
        still.parts.records.instances.get(Ref.default("gone"))
    assert not await differences(still)
