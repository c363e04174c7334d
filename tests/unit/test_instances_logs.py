"""Reading the output of an instance from its log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from memory_audit import settle

from isola.errors import InvalidInput, Unsupported
from isola.model.log_query import LogQuery, log_time
from isola.model.reference import Ref
from isola.runtimes import CONSOLE_LOG, Channel, Lines, LogBlock
from isola.runtimes.log_lines import beginning
from isola.testing.parts import World

WEB = Ref.default("web1")
OUT, ERR = Channel.STDOUT, Channel.STDERR
SECOND = 1_000_000_000
NOON = 1_769_860_800 * SECOND


def line(second: int, channel: str, content: str, tag: str = "F", zone: str = "+00:00") -> bytes:
    return f"{log_time(NOON + second * SECOND + 123)}{zone} {channel} {tag} {content}\n".encode()


LOG = b"".join(
    [
        line(0, "stdout", "one"),
        line(1, "stderr", "two"),
        line(2, "stdout", "thr", "P"),
        line(2, "stdout", "ee"),
        line(3, "stdout", ""),
        line(4, "stdout", "four $ ", "P"),
    ]
)


def said(blocks: list[LogBlock], channel: Channel) -> bytes:
    return b"".join(block.data for block in blocks if block.channel is channel)


def test_streams_are_apart_and_parts_are_joined() -> None:
    found = Lines(LogQuery()).feed(LOG)
    assert [(block.channel, block.data) for block in found] == [
        (OUT, b"one\n"),
        (ERR, b"two\n"),
        (OUT, b"three\n\nfour $ "),
    ]
    assert Lines(LogQuery(stdout=False)).feed(LOG) == [LogBlock(ERR, b"two\n")]


def test_details_are_once_for_each_line_after_its_time() -> None:
    found = Lines(LogQuery(details="a=b ", stderr=False)).feed(LOG)
    assert said(found, OUT) == b"a=b one\na=b three\na=b \na=b four $ "
    timed = Lines(LogQuery(details="a=b ", timestamps=True, stdout=False)).feed(LOG)
    assert said(timed, ERR) == b"2026-01-31T12:00:01.000000123Z a=b two\n"


def test_timestamps_have_nanoseconds_once_for_each_line() -> None:
    found = Lines(LogQuery(timestamps=True, stderr=False)).feed(LOG)
    stamp = [f"2026-01-31T12:00:0{second}.000000123Z ".encode() for second in range(5)]
    assert said(found, OUT) == b"".join(
        [stamp[0], b"one\n", stamp[2], b"three\n", stamp[3], b"\n", stamp[4], b"four $ "]
    )
    local = line(7200, "stdout", "x", zone="+02:00")
    assert said(Lines(LogQuery(timestamps=True)).feed(local), OUT) == b"2026-01-31T12:00:00.000000123Z x\n"


def test_times_choose_lines() -> None:
    assert said(Lines(LogQuery(since=NOON + 3 * SECOND)).feed(LOG), OUT) == b"\nfour $ "
    assert Lines(LogQuery(since=NOON + 99 * SECOND)).feed(LOG) == []
    lines = Lines(LogQuery(until=NOON + 2 * SECOND + 123))
    assert said(lines.feed(LOG), OUT) == b"one\nthree\n" and lines.over
    with pytest.raises(InvalidInput):
        Lines(LogQuery(since=10**30))


def test_what_is_no_line_is_left_out() -> None:
    torn = (
        b"2026-01-31T1" + line(0, "stdout", "torn") + b"\n\0\0\n" + line(1, "stdout", "whole") + line(1, "stdin", "x")
    )
    assert said(Lines(LogQuery()).feed(torn), OUT) == b"whole\n"


def test_the_last_lines_are_found_from_the_end() -> None:
    found = {wanted: beginning(LOG, wanted, last=True) for wanted in range(7)}
    starts = [LOG.index(content) - 45 for content in (b"two", b"thr", b"\n", b"four")]
    starts[2] = LOG.index(b"stdout F \n") - 36
    assert found[0] == (len(LOG), 0) and found[1] == (starts[3], 0) and found[2] == (starts[2], 0)
    assert found[3] == (starts[1], 0), "a line begins with its first part"
    assert found[4] == (starts[0], 0) and found[5] == (None, 0) and found[6] == (None, 1)


async def application(world: World, **config: str) -> Path:
    """An application that runs; the path of its log."""
    await world.create("web1", terminal=False, config=config)
    found = await world.parts.records.instances.change(
        WEB, lambda found: replace(found, start=replace(found.start, system=False))
    )
    await world.finish(world.parts.services.instances.start(WEB))
    return world.context.logs(found.value) / CONSOLE_LOG


async def read(world: World, **query: object) -> list[LogBlock]:
    found = world.parts.services.instances.logs.output(WEB, LogQuery(**query))  # type: ignore[arg-type]
    return [block async for block in found]


async def test_a_log_longer_than_a_block_is_read_whole_and_from_its_end(world: World) -> None:
    path = await application(world)
    lines = [line(0, "stdout", f"{number} {'x' * (number % 700)}") for number in range(3000)]
    for each in (lines[:1000], lines[1000:2000], lines[2000:]):
        world.host.log_files.append(path, b"".join(each))
        world.host.log_files.kept[path] = 9
        if each is not lines[2000:]:
            world.host.log_files.replace(path)
    whole = said(await read(world), OUT).splitlines()
    assert [int(each.split()[0]) for each in whole] == list(range(3000))
    for tail in (0, 1, 7, 999, 1000, 1001, 2500, 3000, 9999):
        assert said(await read(world, tail=tail), OUT).splitlines() == (whole[-tail:] if tail else []), tail


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_log_that_grows_faster_than_it_is_read_has_an_end(world: World, replaced: bool) -> None:
    path = await application(world)
    world.host.log_files.kept[path] = 9
    one = b"".join(line(0, "stdout", f"{number} {'x' * 500}") for number in range(1000))
    world.host.log_files.append(path, one)
    blocks = []
    async for block in world.parts.services.instances.logs.output(WEB, LogQuery(tail=5)):
        blocks.append(block)
        if replaced:
            world.host.log_files.replace(path)
        world.host.log_files.append(path, one)
        assert len(blocks) < 10, "it follows the writer"
    assert [int(each.split()[0]) for each in said(blocks, OUT).splitlines()] == list(range(995, 1000))


async def test_a_new_start_goes_on_with_the_log_of_an_application(world: World) -> None:
    path = await application(world)
    id = world.parts.services.instances.get(WEB).id
    world.runtime.show(id, b"first\n")
    await world.finish(world.parts.services.instances.restart(WEB, force=True))
    world.runtime.show(id, b"second\n", ERR)
    assert await read(world) == [LogBlock(OUT, b"first\n"), LogBlock(ERR, b"second\n")]
    assert world.host.log_files.kept[path] == 2


async def test_followers_read_until_the_run_ends(world: World) -> None:
    path = await application(world)
    id = world.parts.services.instances.get(WEB).id
    following = [asyncio.ensure_future(read(world, follow=True)) for _ in range(50)]
    for number in range(5):
        world.runtime.show(id, f"{number}\n".encode())
        if number == 2:
            world.host.log_files.replace(path)
        await settle(world)
    assert not any(each.done() for each in following)
    world.runtime.end(id, 0)
    world.runtime.show(id, b"last words\n")
    async with asyncio.timeout(60):
        for found in await asyncio.gather(*following):
            assert said(found, OUT) == b"0\n1\n2\n3\n4\nlast words\n"
    assert len(world.context.waits) == 0 and said(await read(world, follow=True), OUT).endswith(b"last words\n")


async def test_a_follower_that_leaves_leaves_nothing(world: World) -> None:
    await application(world)
    world.runtime.show(world.parts.services.instances.get(WEB).id, b"out\n")
    following = world.parts.services.instances.logs.output(WEB, LogQuery(follow=True))
    assert (await anext(following)).data == b"out\n"
    await following.aclose()
    await settle(world)
    assert len(world.context.waits) == 0


async def test_output_that_is_not_kept_cannot_be_read(world: World) -> None:
    await application(world, **{"isola.log.driver": "none"})
    assert not world.on_host("web1").spec.log.kept
    with pytest.raises(Unsupported):
        await read(world)


async def test_of_small_logs_only_the_end_is_shown(world: World) -> None:
    path = await application(world, **{"isola.log.max_size": "4KiB", "isola.log.max_files": "2"})
    assert world.on_host("web1").spec.log.size == 1 << 20
    for number in range(300):
        world.host.log_files.append(path, line(0, "stdout", f"{number:03} {'x' * 50}"))
        if number == 250:
            world.host.log_files.replace(path)
    found = said(await read(world), OUT).splitlines()
    assert [int(each.split()[0]) for each in found] == list(range(300 - len(found), 300)) and 75 < len(found) <= 81
    assert len(said(await read(world, tail=5), OUT).splitlines()) == 5
    assert said(await read(world, tail=299), OUT).splitlines() == found


async def test_sizes_are_those_of_the_configuration(world: World) -> None:
    await application(world, **{"isola.log.max_size": "10MiB", "isola.log.max_files": "5"})
    log = world.on_host("web1").spec.log
    assert (log.size, log.files, log.fresh) == (10 << 20, 5, False)
