"""A failure and a crash at every call of every verb to the host and the store; all must be consistent afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from frail import FrailWorld
from instance_verbs import VERBS, Verb, mend, record
from memory_audit import differences, settle
from sampling import chosen, turns
from strike import end_tasks

from isola.errors import IsolaError
from isola.model.instance import InstanceUpdate, Status

TOUCHING = [verb for verb in VERBS if verb.name not in ("pause", "resume")]
"""The verbs but those that touch neither the host nor the store."""
NEXT_DAEMONS = ("incomplete layer", "layer too many", "incomplete", "begun and not ended: /intents/blobs-")
"""Objects without a record, which disturb no instance until the next daemon removes them."""
REMOVALS = ("FakeFiles.names", "FakeFiles.remove_tree", "FakeMounts.below", "FakeMounts.unmount")
"""Calls whose failure may leave incomplete objects to the next daemon. So may a commit after which a verb succeeds: the
end of an intent. The failure of any other call must not.
"""
A_WHILE = 5.0
"""Seconds within which the daemon retries the rollback of a creation."""
SHARES = 4
"""Each run covers one of so many shares of the calls; each call fails in one random way of ``HOW``."""
MOST = 2
"""Calls of each walk that a run covers, unless it covers all."""
MISSED = "done without that call"
HOW = ("fail before", "fail after", "crash before", "crash after")


@pytest.fixture
async def frail() -> AsyncIterator[FrailWorld]:
    world = FrailWorld()
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()


@pytest.mark.parametrize(("verb", "how"), turns(TOUCHING, HOW, 1), ids=lambda value: getattr(value, "name", value))
async def test_every_call_of(verb: Verb, how: str, frail: FrailWorld) -> None:
    await verb.prepare(frail)
    await verb.act(frail)  # what is read once is not read by the calls that are counted
    await verb.prepare(frail)
    frail.blow.arm()
    await verb.act(frail)
    calls = frail.blow.calls
    frail.blow.disarm()
    assert calls
    left: set[str] = set()
    missed = 0
    for number in chosen(len(calls), (HOW.index(how), len(HOW)), MOST):
        call = calls[number]
        if how == "fail after" and call == "FakeStore.commit":
            continue  # a store that refuses has not written
        await verb.prepare(frail)
        result = await hit(frail, verb, number, how)
        missed += result == MISSED
        if verb.background and "fail" in how and record(frail):
            await mend(frail, call)
        if result == "success" and not verb.background and frail.context.faults:
            await mend(frail, call)  # done, but not recorded as done: the next verb writes the record
        found = [text for text in await differences(frail) if text not in left]
        if "fail" in how and call in REMOVALS:
            left |= await incomplete(frail)
        if "fail" in how and call == "FakeStore.commit" and result == "success":
            left |= {text for text in found if text.startswith(NEXT_DAEMONS)}
        found = [text for text in found if text not in left]
        assert not found, f"{how} {call} ({result}): {found}"
        if result == "success" and not verb.background:
            assert verb.done(frail), f"{how} {call}: acknowledged and lost"
    assert missed <= 1 + len(calls) // 20, "after a failure that it tolerates, a verb may need fewer calls"
    await verb.prepare(frail)
    await verb.act(frail)
    assert verb.done(frail) and set(await differences(frail)) <= left


@pytest.mark.parametrize("verb", TOUCHING, ids=lambda verb: verb.name)
async def test_after_a_total_failure_the_next_verb_works(verb: Verb, frail: FrailWorld) -> None:
    """As without free descriptors: the call fails, and so does its rollback."""
    await verb.prepare(frail)
    frail.blow.arm()
    await verb.act(frail)
    calls = frail.blow.calls
    frail.blow.disarm()
    instances = frail.parts.services.instances
    for number in chosen(len(calls), (0, SHARES), MOST):
        call = calls[number]
        await verb.prepare(frail)
        await hit(frail, verb, number, "fail from then on")
        await settle(frail)
        for found in [instance for instance in instances if not instance.deleting]:
            if instances.status(found) is not Status.RUNNING:
                await frail.finish(instances.start(found.ref))
            else:
                change = InstanceUpdate(found.config, found.devices, found.profiles, "mended")
                await frail.finish(instances.update(found.ref, lambda _, change=change: change))  # type: ignore[misc]
        await frail.host.clock.advance(A_WHILE)
        left = [text for text in await differences(frail) if not text.startswith(NEXT_DAEMONS)]
        assert not left, f"{call}: {left}"
        for found in list(instances):
            await frail.finish(instances.delete(found.ref, force=True))
    await verb.prepare(frail)
    await verb.act(frail)
    assert verb.done(frail)


@pytest.mark.parametrize("then", ["a while", "the same name", "the next daemon"])
async def test_a_creation_that_could_not_be_undone_is_undone_later(then: str, frail: FrailWorld) -> None:
    """From some point on every call fails, including the rollback; then the host works again."""
    verb = next(verb for verb in VERBS if verb.name == "create")
    await verb.prepare(frail)
    await verb.act(frail)  # only the first one notes the diff ids of the layers
    await verb.prepare(frail)
    frail.blow.arm()
    await verb.act(frail)
    calls = frail.blow.calls
    frail.blow.disarm()
    left_something = False
    for number, call in enumerate(calls):
        await verb.prepare(frail)
        result = await hit(frail, verb, number, "fail from then on")
        if result == "success":
            continue
        left_something = left_something or bool(await differences(frail))
        if then == "a while":
            await frail.host.clock.advance(A_WHILE)
        elif then == "the same name":
            await verb.act(frail)
            assert verb.done(frail)
        else:
            await frail.crash()
        left = [text for text in await differences(frail) if not text.startswith(NEXT_DAEMONS)]
        assert not left, f"{call}: {left}"
        assert not frail.context.half_made
    assert left_something, "everything was rolled back at once: the test shows nothing"


async def test_files_changed_after_a_restore_that_could_not_be_recorded_stay(frail: FrailWorld) -> None:
    verb = next(verb for verb in VERBS if verb.name == "restore")
    await verb.prepare(frail)
    frail.blow.arm()
    await verb.act(frail)
    last = len(frail.blow.calls) - 1
    assert frail.blow.calls[last] == "FakeStore.commit"
    frail.blow.disarm()
    await verb.prepare(frail)
    assert await hit(frail, verb, last, "fail before") == "success"
    instance = record(frail)
    assert instance is not None and instance.id in frail.context.faults
    place = frail.directory / "pools/default/volumes" / instance.id / "upper/file"
    await frail.host.files.write(place, b"new")
    await mend(frail, "restore")
    assert await frail.host.files.read(place) == b"new"
    assert not await differences(frail)


async def incomplete(world: FrailWorld) -> set[str]:
    """As named by ``differences``, also what a started deletion will still remove."""
    places = [world.directory / "pools" / pool.name / "partial" for pool in world.parts.services.pools]
    return {f"incomplete: {name}" for place in places for name in await world.host.files.names(place)}


async def hit(world: FrailWorld, verb: Verb, number: int, how: str) -> str:
    """The result that the client gets."""
    blow = world.blow
    blow.arm(number, how)
    asked = asyncio.ensure_future(verb.act(world))
    try:
        await asyncio.wait_for(blow.hit.wait(), 60)
    except TimeoutError:
        blow.disarm()
        await asked
        return MISSED
    if "crash" in how:
        await world.crash()
        asked.cancel()
        return "crashed"
    try:
        await asked
        return "success"
    except IsolaError as error:
        return error.code
    finally:
        blow.disarm()
