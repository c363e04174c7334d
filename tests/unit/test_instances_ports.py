"""Every call of every verb on the host and the store fails, or is the daemon's last; all must agree afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from frail import FrailWorld
from instance_verbs import VERBS, Verb, mend, record
from memory_audit import differences
from strike import clear_graves

from isola.errors import IsolaError

ENGINE_ONLY = ("pause", "resume")
"""Verbs that touch neither the host nor the store."""
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
