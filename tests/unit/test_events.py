"""The hub of events: who hears what, and who is cut off."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from isola.events import Events, Subscription

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def hub() -> Events:
    return Events(lambda: NOW)


async def heard(events: Events, follower: Subscription) -> list[object]:
    """All a follower has been told by the time the hub closes."""
    events.close()
    return [event.metadata.get("n", event.metadata.get("action")) async for event in follower]


async def test_followers_hear_their_kinds_in_order() -> None:
    events = hub()
    both, one = events.follow(["operation", "lifecycle"]), events.follow(["lifecycle"])
    for number, kind in enumerate(("operation", "lifecycle", "logging", "lifecycle")):
        events.publish(kind, {"n": number})
    events.close()
    assert [event.metadata["n"] async for event in both] == [0, 1, 3]
    assert [event.metadata["n"] async for event in one] == [1, 3]


async def test_followers_hear_their_project_or_all() -> None:
    events = hub()
    mine, all_ = events.follow(["lifecycle"], "mine"), events.follow(["lifecycle"])
    events.lifecycle("a", "/1.0/x", project="mine")
    events.lifecycle("b", "/1.0/x")
    events.close()
    assert [(event.metadata["action"], event.project) async for event in mine] == [("a", "mine")]
    assert [event.metadata["action"] async for event in all_] == ["a", "b"]


async def test_nothing_is_heard_from_before_or_after() -> None:
    events = hub()
    events.publish("lifecycle", {"n": 0})
    follower = events.follow(["lifecycle"])
    events.publish("lifecycle", {"n": 1})
    follower.close()
    events.publish("lifecycle", {"n": 2})
    assert not events.followed("lifecycle")
    late = events.follow(["lifecycle"])
    assert await heard(events, late) == []


async def test_a_slow_follower_is_cut_off_and_nobody_waits_for_it() -> None:
    events = hub()
    slow, quick = events.follow(["lifecycle"]), events.follow(["lifecycle"])
    seen: list[object] = []

    async def listen() -> None:
        async for event in quick:
            seen.append(event.metadata["n"])

    listener = asyncio.create_task(listen())
    for number in range(6000):
        events.publish("lifecycle", {"n": number})
        if number % 1000 == 0:
            await asyncio.sleep(0)
    late = [event.metadata["n"] async for event in slow]
    assert len(late) < 6000 and late == list(range(1, len(late) + 1)), "a gap is only at its beginning, then the end"
    events.close()
    await asyncio.wait_for(listener, 2)
    assert seen == list(range(6000))


async def test_an_event_carries_when_and_about_what() -> None:
    events = hub()
    follower = events.follow(["lifecycle", "logging"])
    events.lifecycle("instance-renamed", "/1.0/instances/new", old_name="old")
    events.log("warning", "careful", logger="isola")
    events.close()
    renamed, logged = [event async for event in follower]
    assert renamed.timestamp == NOW
    assert renamed.metadata == {
        "action": "instance-renamed",
        "source": "/1.0/instances/new",
        "project": "default",
        "context": {"old_name": "old"},
    }
    assert logged.metadata == {"level": "warning", "message": "careful", "context": {"logger": "isola"}}


async def test_describing_is_saved_where_nobody_listens() -> None:
    events = hub()
    assert not events.followed("operation")
    follower = events.follow(["operation"])
    assert events.followed("operation") and not events.followed("lifecycle")
    follower.close()
    assert not events.followed("operation")


async def test_a_follower_that_is_closed_while_it_waits_comes_to_its_end() -> None:
    events = hub()
    follower = events.follow(["lifecycle"])

    async def listen() -> list[object]:
        return [event async for event in follower]

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0)
    follower.close()
    assert await asyncio.wait_for(listener, 1) == []
