"""Volumes that have reached their limit, on a file system that holds root to it, as XFS does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from storage_subject import Subject

from isola.errors import StorageFull
from isola.host.mirrors import Difference
from isola.model.identity import IdRange
from isola.model.storage import Volume
from isola.storage.drivers.dir import DirDriver
from isola.testing.host import fake_host
from isola.testing.mirrors import FakeMirrors
from isola.testing.tree_quotas import FakeTreeQuotas

VOLUME = Volume("v1", "p", idmap=IdRange(600000), size=1 << 20)


class FullMirrors(FakeMirrors):
    """There is no room for what differs."""

    async def stage(self, source: Path, difference: Difference, place: Path) -> None:
        raise StorageFull("No space left")


class FullProjects(FakeTreeQuotas):
    """Nothing can be made where the project of a volume applies."""

    async def begin(self, *paths: Path) -> None:
        if any(self.project(path.parent) for path in paths):
            raise StorageFull("No space left")
        await super().begin(*paths)


async def test_a_full_volume_is_restored() -> None:
    made = fake_host()
    projects = FullProjects(made.files)
    projects.everywhere = True
    host = dataclasses.replace(made, mirrors=FullMirrors(made.files), tree_quotas=projects)
    pool = Subject(DirDriver, host, Path("/pools"))
    await pool.do(pool.driver.create_pool)
    await pool.do(lambda op: pool.driver.create_volume(op, VOLUME))
    await pool.write(await pool.mount(VOLUME), "/f", "before")
    await pool.do(lambda op: pool.driver.create_snapshot(op, VOLUME, "s1"))
    await pool.write(await pool.mount(VOLUME), "/f", "after")
    await pool.unmount(VOLUME)
    await pool.do(lambda op: pool.driver.restore_snapshot(op, VOLUME, "s1"))
    assert await pool.read(await pool.mount(VOLUME), "/f") == "before"
    assert projects.limits[max(projects.limits)] == VOLUME.size, "the new tree has the limit, too"
