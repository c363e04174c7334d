"""The hub of events: filters of followers, and disconnection of slow ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from isola.events import Events, Subscription
from isola.model.caller import DAEMON, Caller, Credential
from isola.model.event import EventKind, Lifecycle, LogLine
from isola.model.operation import OperationStatus, OperationView
from isola.model.reference import OF_SERVER, Entity, Kind, Ref

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIFECYCLE, OPERATION, LOGGING = EventKind.LIFECYCLE, EventKind.OPERATION, EventKind.LOGGING


def hub() -> Events:
    return Events(lambda: NOW)


def web(project: str = "default") -> Entity:
    return Entity.of(Kind.INSTANCE, Ref(project, "web1"))


def happens(events: Events, number: int) -> None:
    events.lifecycle(str(number), web())


async def actions(follower: Subscription) -> list[str]:
    """Actions of all events that a follower gets until it is closed."""
    return [event.content.action async for event in follower if isinstance(event.content, Lifecycle)]


async def test_followers_get_their_kinds_in_order() -> None:
    events = hub()
    both, one = events.follow([OPERATION, LIFECYCLE]), events.follow([LIFECYCLE])
    events.operation(OperationView("id", "task", "Test", OperationStatus.RUNNING, NOW, NOW))
    happens(events, 1)
    events.log("info", "2")
    happens(events, 3)
    events.close()
    assert [event.kind async for event in both] == [OPERATION, LIFECYCLE, LIFECYCLE]
    assert await actions(one) == ["1", "3"]


async def test_followers_get_events_of_their_project_or_all() -> None:
    events = hub()
    kinds = [LIFECYCLE, LOGGING]
    mine, all_ = events.follow(kinds, "mine"), events.follow(kinds)
    events.lifecycle("a", web("mine"))
    events.lifecycle("b", web())
    events.log("info", "of the whole daemon")
    events.close()
    assert [(event.kind, event.project) async for event in mine] == [(LIFECYCLE, "mine"), (LOGGING, OF_SERVER)]
    assert await actions(all_) == ["a", "b"]


async def test_events_before_or_after_following_are_not_delivered() -> None:
    events = hub()
    happens(events, 0)
    follower = events.follow([LIFECYCLE])
    happens(events, 1)
    follower.close()
    happens(events, 2)
    assert not events.followed(LIFECYCLE)
    late = events.follow([LIFECYCLE])
    events.close()
    assert await actions(late) == []


async def test_a_slow_follower_is_disconnected_and_delays_no_other() -> None:
    events = hub()
    slow, quick = events.follow([LIFECYCLE]), events.follow([LIFECYCLE])
    listener = asyncio.create_task(actions(quick))
    for number in range(6000):
        happens(events, number)
        if number % 1000 == 0:
            await asyncio.sleep(0)
    late = await actions(slow)
    assert len(late) < 6000 and late == list(map(str, range(1, len(late) + 1))), "a gap is only at its beginning"
    events.close()
    assert await asyncio.wait_for(listener, 60) == list(map(str, range(6000)))


async def test_an_event_has_time_source_and_caller() -> None:
    events = hub()
    follower = events.follow([LIFECYCLE, LOGGING])
    alice = Caller(Credential.UNIX, "alice", "@")
    events.lifecycle("instance-renamed", web("blue"), caller=alice, old_name="old")
    events.lifecycle("instance-shutdown", web())
    events.log("warning", "careful", logger="isola")
    events.close()
    renamed, ended, logged = [event async for event in follower]
    assert (renamed.timestamp, renamed.project) == (NOW, "blue")
    assert renamed.content == Lifecycle("instance-renamed", web("blue"), {"old_name": "old"}, alice)
    assert ended.content == Lifecycle("instance-shutdown", web(), {}, DAEMON)
    assert logged.content == LogLine("warning", "careful", {"logger": "isola"})


async def test_events_without_followers_are_not_rendered() -> None:
    events = hub()
    assert not events.followed(OPERATION)
    follower = events.follow([OPERATION])
    assert events.followed(OPERATION) and not events.followed(LIFECYCLE)
    follower.close()
    assert not events.followed(OPERATION)


async def test_closing_a_waiting_follower_ends_it() -> None:
    events = hub()
    follower = events.follow([LIFECYCLE])
    listener = asyncio.create_task(actions(follower))
    await asyncio.sleep(0)
    follower.close()
    assert await asyncio.wait_for(listener, 60) == []
