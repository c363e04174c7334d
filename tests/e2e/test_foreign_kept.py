"""Foreign files and subvolumes in the directory of a pool are never removed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli

PLACES = (".", "custom", "descriptions", "layers", "mounts", "volumes")
POOLS = {"btrfs": ("size=512MiB",), "dir": (), "overlay": ()}


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, isola: Cli) -> Iterator[Path]:
    """The directory of a pool of each driver, with a running and a stopped instance and a volume."""
    isola("storage", "create", "shared", request.param, *POOLS[request.param])
    isola("launch", "tiny", "fk-runs", "--storage", "shared")
    isola("create", "tiny", "fk-rests", "--storage", "shared")
    isola("storage", "volume", "create", "shared", "data")
    place = isola.daemon.directory / "pools" / "shared"
    yield place / "disk" if request.param == "btrfs" else place
    isola("delete", "--force", "fk-runs", "fk-rests")
    isola("storage", "volume", "delete", "shared", "data")
    isola("storage", "delete", "shared")


def put(pool: Path) -> dict[Path, str]:
    """Directories, files and subvolumes with arbitrary names, and with names in the daemon's format."""
    contents = {}
    for place in PLACES:
        for name in ("theirs", "0123456789abcdef", f"vol-{'0123456789abcdef' * 2}"):
            file = pool / place / name / "data" / "file"
            file.parent.mkdir(parents=True)
            contents[file] = f"{place} {name}"
        contents[pool / place / "their-file"] = f"{place} file"
        if pool.name == "disk":
            subvolume = pool / place / "their-subvolume"
            subprocess.run(["btrfs", "-q", "subvolume", "create", subvolume], check=True)
            contents[subvolume / "file"] = f"{place} subvolume"
    for file, text in contents.items():
        file.write_text(text)
    return contents


def take_away(pool: Path) -> None:
    for place in PLACES:
        for found in (pool / place).iterdir():
            if found.name.startswith(("their", "0123456789abcdef", "vol-0123456789abcdef")):
                subprocess.run(["rm", "-rf", found], check=True)


def test_foreign_files_survive_restarts_and_are_listed(isola: Cli, pool: Path) -> None:
    contents = put(pool)
    try:
        before = json.loads(isola("admin", "unknown", "-f", "json").stdout)
        assert {"theirs", "custom/theirs", "custom/their-file", "their-file"} <= {each["id"] for each in before}
        assert {str(pool / "theirs"), str(pool / "custom" / "theirs")} <= {str(each.get("path")) for each in before}
        assert isola("admin", "remove-unknown", "custom/theirs", check=False).returncode == 1
        isola.daemon.stop()
        isola.daemon.start()
        assert isola("exec", "fk-runs", "--", "echo", "lives").stdout == "lives\n"
        isola.daemon.kill()
        isola.daemon.start()
        unknown = {each["id"] for each in json.loads(isola("admin", "unknown", "-f", "json").stdout)}
        assert {"theirs", "their-file", "0123456789abcdef"} <= unknown
        isola.daemon.stop(instances=True)
        isola.daemon.start()
        isola("start", "fk-rests")
        isola("restart", "--force", "fk-runs")
        assert {file: file.read_text() for file in contents} == contents
    finally:
        take_away(pool)
    assert json.loads(isola("admin", "unknown", "-f", "json").stdout) == []
