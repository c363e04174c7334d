"""A failed cleanup after the end of an instance is retried with increasing pauses until it succeeds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from channels import eventually
from memory_audit import differences, settle
from strike import Fate, Strike

from isola.errors import NotFound
from isola.instances.phases import Phase
from isola.model.instance import Status
from isola.model.reference import Ref
from isola.testing.parts import World

WEB = Ref.default("web1")


def status(world: World) -> Status:
    return world.context.status(world.parts.records.instances.get(WEB))


async def ended(world: World, *, reboot: bool = False, ephemeral: bool = False) -> None:
    """End it; its cleanup fails."""
    instance = await world.create("web1", start=True, ephemeral=ephemeral)
    world.runtime.keeps = True
    (world.runtime.reboot if reboot else world.runtime.end)(instance.id)
    await eventually(lambda: status(world) is Status.ERROR)


async def passes(world: World, seconds: float) -> None:
    await world.host.clock.advance(seconds)
    await settle(world)


async def test_the_status_is_error_with_the_reason_until_it_succeeds(still: World) -> None:
    await ended(still)
    instance = still.parts.records.instances.get(WEB)
    assert "Cannot remove what is left" in still.context.faults[instance.id].why
    assert still.context.phase(instance) is Phase.BROKEN
    await passes(still, 30)
    assert status(still) is Status.ERROR
    still.runtime.keeps = False
    await passes(still, 60)
    assert status(still) is Status.STOPPED and not still.context.faults
    assert not await differences(still)


async def test_the_pauses_grow(still: World) -> None:
    watched = still.observer = Fate(Strike("Repairing instance"))
    still.parts.services.operations._observer = watched
    await ended(still)
    attempts = []
    for _ in range(200):
        before = len(watched.strike.points) if watched.strike else 0
        await passes(still, 1)
        attempts.append(len(watched.strike.points) - before if watched.strike else 0)
    at = [second for second, points in enumerate(attempts, 1) if points]
    assert [later - first for first, later in pairwise(at)] == [2, 4, 8, 16, 32, 60, 60]
    assert at[0] == 1


async def test_an_ephemeral_instance_is_deleted(still: World) -> None:
    await ended(still, ephemeral=True)
    still.runtime.keeps = False
    await passes(still, 1)
    with pytest.raises(NotFound):
        still.parts.records.instances.get(WEB)
    assert not await differences(still)


async def test_a_rebooted_instance_is_started_again(still: World) -> None:
    await ended(still, reboot=True)
    still.runtime.keeps = False
    await passes(still, 1)
    assert status(still) is Status.RUNNING and not await differences(still)


@pytest.mark.parametrize("verb", ["stop", "start", "delete"])
async def test_a_verb_takes_over(still: World, verb: str) -> None:
    await ended(still)
    still.runtime.keeps = False
    await still.finish(getattr(still.parts.services.instances, verb)(WEB))
    assert not still.context.faults and not await differences(still)
    await passes(still, 100)
    assert not still.context.repairs and not await differences(still)
    if verb != "delete":
        assert status(still) is (Status.RUNNING if verb == "start" else Status.STOPPED)


async def test_the_next_daemon_continues(still: World) -> None:
    await ended(still)
    await still.parts.close()
    await still.start()
    assert status(still) is Status.STOPPED and not await differences(still)
