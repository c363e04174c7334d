"""An empty volume gets what the root has at its path, once, whatever interrupts it, and nothing from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isola.devices.copy_up import CopyUp
from isola.errors import HostFailure, NotFound
from isola.host import Host
from isola.host.copying import Inside
from isola.host.files import Files, LinuxFiles
from isola.host.mounts import BindMount, LinuxMounts
from isola.host.roots import Root
from isola.model.identity import IdRange
from isola.testing.host import fake_host
from isola.testing.pieces import blocks

IDS = IdRange(1_300_000)
USER = 999


async def write(root: Root, path: str, text: str, uid: int = 0) -> None:
    await root.write(path, blocks(text.encode()), uid=uid, gid=uid, mode=0o640)


async def read(root: Root, path: str) -> str:
    return b"".join([block async for block in await root.read(path)]).decode()


async def names(root: Root, path: str) -> set[str]:
    return {name async for piece in await root.names(path) for name in piece}


class Bed:
    """A root with files at /srv/data, and an empty volume."""

    def __init__(self, files: Files, place: Path) -> None:
        self.host: Host = replace(fake_host(), files=files)  # type: ignore[arg-type]
        self.root, self.volume = place / "root", place / "volume"
        self.copying = CopyUp(self.host)

    async def prepare(self) -> None:
        files = self.host.files
        await files.make_directory(self.root, mode=0o755, owner=IDS.base)
        await files.make_directory(self.volume, mode=0o755, owner=IDS.base)
        await files.write(self.root.parent / "secret", b"outside")
        async with files.root(self.root, idmap=IDS) as root:
            await root.make_directory("/srv", uid=0, gid=0, mode=0o755)
            await root.make_directory("/srv/data", uid=USER, gid=USER, mode=0o700)
            await root.make_directory("/srv/data/below", uid=0, gid=0, mode=0o755)
            await write(root, "/srv/data/file", "content", USER)
            await root.make_symlink("/srv/link", "data", uid=0, gid=0)
            await root.make_symlink("/srv/out", "../../..", uid=0, gid=0)

    async def fill(self, path: str = "/srv/data") -> None:
        await self.copying.fill(self.volume, Path("default/data"), self.root, path, IDS)

    async def filled(self) -> bool:
        async with self.host.files.root(self.volume, idmap=IDS) as volume:
            if await names(volume, "/") != {"below", "file"}:
                return False
            top, entry = await volume.stat("/"), await volume.stat("/file")
            assert (top.uid, top.gid, top.mode & 0o7777) == (USER, USER, 0o700)
            assert (entry.uid, entry.mode & 0o777) == (USER, 0o640) and await read(volume, "/file") == "content"
            return True


@pytest.fixture(params=["plain", "id-mapped"])
async def bed(request: pytest.FixtureRequest, files: Files, place: Path) -> AsyncIterator[Bed]:
    """On Linux also with a volume that is mounted with the ids of the instance, as custom volumes are."""
    made = Bed(files, place)
    await made.prepare()
    if request.param == "plain" or not isinstance(files, LinuxFiles):
        yield made
        return
    await files.make_directory(place / "raw", mode=0o755, owner=0)
    mounts = LinuxMounts()
    await mounts.bind(BindMount(place / "raw", made.volume, IDS))
    yield made
    await mounts.unmount(made.volume)


@pytest.mark.parametrize("path", ["/srv/data", "/srv/link"])
async def test_an_empty_volume_gets_files_owners_and_permissions(bed: Bed, path: str) -> None:
    await bed.fill(path)
    assert await bed.filled()


async def test_one_with_files_keeps_them(bed: Bed) -> None:
    async with bed.host.files.root(bed.volume, idmap=IDS) as volume:
        await write(volume, "/mine", "mine")
        await bed.fill()
        assert await names(volume, "/") == {"mine"}


@pytest.mark.parametrize("path", ["/nothing", "/srv/data/file"])
async def test_without_a_directory_it_stays_empty(bed: Bed, path: str) -> None:
    await bed.fill(path)
    assert await bed.host.files.names(bed.volume) == ()


async def test_links_do_not_lead_out_of_the_root(bed: Bed) -> None:
    await bed.fill("/srv/out")
    async with bed.host.files.root(bed.volume, idmap=IDS) as volume:
        assert "secret" not in await names(volume, "/") and "srv" in await names(volume, "/")


async def test_two_at_once_copy_once(bed: Bed) -> None:
    await asyncio.gather(bed.fill(), bed.fill(), bed.fill())
    assert await bed.filled()
    assert not bed.copying._turns


@pytest.mark.parametrize("renamed", [False, True], ids=["copying", "renaming"])
async def test_an_interrupted_one_is_completed(bed: Bed, renamed: bool) -> None:
    stage = bed.volume / ".isola-copying"
    if renamed:
        await bed.host.files.copy_tree(Path("/srv/data"), stage, inside=Inside(bed.root, IDS.base))
        async with bed.host.files.root(bed.volume, idmap=IDS) as volume:
            await volume.rename("/.isola-copying/file", "/file", replace=False)
    else:
        async with bed.host.files.root(bed.volume, idmap=IDS) as volume:
            await volume.make_directory("/.isola-copying", uid=0, gid=0, mode=0o700)
            await write(volume, "/.isola-copying/file", "cont")
    await bed.fill()
    assert await bed.filled()


async def test_a_link_in_place_of_the_stage_has_no_effect_outside(bed: Bed) -> None:
    outside = bed.root.parent / "outside"
    await bed.host.files.make_directory(outside)
    await bed.host.files.write(outside / "precious", b"x")
    async with bed.host.files.root(bed.volume, idmap=IDS) as volume:
        await volume.make_symlink("/.isola-copying", str(outside), uid=0, gid=0)
        await write(volume, "/mine", "mine")
    await bed.fill()
    assert await bed.host.files.names(outside) == ("precious",)


class Full(LinuxFiles):
    """A file system that is full as soon as something was copied."""

    async def copy_tree(self, source: Path, target: Path, *, into: bool = False, inside: Inside | None = None) -> None:
        await super().copy_tree(source, target, into=into, inside=inside)
        raise HostFailure("There is no space left")


async def test_a_copy_that_fails_leaves_an_empty_volume(tmp_path: Path) -> None:
    bed = Bed(Full(), tmp_path)
    await bed.prepare()
    with pytest.raises(HostFailure, match="no space"):
        await bed.fill()
    assert await bed.host.files.names(bed.volume) == ()


async def test_a_tree_is_copied_as_seen_inside_a_root(bed: Bed) -> None:
    target = bed.root.parent / "copy"
    await bed.host.files.copy_tree(Path("/srv/link"), target, inside=Inside(bed.root, IDS.base))
    assert set(await bed.host.files.names(target)) == {"file", "below"}
    with pytest.raises(NotFound):
        await bed.host.files.copy_tree(Path("/srv/none"), bed.root.parent / "other", inside=Inside(bed.root, IDS.base))
