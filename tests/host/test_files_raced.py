"""Races: a program inside replaces files that the daemon has just created by mounts of foreign files."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import swapper

from isola.errors import InvalidInput
from isola.host.files import LinuxFiles
from isola.host.proc import ProcessRef, identify
from isola.model.identity import IdRange

_TRIES = 400
_RANGE = IdRange(1_900_019_712)


@pytest.fixture
def precious(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file or directory of the host's root; like sysfs, which every instance can mount anywhere inside."""
    path = tmp_path / "precious"
    path.mkdir(mode=0o700) if request.param == "directory" else path.touch(mode=0o600)
    return path


def owner(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    return status.st_uid, status.st_gid, oct(status.st_mode)


@contextlib.contextmanager
def exchanging(precious: Path, names: list[str]) -> Iterator[tuple[str, ProcessRef]]:
    with (
        tempfile.TemporaryDirectory(prefix="isola-raced-") as place,
        subprocess.Popen(
            [sys.executable, swapper.__file__, place, str(precious), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as inside,
    ):
        assert inside.stdin is not None and inside.stdout is not None
        assert inside.stdout.readline() == "ready\n"
        found = identify(inside.pid)
        assert found is not None
        yield place, found
        assert inside.stdout.readline() == "over\n"
        inside.stdin.close()


@pytest.mark.parametrize(("precious", "kind"), [("directory", "directory"), ("file", "symlink")], indirect=["precious"])
async def test_a_mount_over_a_new_file_keeps_its_owner(precious: Path, kind: str) -> None:
    names, before = [f"n{number}" for number in range(_TRIES)], owner(precious)
    with exchanging(precious, names) as (place, process):
        async with LinuxFiles().root(process=process, idmap=_RANGE) as root:
            for path in (f"{place}/{name}" for name in names):
                with contextlib.suppress(InvalidInput):
                    if kind == "directory":
                        await root.make_directory(path, uid=7, gid=7, mode=0o777)
                    else:
                        await root.make_symlink(path, "anywhere", uid=7, gid=7)
    assert owner(precious) == before


async def test_new_files_have_the_requested_owner(tmp_path: Path) -> None:
    async with LinuxFiles().root(tmp_path, idmap=_RANGE) as root:
        await root.make_directory("/d", uid=7, gid=8, mode=0o2750)
        await root.make_symlink("/d/l", "/nowhere", uid=9, gid=10)
    assert owner(tmp_path / "d") == (_RANGE.base + 7, _RANGE.base + 8, "0o42750")
    assert owner(tmp_path / "d/l")[:2] == (_RANGE.base + 9, _RANGE.base + 10)
    assert os.readlink(tmp_path / "d/l") == "/nowhere"
