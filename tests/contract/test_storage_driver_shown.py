"""The contract of storage drivers for the tree of image layers that is shown with the ids of an instance."""

from __future__ import annotations

from pathlib import Path

import pytest
from storage_subject import BASE, IDS, TOP, Subject
from tars import directory, member, tar

from isola.errors import NotFound

_LOWER = tar(
    directory("d"), member("d/hidden"), directory("o"), member("o/old"), member("gone"), member("kept", b"k", uid=7)
)
_UPPER = tar(
    directory("d"),
    member("d/.wh.hidden"),
    directory("o"),
    member("o/.wh..wh..opq"),
    member("o/new"),
    member(".wh.gone"),
)


@pytest.fixture
async def layered(pool: Subject) -> Subject:
    """A pool with a layer, and one that hides some of it."""
    await bring(pool, BASE, TOP)
    return pool


async def bring(pool: Subject, *layers: str) -> None:
    async def unpack(layer: str, target: Path) -> None:
        source = pool.directory.parent / f"{layer[7:12]}.tar"
        await pool.host.files.write(source, {BASE: _LOWER, TOP: _UPPER}[layer])
        await pool.host.archives.unpack(source, target, whiteouts=True)
        await pool.host.files.remove_tree(source)

    await pool.ensure(unpack, *layers)


async def names(subject: Subject, tree: Path, path: str) -> set[str]:
    async with subject.host.files.root(tree) as seen:
        return {name async for piece in await seen.names(path) for name in piece}


async def test_layers_are_shown_as_one_tree_with_the_ids_of_an_instance(layered: Subject) -> None:
    before = await layered.picture()
    async with layered.driver.layered((BASE, TOP), IDS) as tree:
        assert await names(layered, tree, "/") == {"d", "o", "kept"}
        assert (await names(layered, tree, "/d"), await names(layered, tree, "/o")) == (set(), {"new"})
        async with layered.host.files.root(tree) as seen:
            root, kept = await seen.stat("/"), await seen.stat("/kept")
        assert ((root.uid, root.gid), (kept.uid, kept.gid)) == ((IDS.base, IDS.base), (IDS.base + 7, IDS.base))
        assert root.mode & 0o777 == 0o755
    assert await layered.picture() == before, "nothing stays on the host"


async def test_one_layer_and_none_are_shown_too(layered: Subject) -> None:
    await bring(layered, BASE)
    await bring(layered, TOP)
    before = await layered.picture()
    async with layered.driver.layered((BASE,), IDS) as tree:
        assert await names(layered, tree, "/") == {"d", "o", "gone", "kept"}
        async with layered.host.files.root(tree) as seen:
            assert (await seen.stat("/kept")).uid == IDS.base + 7
    async with layered.driver.layered((TOP,), IDS) as tree:
        assert await names(layered, tree, "/") == {"d", "o"}, "what hides files of a lower layer is no file"
    async with layered.driver.layered((), IDS) as tree:
        assert await names(layered, tree, "/") == set()
        async with layered.host.files.root(tree) as seen:
            assert (await seen.stat("/")).uid == IDS.base
    assert await layered.picture() == before


async def test_a_layer_that_is_missing_is_said(layered: Subject) -> None:
    before = await layered.picture()
    with pytest.raises(NotFound, match="is not in storage pool"):
        async with layered.driver.layered((BASE, f"sha256:{'c' * 64}"), IDS):
            raise AssertionError
    assert await layered.picture() == before
