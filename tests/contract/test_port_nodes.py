"""The contract of device nodes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host.files import Files, LinuxFiles
from isola.host.node_watching import NodeWatching
from isola.host.nodes import DeviceNumber, LinuxNodes, Nodes
from isola.testing.files import FakeFiles
from isola.testing.nodes import FakeNodes

NULL = DeviceNumber(True, 1, 3)


@pytest.fixture(params=["fake", "linux"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Nodes, Files, Path]]:
    """Each implementation in turn, with its files and a directory."""
    if request.param == "fake":
        files = FakeFiles()
        nodes = FakeNodes(files)
        nodes.devices[Path("/dev/null")] = NULL
        yield nodes, files, Path("/place")
    else:
        yield LinuxNodes(), LinuxFiles(), tmp_path


async def test_nodes_are_identified_by_number(host: tuple[Nodes, Files, Path]) -> None:
    nodes, files, place = host
    await files.make_directory(place)
    await files.write(place / "file", b"")
    assert await nodes.find(Path("/dev/null")) == NULL
    assert NULL.rule == "c 1:3"
    with pytest.raises(NotFound):
        await nodes.find(place / "nothing")
    with pytest.raises(InvalidInput, match="not a device"):
        await nodes.find(place / "file")


async def test_a_created_node_replaces_an_existing_file(host: tuple[Nodes, Files, Path]) -> None:
    nodes, files, place = host
    await files.make_directory(place)
    for _ in range(2):
        await nodes.make(place / "null", NULL, uid=400000, gid=400001, mode=0o620)
    assert await files.exists(place / "null")
    if isinstance(nodes, LinuxNodes):
        seen = os.stat(place / "null")
        assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o777) == (400000, 400001, 0o620)
        assert await nodes.find(place / "null") == NULL


async def test_what_comes_and_goes_is_told(host: tuple[Nodes, Files, Path]) -> None:
    nodes, _, place = host
    path = place / "serial" / "by-id" / "stick"
    told: list[str] = []
    end = nodes.follow(path, lambda: told.append("stick"))
    end_other = nodes.follow(path.parent / "other", lambda: told.append("other"))
    come, go = _changes(nodes, path)
    for change in (come, go):
        assert await _heard(nodes, place, told, change) == {"stick"}
    end()
    end()
    assert await _heard(nodes, place, told, come) == set()
    end_other()


async def test_directories_above_may_come_and_go(tmp_path: Path) -> None:
    nodes, path, told = LinuxNodes(), tmp_path / "serial" / "by-id" / "stick", list[str]()
    end = nodes.follow(path, lambda: told.append("stick"))
    moved = tmp_path / "moved"
    moved.touch()
    for change in (
        lambda: path.parent.mkdir(parents=True),
        lambda: moved.rename(path),
        path.unlink,
        lambda: path.symlink_to("/dev/null"),
        lambda: shutil.rmtree(tmp_path / "serial"),
        lambda: path.parent.mkdir(parents=True),
        path.touch,
        lambda: path.rename(moved),
    ):
        assert await _heard(nodes, tmp_path, told, change) == {"stick"}
    end()


class _Exhausted(NodeWatching):
    """The kernel has no watch for one directory any more."""

    spoiled: Path | None = None

    def _watch(self, directory: Path) -> int:
        if directory == self.spoiled:
            raise HostFailure("no watches are left")
        return super()._watch(directory)


async def test_those_that_cannot_be_followed_any_more_do_not_hold_up_others(tmp_path: Path) -> None:
    watching, told = _Exhausted(), list[str]()
    heard = asyncio.Event()
    for name in ("a", "b"):
        watching.follow(tmp_path / name / "node", lambda name=name: told.append(name))  # type: ignore[misc]
    watching.follow(tmp_path / "c", heard.set)
    watching.spoiled = tmp_path / "a"
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    await asyncio.wait_for(heard.wait(), 60)
    told.clear()
    heard.clear()
    for name in ("a", "b"):
        (tmp_path / name / "node").touch()
    (tmp_path / "c").rmdir()
    await asyncio.wait_for(heard.wait(), 60)
    assert told == ["b"]


def _changes(nodes: Nodes, path: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    if isinstance(nodes, FakeNodes):
        return lambda: nodes.plug(path, NULL), lambda: nodes.unplug(path)
    path.parent.mkdir(parents=True)
    return path.touch, path.unlink


async def _heard(nodes: Nodes, place: Path, told: list[str], change: Callable[[], object]) -> set[str]:
    """Who is told of a change: events come in their order, so all have come when that of a later one has."""
    if isinstance(nodes, FakeNodes):
        told.clear()
        change()
        return set(told)
    await _synced(nodes, place)
    told.clear()
    change()
    await _synced(nodes, place)
    return set(told)


async def _synced(nodes: Nodes, place: Path) -> None:
    mark, seen = place / "mark", asyncio.Event()
    end = nodes.follow(mark, seen.set)
    mark.unlink() if mark.exists() else mark.touch()
    await asyncio.wait_for(seen.wait(), 60)
    end()
