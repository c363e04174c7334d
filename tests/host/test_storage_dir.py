"""Tests on a real pool of directories: restores that are cut off, and a guest that forges times."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from network_host import act

from isola.errors import HostFailure
from isola.host.linux import linux_host
from isola.host.mirrors import Difference, LinuxMirrors, Trust, _as_json
from isola.host.process import LinuxProcesses
from isola.host.transplant import Change
from isola.model.storage import Pool, Volume
from isola.storage.drivers.dir import DirDriver

VOLUME = Volume("0123456789abcdef", "p")


def made_in(place: Path) -> DirDriver:
    return DirDriver(linux_host(), Pool("p"), place / "p")


@pytest.fixture
async def driver() -> AsyncIterator[DirDriver]:
    """With a volume that has a snapshot ``s1``, and was changed since."""
    with tempfile.TemporaryDirectory(prefix="isola-dir-") as place:
        made = made_in(Path(place))
        await act(made.host, made.create_pool)
        await act(made.host, lambda op: made.create_volume(op, VOLUME))
        for name in ("a", "b", "c"):
            (data(made) / name).write_text("then")
        (data(made) / "d").mkdir()
        await act(made.host, lambda op: made.create_snapshot(op, VOLUME, "s1"))
        for name in ("a", "b", "more"):
            (data(made) / name).write_text("now!")
        yield made
        await act(made.host, made.delete_pool)
        assert os.listdir(place) == []


def data(driver: DirDriver) -> Path:
    return driver.place / "volumes" / VOLUME.id / "data"


def said(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def seen(driver: DirDriver) -> dict[str, str]:
    return {path.name: path.read_text() for path in data(driver).iterdir() if path.is_file()}


async def test_trees_are_laid_out_apart_from_each_other(driver: DirDriver) -> None:
    if said("stat", "-f", "-c", "%T", driver.place).strip() == "ext2/ext3":
        flags = said("lsattr", "-d", *(driver.place / name for name in ("partial", "volumes", "custom", "layers")))
        assert all("T" in line.split()[0] for line in flags.splitlines())


async def test_a_restore_moves_what_has_changed_only(driver: DirDriver) -> None:
    kept = (data(driver) / "c").stat()
    await act(driver.host, lambda op: driver.restore_snapshot(op, VOLUME, "s1"))
    assert seen(driver) == {"a": "then", "b": "then", "c": "then"}
    assert (data(driver) / "c").stat().st_ino == kept.st_ino
    assert (driver.place / "volumes" / VOLUME.id / "snapshots" / "s1" / "c").stat().st_ino != kept.st_ino


async def test_forged_times_do_not_survive_a_restore(driver: DirDriver) -> None:
    path = data(driver) / "c"
    before = path.stat()
    path.write_text("evil")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await act(driver.host, lambda op: driver.restore_snapshot(op, VOLUME, "s1"))
    assert seen(driver) == {"a": "then", "b": "then", "c": "then"}


@pytest.mark.parametrize("again", ["the same daemon", "the next daemon"])
async def test_a_restore_that_was_cut_off_is_completed_before_the_volume_is_used(driver: DirDriver, again: str) -> None:
    host, tree, place = driver.host, data(driver), driver.place / "partial" / f"{VOLUME.id}.0123.restored"
    source = driver.place / "volumes" / VOLUME.id / "snapshots" / "s1"
    difference = await host.mirrors.compare(source, tree, Trust(content=False))
    assert difference is not None and set(difference.copied) == {b"a", b"b"}
    place.mkdir()
    await host.mirrors.stage(source, difference, place)
    (place / "old").mkdir()
    plan = {"target": str(tree), **_as_json(Change(difference.copied, difference.removed, difference.directories))}
    (place / "plan.json").write_text(json.dumps(plan))
    os.rename(tree / "more", place / "old" / "0")
    os.rename(tree / os.fsdecode(difference.copied[0]), place / "old" / "1")
    if again == "the next daemon":
        driver = made_in(driver.directory.parent)
        await driver.clean()
    else:
        driver._replacements._unfinished[tree] = place
        await driver.show(VOLUME, "one")
        await driver.hide(VOLUME, "one")
    assert seen(driver) == {"a": "then", "b": "then", "c": "then"}
    await driver.settled()
    assert os.listdir(driver.place / "partial") == []


async def test_what_fails_leaves_the_volume_as_it_was(driver: DirDriver) -> None:
    before = seen(driver)
    said("chattr", "+i", data(driver) / "b")
    try:
        with pytest.raises(HostFailure, match="refused"):
            await act(driver.host, lambda op: driver.restore_snapshot(op, VOLUME, "s1"))
    finally:
        said("chattr", "-i", data(driver) / "b")
    assert seen(driver) == before
    await driver.settled()
    assert os.listdir(driver.place / "partial") == []


class _Vanishing(LinuxMirrors):
    """Something is removed from the source right after it was compared."""

    async def compare(self, source: Path, target: Path, trust: Trust) -> Difference | None:
        found = await super().compare(source, target, trust)
        (source / "passing").unlink()
        return found


async def test_a_source_that_changes_after_it_was_compared_is_copied_as_a_whole(tmp_path: Path) -> None:
    host = replace(linux_host(), mirrors=_Vanishing(LinuxProcesses()))
    driver = DirDriver(host, Pool("p"), tmp_path / "p")
    await act(host, driver.create_pool)
    await act(host, lambda op: driver.create_volume(op, VOLUME))
    (data(driver) / "old").write_text("old")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("kept", "passing"):
        (source / name).write_text("new")
    await act(host, lambda op: driver.prepare_refresh(op, VOLUME, "r1", source))
    await driver.apply_restore(VOLUME, "r1")
    assert seen(driver) == {"kept": "new"}
    await act(host, driver.delete_pool)
