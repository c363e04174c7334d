"""Every call of every verb on the host and the store fails, or is the daemon's last; all must agree afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from frail import FrailWorld
from instance_verbs import VERBS, Verb, mend, record
from memory_audit import differences, settle
from strike import clear_graves

from isola.errors import IsolaError
from isola.model.instance import InstanceUpdate, Status

ENGINE_ONLY = ("pause", "resume")
"""Verbs that touch neither the host nor the store."""
NEXT_DAEMONS = ("volumes too many", "layer half made", "layer too many")
"""What belongs to no record, and is in nobody's way until the next daemon looks."""
UNRECORDED = ("NICs registered too many", "id ranges claimed too many", "begun and not ended", "described too many")
"""The same of what an instance had that has never got a record."""
HOW = ("fail before", "fail after", "crash before", "crash after")


@pytest.fixture
async def frail() -> AsyncIterator[FrailWorld]:
    world = FrailWorld()
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    clear_graves()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.name not in ENGINE_ONLY], ids=lambda verb: verb.name)
async def test_every_call_of(verb: Verb, how: str, frail: FrailWorld) -> None:
    await verb.prepare(frail)
    frail.blow.arm()
    await verb.act(frail)
    calls = frail.blow.calls
    frail.blow.disarm()
    assert calls
    for number, call in enumerate(calls):
        if how == "fail after" and call == "FakeStore.commit":
            continue  # a store that says no has not written
        await verb.prepare(frail)
        told = await hit(frail, verb, number, how)
        if verb.background and "fail" in how and record(frail):
            await mend(frail, call)
        found = await differences(frail)
        assert not found, f"{how} {call} ({told}): {found}"
        if told == "success" and not verb.background:
            assert verb.done(frail), f"{how} {call}: acknowledged and lost"
    await verb.prepare(frail)
    await verb.act(frail)
    assert verb.done(frail) and not await differences(frail)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.name not in ENGINE_ONLY], ids=lambda verb: verb.name)
async def test_after_nothing_worked_any_more_the_next_verb_does(verb: Verb, frail: FrailWorld) -> None:
    """As when descriptors run out: the call fails, and so does everything that is to undo what was done."""
    await verb.prepare(frail)
    frail.blow.arm()
    await verb.act(frail)
    calls = frail.blow.calls
    frail.blow.disarm()
    instances = frail.parts.services.instances
    for number, call in enumerate(calls):
        await verb.prepare(frail)
        await hit(frail, verb, number, "fail from then on")
        await settle(frail)
        for found in [instance for instance in instances if not instance.deleting]:
            if instances.status(found) is not Status.RUNNING:
                await frail.finish(instances.start(found.name))
            else:
                change = InstanceUpdate(found.config, found.devices, found.profiles, "mended")
                await frail.finish(instances.update(found.name, lambda _, change=change: change))  # type: ignore[misc]
        excused = NEXT_DAEMONS + (UNRECORDED if verb.name in {"create", "launch"} else ())
        left = [text for text in await differences(frail) if not text.startswith(excused)]
        assert not left, f"{call}: {left}"
        for found in list(instances):
            await frail.finish(instances.delete(found.name, force=True))
    await verb.prepare(frail)
    await verb.act(frail)
    assert verb.done(frail)


async def hit(world: FrailWorld, verb: Verb, number: int, how: str) -> str:
    """What the client was told."""
    blow = world.blow
    blow.arm(number, how)
    asked = asyncio.ensure_future(verb.act(world))
    await asyncio.wait_for(blow.hit.wait(), 5)
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
