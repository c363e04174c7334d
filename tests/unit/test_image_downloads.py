"""Downloads of blobs: shared, resumed, verified, bounded, and cancelled with the last waiting operation."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from isola.errors import Forbidden, HostFailure, InvalidInput
from isola.images import downloads
from isola.images.descriptor import Descriptor
from isola.images.remote import body_offset, range_header
from isola.images.store import ContentStore, Intake
from isola.state import Intents
from isola.testing.clock import FakeClock
from isola.testing.host import FakeHost, fake_host
from isola.testing.remote import FakeBlobSource
from isola.testing.store import FakeStore

PLACE = Path("/store")
DATA = bytes(range(100))


def described(data: bytes = DATA) -> Descriptor:
    return Descriptor("layer", f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


BLOB = described()


class Bench:
    """A store whose daemon can be restarted."""

    def __init__(self) -> None:
        self.host: FakeHost = fake_host(clock=FakeClock(skips=True))
        self.state = FakeStore(self.host.clock)

    async def start(self) -> ContentStore:
        intents = Intents(self.state)
        await intents.load()
        self.store = ContentStore(self.host, PLACE, intents)
        await self.store.open()
        return self.store

    async def partials(self) -> tuple[str, ...]:
        return await self.host.files.names(PLACE / "partial")

    async def content(self, blob: Descriptor = BLOB) -> bytes:
        return await self.store.read(blob.digest)

    async def none(self) -> set[str]:
        return set()


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.start()
    return bench


async def fetching(intake: Intake, source: FakeBlobSource, told: list[int] | None = None) -> Descriptor:
    return await intake.fetch(BLOB, source, (told if told is not None else []).append)


async def turns(enough: Callable[[], bool]) -> None:
    """Let other tasks run until a condition holds."""
    for _ in range(1000):
        if enough():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to that")


async def reached(source: FakeBlobSource) -> None:
    await turns(lambda: bool(source.opened))


async def something_has_arrived(bench: Bench) -> None:
    await turns(lambda: any(flight.done for flight in bench.store.downloads._flights.values()))


async def test_a_blob_is_stored_and_its_partial_file_removed(bench: Bench) -> None:
    told: list[int] = []
    assert await fetching(bench.store.intake(), FakeBlobSource(DATA), told) == BLOB
    assert await bench.content() == DATA
    assert await bench.partials() == () and sum(told) == len(DATA)


async def test_existing_blobs_are_not_fetched(bench: Bench) -> None:
    await bench.store.intake().put_bytes(DATA, "layer")
    source, told = FakeBlobSource(DATA), list[int]()
    await fetching(bench.store.intake(), source, told)
    assert source.opened == [] and told == [len(DATA)]


async def test_an_empty_blob_needs_no_connection(bench: Bench) -> None:
    await bench.store.intake().fetch(described(b""), FakeBlobSource(b""))
    assert await bench.content(described(b"")) == b""


async def test_concurrent_requests_share_one_download_and_its_progress(bench: Bench) -> None:
    source = FakeBlobSource(DATA, gate=asyncio.Event())
    told: list[list[int]] = [[] for _ in range(20)]
    work = [asyncio.create_task(fetching(bench.store.intake(), source, each)) for each in told]
    await reached(source)
    assert source.gate is not None
    source.gate.set()
    await asyncio.gather(*work)
    assert source.opened == [0]
    assert [sum(each) for each in told] == [len(DATA)] * 20


async def test_later_requests_get_the_progress_so_far(bench: Bench) -> None:
    source, late = FakeBlobSource(DATA, block=50), list[int]()
    first = asyncio.create_task(fetching(bench.store.intake(), source))
    await something_has_arrived(bench)
    source.gate = asyncio.Event()
    second = asyncio.create_task(fetching(bench.store.intake(), FakeBlobSource(DATA), late))
    for _ in range(10):
        await asyncio.sleep(0)
    assert late and late[0] >= 50 and sum(late) <= len(DATA)
    source.gate.set()
    await asyncio.gather(first, second)


async def test_projects_share_no_download_and_no_part_of_one(bench: Bench) -> None:
    """A source that has the end of a blob alone does not get the beginning of that of another project."""

    def of(project: str) -> Intake:
        return bench.store.intake(lambda digest: False, project)

    source = FakeBlobSource(DATA, block=50, gate=asyncio.Event())
    first = asyncio.create_task(fetching(of("default"), source))
    await reached(source)
    with pytest.raises(HostFailure):
        await fetching(of("blue"), FakeBlobSource(DATA, breaks=[0] * 9))
    assert source.gate is not None
    source.gate.set()
    await first
    with pytest.raises(HostFailure):
        await fetching(of("blue"), FakeBlobSource(DATA, breaks=[60, *[0] * 9]))
    end = FakeBlobSource(DATA)
    await fetching(of("red"), end)
    assert end.opened == [0], "not where blue has come to"
    await bench.start()
    resumed = FakeBlobSource(DATA)
    await fetching(of("blue"), resumed)
    assert resumed.opened == [60] and await bench.partials() == ()


async def test_an_interrupted_download_is_resumed(bench: Bench) -> None:
    source, told = FakeBlobSource(DATA, breaks=[40, 20]), list[int]()
    await fetching(bench.store.intake(), source, told)
    assert source.opened == [0, 40, 60] and sum(told) == len(DATA)
    assert await bench.content() == DATA


async def test_a_source_without_ranges_sends_the_whole_blob_again(bench: Bench) -> None:
    source, told = FakeBlobSource(DATA, resumes=False, breaks=[40]), list[int]()
    await fetching(bench.store.intake(), source, told)
    assert source.opened == [0, 40] and sum(told) == len(DATA)
    assert await bench.content() == DATA


async def test_a_source_that_always_fails_is_given_up(bench: Bench) -> None:
    source = FakeBlobSource(DATA, breaks=[0] * 100)
    with pytest.raises(HostFailure, match="broke"):
        await fetching(bench.store.intake(), source)
    assert len(source.opened) == downloads._ATTEMPTS
    assert await bench.store.digests() == ()


async def test_the_next_daemon_resumes_the_download(bench: Bench) -> None:
    with pytest.raises(HostFailure):
        await fetching(bench.store.intake(), FakeBlobSource(DATA, breaks=[60, *[0] * 9]))
    await bench.start()
    source = FakeBlobSource(DATA)
    await fetching(bench.store.intake(), source)
    assert source.opened == [60]
    assert await bench.content() == DATA and await bench.partials() == ()


async def test_a_damaged_partial_file_is_discarded_once(bench: Bench) -> None:
    with pytest.raises(HostFailure):
        await fetching(bench.store.intake(), FakeBlobSource(bytes(60) + DATA[60:], breaks=[60, *[0] * 9]))
    source = FakeBlobSource(DATA)
    await fetching(bench.store.intake(), source)
    assert source.opened == [60, 0] and await bench.content() == DATA


@pytest.mark.parametrize("sent", [DATA[:-1] + b"x", DATA + b"more", b"x" * 100])
async def test_content_with_another_digest_is_refused(bench: Bench, sent: bytes) -> None:
    with pytest.raises(InvalidInput):
        await fetching(bench.store.intake(), FakeBlobSource(sent, block=60))
    assert await bench.store.digests() == ()


async def test_a_cancelled_request_does_not_affect_others(bench: Bench) -> None:
    source = FakeBlobSource(DATA, gate=asyncio.Event())
    first, second = (asyncio.create_task(fetching(bench.store.intake(), source)) for _ in range(2))
    await reached(source)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done() and source.gate is not None
    source.gate.set()
    await second
    assert await bench.content() == DATA


async def test_the_last_cancelled_request_ends_the_download_and_keeps_its_part(bench: Bench) -> None:
    source = FakeBlobSource(DATA, breaks=[40])
    work = [asyncio.create_task(fetching(bench.store.intake(), source)) for _ in range(3)]
    await something_has_arrived(bench)
    source.gate = asyncio.Event()
    for task in work:
        task.cancel()
    await asyncio.wait(work)
    assert bench.store.downloads._flights == {}
    again = FakeBlobSource(DATA)
    await fetching(bench.store.intake(), again)
    assert again.opened[0] > 0 and await bench.content() == DATA


async def test_a_new_request_waits_for_the_end_of_a_cancelled_download(bench: Bench) -> None:
    source = FakeBlobSource(DATA, gate=asyncio.Event())
    first = asyncio.create_task(fetching(bench.store.intake(), source))
    await reached(source)
    first.cancel()
    await asyncio.sleep(0)
    other = FakeBlobSource(DATA)
    await fetching(bench.store.intake(), other)
    assert first.cancelled() and other.opened == [0] and await bench.content() == DATA


async def test_a_request_without_permission_uses_anothers_source(bench: Bench) -> None:
    closed, open_ = FakeBlobSource(DATA, error=Forbidden("no")), FakeBlobSource(DATA)
    await asyncio.gather(*(fetching(bench.store.intake(), source) for source in (closed, open_)))
    assert open_.opened == [0]
    with pytest.raises(Forbidden):
        await bench.store.intake().fetch(described(b"x"), closed)


async def test_a_full_disk_is_reported_and_not_retried(bench: Bench) -> None:
    async def full(path: Path, data: bytes, *, at: int) -> None:
        raise HostFailure("No space left on device")

    bench.host.files.extend = full  # type: ignore[method-assign]
    source = FakeBlobSource(DATA)
    with pytest.raises(HostFailure, match="space"):
        await fetching(bench.store.intake(), source)
    assert source.opened == []


async def test_blobs_being_fetched_are_not_swept(bench: Bench) -> None:
    source, intake = FakeBlobSource(DATA, gate=asyncio.Event()), bench.store.intake()
    work = asyncio.create_task(fetching(intake, source))
    await reached(source)
    await bench.store.sweep(bench.none)
    assert source.gate is not None
    source.gate.set()
    await work
    await bench.store.sweep(bench.none)
    assert await bench.store.has(BLOB.digest)
    intake.close()
    await bench.store.sweep(bench.none)
    assert await bench.store.digests() == ()


async def test_partial_files_are_kept_for_a_day_within_limits(bench: Bench) -> None:
    async def broken(number: int) -> Descriptor:
        data = b"%020d" % number
        with pytest.raises(HostFailure):
            await bench.store.intake().fetch(described(data), FakeBlobSource(data, breaks=[8, *[0] * 9]))
        return described(data)

    begun = [await broken(number) for number in range(40)]
    await bench.start()
    kept = set(await bench.partials())
    assert kept == {each.digest[7:] for each in begun[-32:]}
    bench.host.clock._passed += 24 * 3600
    await bench.host.files.write(PLACE / "partial" / "foreign", b"x")
    await bench.start()
    assert await bench.partials() == ("foreign",), "only announced files are removed"


@pytest.mark.parametrize(
    ("status", "headers", "asked", "begins"),
    [
        (200, {}, 0, 0),
        (200, {}, 40, 0),
        (206, {"content-range": "bytes 40-99/100"}, 40, 40),
        (206, {"content-range": "bytes 0-99/*"}, 40, 0),
        (416, {"content-range": "bytes */100"}, 100, None),
    ],
)
def test_offset_of_a_responses_body(status: int, headers: dict[str, str], asked: int, begins: int | None) -> None:
    assert body_offset(status, headers, asked) == begins
    assert ("Range" in range_header(asked)) == bool(asked)


@pytest.mark.parametrize(
    ("status", "headers"),
    [(206, {}), (206, {"content-range": "bytes 50-99/100"}), (206, {"content-range": "items 40-99/100"}), (302, {})],
)
def test_a_response_with_a_gap_is_refused(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(HostFailure):
        body_offset(status, headers, 40)
