"""The contract of device nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from isola.errors import InvalidInput, NotFound
from isola.host.files import Files, LinuxFiles
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
