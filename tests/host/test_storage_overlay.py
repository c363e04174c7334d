"""Tests on a real overlay: permissions, remains of a killed daemon, and scaling."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from network_host import act

from isola.errors import InvalidInput
from isola.host.linux import linux_host
from isola.host.mounts import OverlayMount
from isola.model.identity import IdRange
from isola.model.storage import Pool, Volume
from isola.operations import Operation
from isola.storage.drivers.overlay import OverlayDriver

IDS = IdRange(700000)
LAYER = f"sha256:{'d' * 64}"


@pytest.fixture
async def driver() -> AsyncIterator[OverlayDriver]:
    """A pool with one layer, whose root is setgid and not open to all."""
    host = linux_host()
    with tempfile.TemporaryDirectory(prefix="isola-overlay-") as place:
        os.chmod(place, 0o711)
        made = OverlayDriver(host, Pool("p"), Path(place) / "p")

        async def unpack(layer: str, target: Path) -> None:
            (target / "suid").write_text("#!/bin/sh\n")
            (target / "suid").chmod(0o4755)
            os.chmod(target, 0o750)

        async def work(op: Operation) -> None:
            await made.create_pool(op)
            await made.layers.ensure(op, [LAYER], unpack)

        await act(host, work)
        yield made
        await act(host, made.delete_pool)
        assert os.listdir(place) == []
        assert await host.mounts.below(Path(place)) == ()


async def mounted(driver: OverlayDriver, volume: Volume) -> Path:
    found: list[Path] = []

    async def work(op: Operation) -> None:
        await driver.create_volume(op, volume)
        found.append(await driver.mount(op, volume, volume.id))

    await act(driver.host, work)
    return found[0]


async def run_as(user: int, script: str) -> int:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, user=user, group=user, extra_groups=[], cwd="/", stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


async def test_other_users_reach_neither_layers_nor_volumes(driver: OverlayDriver) -> None:
    """Layers contain setuid programs with real ids: no user of the host may reach them."""
    volume = Volume("v1", "p", layers=(LAYER,), idmap=IDS)
    root = await mounted(driver, volume)
    layer = driver.directory / "layers" / LAYER[7:]
    place = driver.directory / "volumes" / "v1"
    assert (place.stat().st_uid, place.parent.stat().st_uid) == (0, 0)
    for path in (layer / "suid", root / "suid", place / "upper"):
        assert await run_as(65534, f"stat {path}") != 0
        assert await run_as(IDS.base + IDS.size, f"stat {path}") != 0
    assert await run_as(IDS.base, f"stat {root}/suid") == 0
    for path in (layer / "suid", place / "upper"):
        assert await run_as(IDS.base, f"stat {path}") != 0
    await act(driver.host, lambda op: driver.unmount(op, volume, "v1"))
    for path in (root, root.parent, place, place / "upper"):  # as a user who got the id since
        assert await run_as(IDS.base, f"stat {path}") != 0
    assert owners_below(driver.directory) == {0}


def owners_below(directory: Path) -> set[int]:
    """Owners of all directories from this one on, but for the instance's own files."""
    entered = [place for place in (directory, *directory.rglob("*")) if place.is_dir() and not place.is_symlink()]
    return {
        place.stat().st_uid for place in entered if not place.is_relative_to(directory / "volumes" / "v1" / "upper")
    }


async def test_a_root_that_an_earlier_version_has_mounted_goes_on(driver: OverlayDriver) -> None:
    """It mounted roots among the volumes, which root of an instance could enter."""
    volume = Volume("v1", "p", layers=(LAYER,), idmap=IDS)
    await act(driver.host, lambda op: driver.create_volume(op, volume))
    volumes = driver.directory / "volumes"
    place, layer = volumes / "v1", driver.directory / "layers" / LAYER[7:]
    volumes.chmod(0o711)
    (place / "root").mkdir()
    os.chown(place, IDS.base, IDS.base)
    place.chmod(0o100)
    await driver.host.mounts.overlay(OverlayMount((layer,), place / "upper", place / "work", place / "root", IDS))

    again = OverlayDriver(driver.host, Pool("p"), driver.directory)
    await again.open()
    await again.clean()
    assert await again.is_mounted(volume, "v1")
    assert await again.show(volume, "v1") == place / "root"
    assert await run_as(IDS.base, f"stat {place}/root/suid") == 0, "an engine may look for it, at a restart"
    await act(driver.host, lambda op: again.unmount(op, volume, "v1"))
    assert await driver.host.mounts.below(driver.directory) == ()
    assert await run_as(IDS.base, f"stat {place}/upper") != 0
    root = await again.show(volume, "v1")
    assert root.parent.parent == driver.directory / "mounts" and (root / "suid").exists()
    await again.hide(volume, "v1")


async def test_the_root_has_the_mode_of_the_images_root(driver: OverlayDriver) -> None:
    root = await mounted(driver, Volume("v1", "p", layers=(LAYER,), idmap=IDS))
    status = os.stat(root)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o750, IDS.base, IDS.base)


async def test_leftovers_of_a_killed_daemon_are_unmounted_and_removed(driver: OverlayDriver) -> None:
    root = await mounted(driver, Volume("v1", "p", layers=(LAYER,), idmap=IDS))
    volumes, layers = driver.directory / "volumes", driver.directory / "layers"
    older = volumes / "v1" / "work.lower" / "0"  # where earlier versions mounted layers
    older.mkdir(parents=True)
    for place in (older, volumes / "v1" / "work"):
        mount = await asyncio.create_subprocess_exec("mount", "--bind", layers, place)
        assert await mount.wait() == 0
    (layers / f".partial-{'e' * 64}" / "deep").mkdir(parents=True)
    (volumes / ".deleted-v9" / "upper").mkdir(parents=True)
    await driver.clean()
    assert await driver.host.mounts.below(driver.directory) == (root,)
    assert os.listdir(layers) == [LAYER[7:]]
    assert os.listdir(volumes) == ["v1"]
    await act(driver.host, lambda op: driver.unmount(op, Volume("v1", "p"), "v1"))
    async with driver.visit(Volume("v1", "p", layers=(LAYER,), idmap=IDS)) as again:
        assert (again / "suid").exists()
    assert sorted(os.listdir(volumes / "v1")) == ["upper", "work", "work.lower"]


async def test_removing_a_volume_touches_nothing_its_guest_linked_to(driver: OverlayDriver) -> None:
    root = await mounted(driver, Volume("v1", "p", layers=(LAYER,), idmap=IDS))
    outside = driver.directory.parent / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    await act(driver.host, lambda op: driver.delete_volume(op, Volume("v1", "p")))
    assert (outside / "kept").exists()
    assert await driver.volumes() == ()
    (outside / "kept").unlink()
    outside.rmdir()


async def test_a_file_system_that_does_not_support_overlay_is_refused(driver: OverlayDriver) -> None:
    """An overlay cannot be the upper directory of another overlay."""
    root = await mounted(driver, Volume("v1", "p", layers=(LAYER,), idmap=IDS))
    (root / "pool").mkdir()
    other = OverlayDriver(driver.host, Pool("q", config={"source": str(root / "pool")}), driver.directory.parent / "q")
    with pytest.raises(InvalidInput, match="cannot hold overlays"):
        await other.check_place()
    assert os.listdir(root / "pool") == []


async def test_a_volume_costs_the_same_beside_many(driver: OverlayDriver) -> None:
    async def cost(first: int) -> float:
        times = []
        for number in range(first, first + 10):
            begun = time.perf_counter()
            await mounted(driver, Volume(f"v{number}", "p", layers=(LAYER,), idmap=IDS))
            times.append(time.perf_counter() - begun)
        return sorted(times)[2]

    few = await cost(0)
    for number in range(1000, 1150):
        await mounted(driver, Volume(f"v{number}", "p", layers=(LAYER,), idmap=IDS))
    assert await cost(5000) < 4 * few + 0.01
