"""Project quotas of ext4 and XFS limit the volumes of a pool, where the kernel has them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disk import disk
from network_host import act

from isola import registry
from isola.errors import InvalidInput, Unsupported
from isola.host.linux import linux_host
from isola.model.identity import IdRange
from isola.model.storage import Pool, Volume
from isola.operations import Operation
from isola.storage import Feature, VolumeDriver

MIB = 1 << 20
IDS = IdRange(600000)
SIZES = {"ext4": 96 * MIB, "xfs": 400 * MIB}
OPTIONS = {"ext4": ("-O", "project,quota"), "xfs": ()}


@contextmanager
def with_quotas(kind: str) -> Iterator[Path | None]:
    """A file system that enforces limits; None if the kernel cannot, as one without QFMT_V2 or XFS_QUOTA."""
    made = disk(kind, size=SIZES[kind], options=OPTIONS[kind], mount_options="prjquota")
    try:
        found = made.__enter__()
    except AssertionError as error:
        assert "wrong fs type, bad option" in str(error)
        yield None
        return
    try:
        yield found.mount
    finally:
        made.__exit__(None, None, None)


def driver_in(place: Path, name: str, **config: str) -> VolumeDriver:
    kind: type[VolumeDriver] = registry.load("storage", name)
    directory = place / "pools"
    directory.mkdir(mode=0o711, exist_ok=True)
    return kind(linux_host(), Pool("p", name, config=config), directory / "p")


async def shown(driver: VolumeDriver, volume: Volume) -> Path:
    found: list[Path] = []

    async def work(op: Operation) -> None:
        found.append(await driver.mount(op, volume, volume.id))

    await act(driver.host, work)
    return found[0]


def as_root_inside(*argv: str) -> None:
    """Without the right to exceed limits, which root of the host has. Errors are ignored."""
    ids = (f"--reuid={IDS.base}", f"--regid={IDS.base}", "--clear-groups")
    subprocess.run(("setpriv", *ids, "--", *argv), check=False, stderr=subprocess.DEVNULL)


def fill(path: Path, size: int) -> int:
    """How many bytes of a file there was room for."""
    as_root_inside("dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size // MIB}", "oflag=sync", "status=none")
    return path.stat().st_size if path.exists() else 0  # XFS makes no file in a full project


async def limited(driver: VolumeDriver) -> None:
    host, root, copy = driver.host, Volume("v1", "p", idmap=IDS, size=8 * MIB), Volume("v2", "p", idmap=IDS)
    await act(host, driver.create_pool)
    assert await driver.why_not(Feature.QUOTA) == ""
    await act(host, lambda op: driver.create_volume(op, root))
    point = await shown(driver, root)
    as_root_inside("ln", "-s", "much", str(point / "link"))
    as_root_inside("mv", str(point / "link"), str(point / "other"))
    assert 4 * MIB < fill(point / "much", 16 * MIB) < 9 * MIB
    assert 4 * MIB < await driver.usage(root) < 9 * MIB
    await act(host, lambda op: driver.create_snapshot(op, root, "s1"))
    await act(host, lambda op: driver.resize_volume(op, root, 12 * MIB))
    assert 1 * MIB < fill(point / "more", 16 * MIB) < 7 * MIB
    await act(host, lambda op: driver.unmount(op, root, root.id))
    await act(host, lambda op: driver.restore_snapshot(op, root, "s1"))
    point = await shown(driver, root)
    assert sorted(os.listdir(point)) == ["much", "other"]
    assert fill(point / "more", 32 * MIB) < 13 * MIB
    await act(host, lambda op: driver.clone_volume(op, copy, root, "s1"))
    assert fill(await shown(driver, copy) / "more", 16 * MIB) == 16 * MIB
    for volume in (root, copy):
        await act(host, lambda op, volume=volume: driver.unmount(op, volume, volume.id))  # type: ignore[misc]
    custom = Volume("c1", "p", kind="custom", size=4 * MIB, idmap=IDS)
    await act(host, lambda op: driver.create_volume(op, custom))
    assert fill(await shown(driver, custom) / "more", 16 * MIB) < 5 * MIB
    await act(host, lambda op: driver.unmount(op, custom, custom.id))
    await act(host, driver.delete_pool)


@pytest.mark.parametrize("name", ["dir", "overlay"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_volumes_are_limited_where_the_file_system_can(kind: str, name: str) -> None:
    with with_quotas(kind) as place:
        if place is None:
            return
        driver = driver_in(place, name)
        try:
            await limited(driver)
        finally:
            for mount in await driver.host.mounts.below(place / "pools"):
                await driver.host.mounts.unmount(mount)


@pytest.mark.parametrize("name", ["dir", "overlay"])
async def test_other_file_systems_are_named_as_the_reason(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="isola-quota-", dir="/var/tmp") as directory:
        os.chmod(directory, 0o711)
        driver = driver_in(Path(directory), name)
        await act(driver.host, driver.create_pool)
        assert "project quotas" in await driver.why_not(Feature.QUOTA)
        assert await driver.default_size() is None
        with pytest.raises(Unsupported, match="prjquota"):
            await act(driver.host, lambda op: driver.create_volume(op, Volume("v1", "p", idmap=IDS, size=MIB)))
        with pytest.raises(InvalidInput, match="cannot limit volumes"):
            await driver.update_pool({"volume.size": "50%"})
        await act(driver.host, driver.delete_pool)
        with pytest.raises(InvalidInput, match="cannot limit volumes"):
            await driver_in(Path(directory), name, **{"volume.size": "1GiB"}).check_place()
