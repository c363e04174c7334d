"""Builds that are remembered for clients of BuildKit, and what a client is told of them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from isola.doors.docker.buildkit.progress import Progress
from isola.doors.docker.buildkit.records import Happened, Record, Records
from isola.doors.docker.buildkit.wire import Message
from isola.model.build import BuildEvent, BuildEventKind


def record(ref: str, project: str = "default") -> Record:
    return Record(ref, project, Progress(ref, lambda: 5), created=5)


async def all_of(responses: AsyncIterator[bytes]) -> list[Message]:
    return [Message(each) async for each in responses]


async def test_the_oldest_that_have_ended_make_room_and_pinned_ones_last() -> None:
    records = Records()
    running, pinned = record("runs"), record("pinned")
    pinned.pinned = True
    for each in (running, pinned):
        records.begin(each)
    records.end(pinned, 6)
    for number in range(60):
        made = record(f"r{number}")
        records.begin(made)
        records.end(made, 7)
    left = [each.ref for each in records.of("default")]
    assert len(left) == 50 and left[:3] == ["runs", "pinned", "r12"]
    assert records.find("pinned", "other") is None and records.of("other") == []


async def test_output_and_options_count_for_the_room() -> None:
    records = Records()
    for number in range(20):
        made = record(f"r{number}")
        records.begin(made)
        made.progress.kept = 2 << 20
        records.end(made, 7)
    assert len(records.of("default")) == 16
    for number in range(20):
        made = record(f"options{number}")
        made.attributes = {"build-arg:a": "x" * (2 << 20)}
        records.begin(made)
        records.end(made, 8)
    assert [each.ref for each in records.of("default")] == [f"options{number}" for number in range(5, 20)]


async def test_followers_are_told_of_their_project_and_dropped_when_they_are_slow() -> None:
    records, seen = Records(), list[tuple[Happened, str]]()

    async def follow() -> None:
        with records.followed("default") as events:
            await asyncio.sleep(0)  # as while a client reads what was before
            async for happened, each in events:
                seen.append((happened, each.ref))

    task = asyncio.ensure_future(follow())
    await asyncio.sleep(0)
    mine, other = record("mine"), record("theirs", "other")
    for each in (mine, other):
        records.begin(each)
        records.end(each, 9, code=2, error="wrong")
    records.remove(mine)
    for _ in range(20):
        await asyncio.sleep(0)
    assert seen == [(Happened.STARTED, "mine"), (Happened.COMPLETE, "mine"), (Happened.DELETED, "mine")]
    shown = Message(mine.shown())
    assert (shown.inside(5).number(1), shown.inside(5).text(2)) == (2, "wrong") and shown.has(7)
    for _ in range(2000):
        records.begin(mine)
    await asyncio.wait_for(task, 10)


async def test_progress_is_told_again_also_while_it_goes_on() -> None:
    progress = Progress("r", lambda: 5)
    await progress.told(BuildEvent(BuildEventKind.STEP, 0, label="[1/2] FROM a"))
    await progress.told(BuildEvent(BuildEventKind.STEP, 0, "ENV a=b"))
    again = asyncio.ensure_future(all_of(progress.again()))
    first = asyncio.ensure_future(all_of(progress.responses()))
    await asyncio.sleep(0)
    await progress.told(BuildEvent(BuildEventKind.STEP, 0, label="[2/2] RUN b"))
    await progress.told(BuildEvent(BuildEventKind.CACHED, 0))
    await progress.told(BuildEvent(BuildEventKind.RESULT, 0))
    progress.end()
    assert [[each.text(3) for each in one.messages(1)] for one in await again] == [
        ["[1/2] FROM a"], ["[1/2] FROM a"], ["[2/2] RUN b"], ["[2/2] RUN b"]
    ]  # fmt: skip
    assert len(await first) == 4
    counts = progress.counts
    assert (counts.total, counts.completed, counts.cached) == (2, 2, 1)


async def test_of_long_output_the_beginning_is_kept() -> None:
    progress = Progress("r", lambda: 5)
    await progress.told(BuildEvent(BuildEventKind.STEP, 0, label="[1/1] RUN b"))
    for _ in range(40):
        await progress.told(BuildEvent(BuildEventKind.OUTPUT, 0, data=bytes(1 << 18)))
    await progress.failed("it failed")
    progress.end()
    found = await all_of(progress.again())
    assert progress.kept < 3 << 20 and found[-1].messages(1)[0].text(7) == "it failed"
