"""The contract of changing a tree into a copy of another one."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tempfile
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isola.errors import HostFailure
from isola.host import Host
from isola.host.comparing import Bounds, TooDifferent, compare, survey
from isola.host.linux import linux_host
from isola.host.mirrors import Difference, Trust
from isola.testing.host import fake_host

STRICT, QUICK = Trust(content=False), Trust()


@dataclass
class Bed:
    host: Host
    place: Path

    async def fill(self, tree: str, **files: str) -> Path:
        """Files by path, with ``__`` for a slash."""
        for name, text in files.items():
            path = self.place / tree / name.replace("__", "/")
            await self.host.files.make_directory(path.parent, mode=0o755)
            await self.host.files.write(path, text.encode(), mode=0o644, durable=False)
        return self.place / tree

    async def become(self, source: Path, target: Path, trust: Trust = STRICT) -> Difference:
        """Make the target a copy of the source, and show what was changed."""
        found = await self.host.mirrors.compare(source, target, trust)
        assert found is not None
        place = self.place / "change"
        await self.host.files.make_directory(place)
        await self.host.mirrors.stage(source, found, place)
        await self.host.mirrors.apply(target, found, place)
        assert await self.host.mirrors.unfinished(place) is None
        await self.host.files.remove_tree(place)
        assert not await self.host.mirrors.compare(source, target, trust)
        return found


@pytest.fixture(params=["fake", "linux"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="isola-mirrors-") as directory:
        yield Bed(fake_host() if request.param == "fake" else linux_host(), Path(directory))


@pytest.fixture
def real() -> Callable[[Path], Bed]:
    return lambda place: Bed(linux_host(), place)


async def test_only_what_differs_is_changed(bed: Bed) -> None:
    source = await bed.fill("one", same="x", other="new", d__deep__added="y", d__same="z", new__a="1", new__b="2")
    await bed.host.files.copy_tree(source, bed.place / "two")
    target = bed.place / "two"
    for gone in ("other", "d/deep", "new"):
        await bed.host.files.remove_tree(target / gone)
    await bed.fill("two", other="old", d__surplus="s", gone__a="1")
    found = await bed.become(source, target)
    assert sorted(found.copied) == [b"d/deep", b"new", b"other"]
    assert sorted(found.removed) == [b"d/surplus", b"gone"]
    assert {path for path, _, _ in found.directories} == {b"", b"d"}
    assert await bed.host.files.read(target / "other") == b"new"
    assert await bed.host.files.names(target / "new") == ("a", "b")
    assert await bed.host.files.names(target) == ("d", "new", "other", "same")


async def test_a_copy_is_written_over_a_tree_that_shares_nothing(bed: Bed) -> None:
    source = await bed.fill("one", a="1", d__b="2")
    target = await bed.fill("two", a="old", c__x="3")
    found = await bed.host.mirrors.compare(source, target, STRICT)
    assert found is not None
    await bed.host.mirrors.overwrite(source, target, found)
    assert not await bed.host.mirrors.compare(source, target, STRICT)
    assert await bed.host.files.read(target / "d" / "b") == b"2"


async def test_trees_that_are_alike_need_nothing(bed: Bed) -> None:
    source = await bed.fill("one", a="1", d__b="2")
    await bed.host.files.copy_tree(source, bed.place / "two")
    for trust in (STRICT, QUICK):
        assert not await bed.host.mirrors.compare(source, bed.place / "two", trust)


# --- on Linux --------------------------------------------------------------------------------------------------


def shell(command: str) -> None:
    assert os.system(command) == 0


def pair(place: Path) -> tuple[Path, Path]:
    """Two trees with files of all kinds, the second a copy of the first."""
    one = place / "one"
    (one / "d").mkdir(parents=True)
    (one / "file").write_text("content")
    (one / "d" / "file").write_text("content")
    (one / "link").symlink_to("/etc/passwd")
    os.mkfifo(one / "fifo")
    os.mknod(one / "null", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.link(one / "file", one / "d" / "same")
    with open(one / "sparse", "wb") as file:
        file.truncate(10 << 20)
        file.seek(5 << 20)
        file.write(b"x")
    (one / "weird \udcff\n--name").write_text("x")
    os.setxattr(one / "d", "trusted.test", b"1")
    shell(f"cp -a {one} {place / 'two'}")
    return one, place / "two"


def the_same(path: Path, text: str, times: Path) -> None:
    """Write as many bytes, and set back the times that can be set."""
    status = times.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_files_of_all_kinds(real: Callable[[Path], Bed], tmp_path: Path) -> None:
    bed = real(tmp_path)
    one, two = pair(tmp_path)
    assert not await bed.host.mirrors.compare(one, two, STRICT)
    for name in ("link", "fifo", "null", "sparse", "weird \udcff\n--name"):
        (two / name).unlink()
    (two / "link").mkdir()
    os.removexattr(two / "d", "trusted.test")
    os.setxattr(two / "d", "trusted.other", b"2")
    os.chmod(two / "d", 0o700)
    await bed.become(one, two)
    assert os.readlink(two / "link") == "/etc/passwd"
    assert (two / "sparse").stat().st_blocks < 100
    assert os.getxattr(two / "d", "trusted.test") == b"1" and os.listxattr(two / "d") == ["trusted.test"]
    assert (two / "d").stat().st_mtime_ns == (one / "d").stat().st_mtime_ns


async def test_a_file_with_several_names_is_copied_with_all_of_them(
    real: Callable[[Path], Bed], tmp_path: Path
) -> None:
    bed = real(tmp_path)
    one, two = pair(tmp_path)
    (two / "d" / "same").unlink()
    assert await bed.host.mirrors.compare(one, two, STRICT) is None
    (two / "d" / "same").write_text("content")
    os.utime(two / "d" / "same", ns=(0, (one / "file").stat().st_mtime_ns))
    assert await bed.host.mirrors.compare(one, two, STRICT) is None
    (one / "all").mkdir()
    (one / "all" / "x").write_text("x")
    os.link(one / "all" / "x", one / "all" / "y")
    (two / "d" / "same").unlink()
    os.link(two / "file", two / "d" / "same")
    await bed.become(one, two)
    assert (two / "all" / "x").samefile(two / "all" / "y")


async def test_forged_times_hide_nothing_from_a_strict_comparison(real: Callable[[Path], Bed], tmp_path: Path) -> None:
    bed = real(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    for name in ("a", "b"):
        (two / name).mkdir(parents=True)
        (two / name / "file").write_text(name)
        (two / name / "kept").write_text("kept")
        for path in (two / name).iterdir():
            os.utime(path, ns=(0, 0))
    await asyncio.sleep(0.1)
    survey = await bed.host.mirrors.survey(two, datetime.now(UTC))
    assert set(survey) == {b"", b"a", b"b"}
    shell(f"cp -a {two} {one}")
    assert not await bed.host.mirrors.compare(one, two, Trust(content=False, survey=survey))
    the_same(two / "a" / "file", "!", one / "a" / "file")
    assert not await bed.host.mirrors.compare(one, two, QUICK)
    for trust in (STRICT, Trust(content=False, survey=survey)):
        found = await bed.host.mirrors.compare(one, two, trust)
        assert found is not None and found.copied == (b"a/file",)
    the_same(two / "a" / "file", "a", one / "a" / "file")
    # Directories that were exchanged: no file in them has changed.
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        os.rename(two / old, two / new)
    found = await bed.host.mirrors.compare(one, two, Trust(content=False, survey=survey))
    assert found is not None and sorted(found.copied) == [b"a/file", b"b/file"]


async def test_a_survey_omits_what_may_still_change_unseen(real: Callable[[Path], Bed], tmp_path: Path) -> None:
    (tmp_path / "one" / "d").mkdir(parents=True)
    (tmp_path / "one" / "d" / "file").write_text("x")
    found = await real(tmp_path).host.mirrors.survey(tmp_path / "one", datetime.now(UTC) - timedelta(minutes=1))
    assert set(found) == {b""}


async def test_what_fails_is_taken_back(real: Callable[[Path], Bed], tmp_path: Path) -> None:
    bed = real(tmp_path)
    one, two = pair(tmp_path)
    (one / "sparse").write_text("new")
    (one / "z").write_text("new")
    (two / "gone").write_text("old")
    before = await bed.host.mirrors.compare(one, two, STRICT)
    assert before is not None
    place = tmp_path / "change"
    place.mkdir()
    await bed.host.mirrors.stage(one, before, place)
    (place / "new" / "z").unlink()
    (place / "new" / "z").mkdir()
    (two / "z").mkdir()
    (two / "z" / "full").touch()
    (place / "old").mkdir()  # in the way
    with pytest.raises(HostFailure):
        await bed.host.mirrors.apply(two, before, place)
    (two / "z" / "full").unlink()
    (two / "z").rmdir()
    assert await bed.host.mirrors.unfinished(place) is None
    assert (two / "gone").read_text() == "old" and (two / "sparse").stat().st_size == 10 << 20


@pytest.mark.parametrize("kept", range(12))
async def test_a_change_that_was_cut_off_is_completed(real: Callable[[Path], Bed], tmp_path: Path, kept: int) -> None:
    """After any of its renames, in whatever order they reached the disk."""
    bed = real(tmp_path)
    one, two = pair(tmp_path)
    (one / "sparse").write_text("new")
    (one / "new").mkdir()
    (one / "new" / "file").write_text("new")
    for name in ("gone", "fifo"):
        (two / name).unlink(missing_ok=True)
        (two / name).mkdir()
    found = await bed.host.mirrors.compare(one, two, STRICT)
    assert found is not None
    place = tmp_path / "change"
    place.mkdir()
    await bed.host.mirrors.stage(one, found, place)
    shell(f"cp -a {two} {tmp_path / 'was'} && cp -a {place} {tmp_path / 'staged'}")
    await bed.host.mirrors.apply(two, found, place)
    # As it was, with some of the moves made.
    taken = (*found.removed, *found.copied)
    assert len(taken) <= 6
    shell(f"rm -rf {two} {place}; mv {tmp_path / 'was'} {two}; mv {tmp_path / 'staged'} {place}")
    (place / "old").mkdir()
    for number, path in list(enumerate(taken))[: kept // 2 + 1]:
        name = os.fsdecode(path)
        if (two / name).exists() or (two / name).is_symlink():
            os.rename(two / name, place / "old" / str(number))
        if kept % 2 and path in found.copied:
            os.rename(place / "new" / name, two / name)
    from isola.host.mirrors import _as_json
    from isola.host.transplant import Change

    plan = {"target": str(two), **_as_json(Change(found.copied, found.removed, found.directories))}
    (place / "plan.json").write_text(json.dumps(plan))
    assert await bed.host.mirrors.unfinished(place) == two
    await bed.host.mirrors.complete(two, place)
    assert await bed.host.mirrors.unfinished(place) is None
    assert not await bed.host.mirrors.compare(one, two, STRICT)


async def test_links_in_the_place_of_directories_lead_nowhere(real: Callable[[Path], Bed], tmp_path: Path) -> None:
    bed = real(tmp_path)
    one, two = pair(tmp_path)
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("secret")
    (one / "d" / "more").write_text("x")
    found = await bed.host.mirrors.compare(one, two, STRICT)
    assert found is not None and found.copied == (b"d/more",)
    shell(f"rm -rf {one / 'd'} && ln -s {tmp_path / 'host'} {one / 'd'}")
    (tmp_path / "host" / "more").write_text("secret")
    place = tmp_path / "change"
    place.mkdir()
    with pytest.raises(HostFailure):
        await bed.host.mirrors.stage(one, found, place)
    assert "secret" not in "".join(path.read_text() for path in (place / "new").rglob("more") if path.is_file())


async def test_a_cancelled_comparison_ends(real: Callable[[Path], Bed], tmp_path: Path) -> None:
    bed = real(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(3000):
            (tmp_path / name / f"d{number}").mkdir()
    asked = asyncio.ensure_future(bed.host.mirrors.compare(tmp_path / "one", tmp_path / "two", STRICT))
    await asyncio.sleep(0.005)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_attributes_that_the_file_system_of_the_target_lacks_are_left_out(
    real: Callable[[Path], Bed], tmp_path: Path
) -> None:
    """A program can set them on btrfs, and the refresh of a copy in another pool must not fail for that."""
    bed = real(tmp_path)
    await bed.fill("one", d__new="1")
    await bed.fill("two", d__old="1")
    found = await bed.host.mirrors.compare(tmp_path / "one", tmp_path / "two", STRICT)
    assert found is not None
    ((path, wanted, was),) = [each for each in found.directories if each[0] == b"d"]
    foreign = replace(wanted, attributes=(("trusted.own", b"1"), ("unknown.compression", b"zstd")))
    place = tmp_path / "change"
    place.mkdir()
    await bed.host.mirrors.stage(tmp_path / "one", found, place)
    await bed.host.mirrors.apply(tmp_path / "two", replace(found, directories=((path, foreign, was),)), place)
    assert await bed.host.files.names(tmp_path / "two" / "d") == ("new",)
    assert os.getxattr(tmp_path / "two" / "d", "trusted.own") == b"1"


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that Python has allocated at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_the_memory_for_a_hostile_tree_is_bounded(tmp_path: Path, shape: str) -> None:
    """A directory with too many entries, or many levels of almost as many."""
    bounds = Bounds(1000, 1_000_000, 1_000_000)
    place, other = tmp_path / "one", tmp_path / "two"
    levels, files = (1, 20_000) if shape == "wide" else (20, 900)
    for tree in (place, other):
        top = tree
        top.mkdir()
        for _ in range(levels):
            for number in range(files):
                (top / f"{number:04d}").touch()
            top = top / "below"
            top.mkdir()
    late = int(time.time_ns()) * 2
    assert peak_of(lambda: survey(place, late, bounds)) < 4_000_000
    reading = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:

        def compared() -> None:
            with suppress(TooDifferent):
                compare(reading, other, STRICT, threading.Event(), bounds)

        assert peak_of(compared) < 6_000_000
    finally:
        os.close(reading)


def test_what_is_remembered_of_many_directories_is_bounded(tmp_path: Path) -> None:
    bounds = Bounds(comparison=100_000, survey=100_000)
    for number in range(1000):
        (tmp_path / "one" / f"{number:0200d}").mkdir(parents=True)
        (tmp_path / "two" / f"{number:0200d}").mkdir(parents=True)
    assert survey(tmp_path / "one", time.time_ns() * 2, bounds) == {}
    reading = os.open(tmp_path / "one", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(TooDifferent):
            compare(reading, tmp_path / "two", STRICT, threading.Event(), bounds)
    finally:
        os.close(reading)
