"""The contract of file systems for the daemon's own files."""

import asyncio
import io
from pathlib import Path

import pytest

from isola.errors import AlreadyExists, HostFailure, NotFound
from isola.host.building import NewDirectory, NewFile
from isola.host.files import Files, LinuxFiles
from isola.testing.files import FakeFiles


async def test_a_file_is_extended_at_an_offset(files: Files, place: Path) -> None:
    file = place / "partial"
    await files.extend(file, b"begin", at=0)
    await files.extend(file, b"ning", at=5)
    assert await files.read(file) == b"beginning"
    await files.extend(file, b"un", at=3)
    assert await files.read(file) == b"begun", "it is truncated after the block"
    await files.extend(file, b"", at=0)
    assert await files.size(file) == 0
    with pytest.raises(NotFound):
        await files.extend(place / "nothing" / "partial", b"x", at=0)


# --- the daemon's own files ------------------------------------------------------------------------------------


async def test_what_is_written_is_read(files: Files, place: Path) -> None:
    await files.write(place / "a", b"one")
    await files.write(place / "a", b"two")
    assert await files.read(place / "a") == b"two"
    assert await files.names(place) == ("a",)


async def test_several_files_are_written_in_order_up_to_a_failure(files: Files, place: Path) -> None:
    await files.write(place / "b", b"old")
    with pytest.raises(NotFound):
        await files.write_all({place / "a": b"1", place / "b": b"2", place / "nothing" / "c": b"3", place / "d": b"4"})
    assert await files.names(place) == ("a", "b")
    assert (await files.read(place / "a"), await files.read(place / "b")) == (b"1", b"2")


async def test_directories_are_created_before_files_and_old_files_removed(
    files: Files, place: Path, umask: None
) -> None:
    await files.make_directory(place / "logs")
    await files.write(place / "logs" / "old", b"old")
    for _ in range(2):
        await files.write_all(
            {place / "run" / "a": b"1"},
            directories={place / "run": 0o711, place / "logs": 0o700, place / "new": 0o700},
            without=[place / "logs" / "old", place / "logs" / "none"],
        )
    assert await files.names(place) == ("logs", "new", "run") and await files.names(place / "logs") == ()
    async with files.root(place) as seen:
        assert [(await seen.stat(path)).mode for path in ("run", "new", "run/a")] == [0o711, 0o700, 0o600]


async def test_files_are_updated_and_changes_reported(files: Files, place: Path, umask: None) -> None:
    assert not await files.refresh({place / "a": b"1", place / "b": b"2", place / "none": None}, mode=0o644)
    assert not await files.refresh({place / "a": b"1", place / "b": b"2"}, mode=0o644)
    assert await files.refresh({place / "a": b"1", place / "b": b"3"}, mode=0o644)
    assert await files.read(place / "b") == b"3" and await files.names(place) == ("a", "b")
    async with files.root(place) as seen:
        assert [(await seen.stat(path)).mode for path in ("a", "b")] == [0o644, 0o644]
    assert await files.refresh({place / "a": None, place / "c": None}) and await files.names(place) == ("b",)
    assert not await files.refresh({place / "a": None})
    with pytest.raises(NotFound):
        await files.refresh({place / "nothing" / "a": b"1"})


async def test_a_version_changes_with_every_write(files: Files, place: Path) -> None:
    assert files.version(place / "a") is None
    seen: set[object] = set()
    for content in (b"one", b"two", b"three"):
        await files.extend(place / "a", content, at=0)
        version = files.version(place / "a")
        assert version is None or version not in seen, "uncertain directly after a write"
        await asyncio.sleep(0.2)
        version = files.version(place / "a")
        assert version is not None and version not in seen and files.version(place / "a") == version
        seen.add(version)


async def test_reading_a_missing_file_is_not_found(files: Files, place: Path) -> None:
    with pytest.raises(NotFound):
        await files.read(place / "nothing")


async def test_writing_in_a_missing_directory_is_not_found(files: Files, place: Path) -> None:
    with pytest.raises(NotFound):
        await files.write(place / "nothing" / "a", b"")
    assert await files.names(place) == ()


async def test_directories_are_made_with_parents_and_twice(files: Files, place: Path, umask: None) -> None:
    await files.make_directory(place / "a" / "b", mode=0o711)
    await files.make_directory(place / "a" / "b", mode=0o711)
    async with files.root(place) as seen:
        assert [(await seen.stat(path)).mode for path in ("a", "a/b")] == [0o711, 0o711]


async def test_several_directories_are_made_at_once(files: Files, place: Path) -> None:
    await files.make_directory(place / "a", place / "b" / "c", mode=0o700)
    assert await files.names(place) == ("a", "b")
    async with files.root(place) as seen:
        assert [(await seen.stat(path)).mode for path in ("a", "b/c")] == [0o700, 0o700]


async def test_a_directory_may_be_given_an_owner(files: Files, place: Path) -> None:
    await files.make_directory(place / "a")
    await files.make_directory(place / "a", mode=0o100, owner=1234)
    async with files.root(place) as seen:
        entry = await seen.stat("a")
    assert (entry.uid, entry.gid, entry.mode) == (1234, 1234, 0o100)


async def test_directories_and_files_are_built_at_once(files: Files, place: Path, umask: None) -> None:
    await files.make_directory(place / "like")
    await files.make_directory(place / "like", mode=0o750, owner=0)
    news = (NewDirectory(place / "a", 0o100, 1234), NewDirectory(place / "a" / "b", place / "like"))
    for _ in range(2):
        await files.build(*news, NewFile(place / "a" / "c", b"text"), needs=[place / "like"], flush=[place])
    async with files.root(place) as seen:
        found = [await seen.stat(path) for path in ("a", "a/b", "a/c")]
    assert [(each.uid, each.gid, each.mode) for each in found] == [(1234, 1234, 0o100), (0, 0, 0o750), (0, 0, 0o600)]
    assert await files.read(place / "a" / "c") == b"text"


async def test_nothing_is_built_without_what_is_needed(files: Files, place: Path) -> None:
    with pytest.raises(NotFound):
        await files.build(NewDirectory(place / "a", 0o700), needs=[place / "nothing"])
    with pytest.raises(NotFound):
        await files.build(NewDirectory(place / "nothing" / "a", 0o700))
    assert await files.names(place) == ()


async def test_a_directory_cannot_be_made_over_a_file(files: Files, place: Path) -> None:
    await files.write(place / "a", b"")
    with pytest.raises(HostFailure):
        await files.make_directory(place / "a")


async def test_existence(files: Files, place: Path) -> None:
    assert not await files.exists(place / "a")
    assert not await files.exists(place / "a" / "b")
    await files.write(place / "a", b"")
    assert await files.exists(place / "a")


async def test_names_are_sorted_and_empty_for_nothing(files: Files, place: Path) -> None:
    for name in "cab":
        await files.write(place / name, b"")
    assert await files.names(place) == ("a", "b", "c")
    assert await files.names(place / "nothing") == ()


async def test_rename_moves_a_tree_and_needs_a_source(files: Files, place: Path) -> None:
    await files.make_directory(place / "a" / "b")
    await files.rename(place / "a", place / "c")
    assert await files.exists(place / "c" / "b")
    assert not await files.exists(place / "a")
    with pytest.raises(NotFound):
        await files.rename(place / "a", place / "d")


async def test_a_tree_is_removed_and_a_missing_one_ignored(files: Files, place: Path) -> None:
    await files.make_directory(place / "a" / "b" / "c")
    await files.write(place / "a" / "b" / "file", b"x")
    await files.remove_tree(place / "a")
    await files.remove_tree(place / "a")
    await files.remove_tree(place / "no" / "such" / "place")
    assert await files.names(place) == ()


async def test_a_file_is_removed_too(files: Files, place: Path) -> None:
    await files.write(place / "a", b"x")
    await files.remove_tree(place / "a")
    assert not await files.exists(place / "a")


async def test_a_removal_that_cannot_begin_is_a_failure(tmp_path: Path) -> None:
    """As where no descriptor is left; removals in the background repeat those that fail in this way."""
    with pytest.raises(HostFailure):
        await LinuxFiles().remove_tree(tmp_path / ("x" * 300) / "below")


async def test_a_removal_may_be_synced(files: Files, place: Path) -> None:
    await files.write(place / "a", b"x")
    await files.make_directory(place / "b" / "c")
    for name in ("a", "b", "nothing"):
        await files.remove_tree(place / name, flush=(place, place / "nothing"))
    assert await files.names(place) == ()
    if isinstance(files, FakeFiles):
        assert files.flushed == [place] * 3


async def test_a_stream_is_copied_to_a_new_file_only(files: Files, place: Path) -> None:
    data = bytes(range(256)) * 10000
    assert await files.copy(io.BytesIO(data), place / "a") == len(data)
    assert await files.read(place / "a") == data
    with pytest.raises(AlreadyExists):
        await files.copy(io.BytesIO(b"other"), place / "a")
    assert await files.read(place / "a") == data


async def test_disk_usage_grows_with_the_content(files: Files, place: Path) -> None:
    assert await files.disk_usage(place / "nothing") == 0
    await files.make_directory(place / "a")
    before = await files.disk_usage(place)
    await files.write(place / "a" / "file", bytes(1 << 20))
    assert await files.disk_usage(place) - before >= 1 << 20


async def test_space_and_sync(files: Files, place: Path) -> None:
    space = await files.space(place)
    assert 0 < space.used < space.total
    await files.sync(place)
    with pytest.raises(NotFound):
        await files.sync(place / "nothing")


async def test_all_files_of_a_directory_are_read_at_once(files: Files, place: Path) -> None:
    assert await files.read_all(place / "nothing") == {}
    await files.make_directory(place / "a" / "below")
    await files.write(place / "a" / "one", b"1")
    await files.write(place / "a" / "two", b"2")
    assert await files.read_all(place / "a") == {"one": b"1", "two": b"2"}


async def test_flushing_accepts_files_directories_and_missing_paths(files: Files, place: Path) -> None:
    await files.make_directory(place / "a")
    await files.write(place / "a" / "file", b"x", durable=False)
    await files.flush(place / "a" / "file", place / "a", place / "nothing", place)
    assert await files.read(place / "a" / "file") == b"x"
