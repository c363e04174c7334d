"""The contract of log files: generations that their writer makes by replacing the file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from descriptors import descriptors

from isola.host.log_files import LinuxLogFiles, LogFiles
from isola.testing.log_files import FakeLogFiles


@dataclass
class Subject:
    """The port, and a writer."""

    files: LogFiles
    path: Path
    append: Callable[[bytes], None]
    replace: Callable[[], None]

    async def content(self) -> list[bytes]:
        found: Sequence[bytes] = []
        opened = await self.files.open(self.path)
        found = [await file.read(0, 1000) for file in opened]
        assert [await file.size() for file in opened] == [len(each) for each in found]
        for file in opened:
            file.close()
            file.close()
        return list(found)


@pytest.fixture(params=["fake", "linux"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    path = tmp_path / "console.log"
    if request.param == "fake":
        fake = FakeLogFiles()
        yield Subject(fake, path, lambda data: fake.append(path, data), lambda: fake.replace(path))
        return

    def append(data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def replace() -> None:
        (tmp_path / "console.log.tmp").touch()
        (tmp_path / "console.log.tmp").rename(path)

    yield Subject(LinuxLogFiles(), path, append, replace)


async def test_without_a_log_there_are_no_files(subject: Subject) -> None:
    assert await subject.content() == []
    await subject.files.keep(subject.path, 3)
    await subject.files.remove(subject.path)


async def test_generations_are_kept_until_there_are_too_many(subject: Subject) -> None:
    subject.append(b"0")
    await subject.files.keep(subject.path, 3)
    await subject.files.keep(subject.path, 3)
    assert await subject.content() == [b"0"]
    for number in range(1, 5):
        subject.replace()
        subject.append(b"%d" % number)
        await subject.files.keep(subject.path, 3)
        expected = [b"%d" % each for each in range(max(0, number - 2), number + 1)]
        assert await subject.content() == expected
    await subject.files.remove(subject.path)
    assert await subject.content() == [] and not list(subject.path.parent.iterdir())


async def test_without_generations_only_the_present_file_is_kept(subject: Subject) -> None:
    subject.append(b"0")
    await subject.files.keep(subject.path, 1)
    subject.replace()
    subject.append(b"1")
    await subject.files.keep(subject.path, 1)
    assert await subject.content() == [b"1"]


async def test_an_open_file_can_be_read_after_it_was_replaced(subject: Subject) -> None:
    subject.append(b"before")
    [opened] = await subject.files.open(subject.path)
    subject.replace()
    subject.append(b"after")
    assert await opened.read(2, 3) == b"for" and await opened.read(6, 9) == b""
    [other] = await subject.files.open(subject.path)
    assert other.identity != opened.identity and await other.read(0, 99) == b"after"
    for file in (opened, other):
        file.close()


async def test_a_log_is_replaced_where_it_is_full(subject: Subject) -> None:
    subject.append(b"12345")
    await subject.files.rotate(subject.path, 2, most=6)
    assert await subject.content() == [b"12345"]
    await subject.files.rotate(subject.path, 2, most=5)
    subject.append(b"6")
    await subject.files.keep(subject.path, 2)
    assert await subject.content() == [b"12345", b"6"]


async def test_watchers_are_told(subject: Subject) -> None:
    subject.append(b"0")
    told: dict[str, list[asyncio.Event]] = {"written": [], "replaced": []}
    ends = []
    for kind, events in told.items():
        for _ in range(20):
            event = asyncio.Event()
            events.append(event)
            ends.append(subject.files.watch(subject.path, event.set, writes=kind == "written"))
    subject.append(b"1")
    async with asyncio.timeout(60):
        await asyncio.gather(*(event.wait() for event in told["written"]))
    assert not any(event.is_set() for event in told["replaced"])
    subject.replace()
    async with asyncio.timeout(60):
        await asyncio.gather(*(event.wait() for event in told["replaced"]))
    for end in ends:
        end()
    for event in (*told["written"], *told["replaced"]):
        event.clear()
    subject.append(b"2")
    await asyncio.sleep(0.05)
    assert not any(event.is_set() for event in told["written"])


async def test_one_instance_of_inotify_serves_all_watches_and_stays(tmp_path: Path) -> None:
    files = LinuxLogFiles()
    (tmp_path / "log").touch()

    def held() -> list[str]:
        return [number for number, target in descriptors() if "inotify" in target]

    before = held()
    ends = [files.watch(tmp_path / "log", lambda: None, writes=True) for _ in range(3)]
    for end in ends:
        end()
    [own] = set(held()) - set(before)
    files.watch(tmp_path / "log", lambda: None, writes=False)()
    assert set(held()) - set(before) == {own}
