"""A failure, cancellation or crash at every step of every verb of instances; all must match the records afterwards."""

from __future__ import annotations

import asyncio

import pytest
from deploy_verbs import DEPLOYMENTS
from instance_verbs import VERBS, Verb, mend, record
from memory_audit import differences
from sampling import chosen, turns
from strike import Fate, Strike

from isola.errors import IsolaError
from isola.testing.parts import World

ACTIONS = ("fail", "cancel", "crash")
MOST = 2
"""Points of each walk that a run covers, unless it covers all."""


@pytest.mark.parametrize(
    ("verb", "action"), turns((*VERBS, *DEPLOYMENTS), ACTIONS, 1), ids=lambda value: getattr(value, "name", value)
)
async def test_every_step_of(verb: Verb, action: str, world: World) -> None:
    points = await learn(world, verb)
    assert len(points) >= 2, points
    for number in chosen(len(points), (ACTIONS.index(action), len(ACTIONS)), MOST):
        point = points[number]
        await verb.prepare(world)
        assert not await differences(world)
        result = await hit(world, verb, number, action)
        if verb.background and action != "crash" and record(world):
            await mend(world, point)
        found = await differences(world)
        assert not found, f"{action} at {point} ({result}): {found}"
        if action != "fail":
            assert verb.always(world), f"{action} at {point} ({result}): the state differs from before"
        if result == "success" and not verb.background:
            assert verb.done(world), f"{action} at {point}: acknowledged and lost"
    await verb.prepare(world)
    await verb.act(world)
    assert verb.done(world)
    assert not await differences(world)


MANY = 50
"""With more points than this, fewer recoveries are interrupted."""
CRASHED = ("launch", "kill", "delete-running", "restart", "update-live", "profile", "replug")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.name in CRASHED], ids=lambda verb: verb.name)
async def test_a_daemon_that_dies_again_and_again_while_it_recovers(verb: Verb, world: World) -> None:
    deaths = 0
    points = await learn(world, verb)
    numbers = chosen(len(points), (0, 4 if len(points) < MANY else 60), MOST)
    for number in numbers:
        await verb.prepare(world)
        deaths += await die_recovering(world, verb, number)
        found = await differences(world)
        assert not found, f"crash at {points[number]}: {found}"
    assert deaths >= len(numbers)


async def die_recovering(world: World, verb: Verb, number: int) -> int:
    """Crash in the verb, then in the recovery, each time one point later, until a recovery completes."""
    watch(world, Strike(verb.operation, number, "crash"))
    asked = asyncio.ensure_future(verb.act(world))
    await fate(world).struck()
    asked.cancel()
    for deaths in range(1000):
        await die(world)
        world.observer = Fate(Strike(None, deaths, "crash"))
        recovery = asyncio.ensure_future(world.start())
        struck = asyncio.ensure_future(world.observer.struck())
        await asyncio.wait([recovery, struck], return_when=asyncio.FIRST_COMPLETED)
        struck.cancel()
        if recovery.done():
            await recovery
            watch(world, None)
            return deaths
        recovery.cancel()
    raise AssertionError("it never recovers")


async def learn(world: World, verb: Verb) -> list[str]:
    await verb.prepare(world)
    strike = Strike(verb.operation)
    watch(world, strike)
    await verb.act(world)
    watch(world, None)
    return strike.points


async def hit(world: World, verb: Verb, number: int, action: str) -> str:
    """The result that the client gets: ``success``, the error's code, or ``crashed``."""
    watch(world, Strike(verb.operation, number, action))
    asked = asyncio.ensure_future(verb.act(world))
    await asyncio.wait_for(fate(world).struck(), 60)
    if action == "crash":
        await crash(world)
        asked.cancel()
        return "crashed"
    try:
        await asked
        return "success"
    except IsolaError as error:
        return error.code
    finally:
        watch(world, None)


def fate(world: World) -> Fate:
    assert isinstance(world.observer, Fate)
    return world.observer


def watch(world: World, strike: Strike | None) -> None:
    fate(world).strike = strike


async def die(world: World) -> None:
    """Nothing of it continues, not even waiting for the processes that it has left."""
    fate(world).dead = True
    await world.context.devices.close()


async def crash(world: World) -> None:
    """Kill the daemon, and start the next one."""
    await die(world)
    world.observer = Fate()
    await world.start()
