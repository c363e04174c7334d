"""A kill at every point of a push and a deletion: the next daemon has all of it or none, and nothing is left over."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from registry_content import Content, artifact, blocks, image, index

from isola.errors import NotFound
from isola.images.repositories import Repositories
from isola.model.reference import Ref
from isola.testing.parts import World

APP = Ref.default("team/app")
OLD, NEW = image("old"), index(image("new"), image("arm", architecture="arm64"))
SIGNED = artifact("signature", subject=NEW)


async def push(repositories: Repositories, content: Content, reference: str = "") -> None:
    for digest, data in content.blobs.items():
        await repositories.upload(APP, digest, blocks(data))
    for each in content.manifests:
        await push(repositories, each)
    await repositories.push(APP, reference or content.digest, content.data, content.media_type)


async def move_a_tag(world: World) -> None:
    await push(world.parts.services.repositories, NEW, "1")


async def replace_an_image_by_an_artifact(world: World) -> None:
    await push(world.parts.services.repositories, SIGNED, "1")


async def delete_a_tag(world: World) -> None:
    await world.parts.services.repositories.remove_tag(APP, "1")


async def delete_a_manifest(world: World) -> None:
    await world.parts.services.repositories.remove_manifest(APP, OLD.digest)


async def delete_a_repository(world: World) -> None:
    await world.parts.services.repositories.remove(APP)


async def delete_the_image(world: World) -> None:
    await world.finish(world.parts.services.images.start_delete(Ref.default(OLD.digest[7:])))


VERBS = (
    move_a_tag,
    replace_an_image_by_an_artifact,
    delete_a_tag,
    delete_a_manifest,
    delete_a_repository,
    delete_the_image,
)


class Camera:
    """Pictures of the disk before and after every commit, and before every rename of a file."""

    def __init__(self, world: World) -> None:
        self.pictures: list[Any] = []
        self._world = world
        commit, rename = world.store.commit, world.host.files.rename

        async def committed(*steps: Any) -> int:
            self.take()
            revision = await commit(*steps)
            self.take()
            return revision

        async def renamed(*paths: Any) -> None:
            self.take()
            await rename(*paths)
            self.take()

        world.store.commit = committed  # type: ignore[method-assign]
        world.host.files.rename = renamed  # type: ignore[method-assign, assignment]

    def take(self) -> None:
        world = self._world
        self.pictures.append(copy.deepcopy((world.host.files.tree, world.store._entries, world.store._revision)))


def restored(picture: Any, directory: Path) -> World:
    """A world with this content of the disk."""
    world = World(directory=directory)
    world.host.files.tree, world.store._entries, world.store._revision = copy.deepcopy(picture)
    return world


async def prepared() -> World:
    world = World()
    await world.start()
    await push(world.parts.services.repositories, OLD, "1")
    return world


async def agree(world: World) -> str:
    """Check that the views agree; returns the digest of the tag ``1``, empty if it is gone."""
    images, repositories = world.parts.services.images, world.parts.services.repositories
    alias = images.find_alias(Ref.default("team/app:1"))
    try:
        stored = await repositories.views.manifest(APP, "1")
    except NotFound:
        assert alias is None
        stored = None
    if alias is not None:
        found = images.resolve(alias.ref)
        assert found is not None and stored is not None
        assert stored.digest in (found.manifest, found.index)
    for found in images:
        assert images.names_of(found), "an image without a name is left"
    for record in world.parts.records.repository_manifests:
        assert (await repositories.views.manifest(APP, record.digest)).digest == record.digest
        for digest in record.blobs:
            assert (await repositories.views.blob(APP, digest)).size
    assert await images.unknown() == {}
    assert not list(world.parts.records.intents.of_kind("registry-tag"))
    assert await world.host.files.names(images.store.scratch) == ()
    return stored.digest if stored is not None else ""


async def swept(world: World) -> None:
    """After a day only what has a record is there."""
    repositories, images = world.parts.services.repositories, world.parts.services.images
    await world.host.clock.advance(2 * 86400)
    await repositories.look(world.host.clock.now())
    await repositories.collect_garbage(world.host.clock.now())
    named = world.parts.records.of_repositories.named()
    assert set(await images.store.digests()) == named | {each for found in images for each in images.blobs_of(found)}
    assert await world.host.files.names(images.store.directory / "uploads") == ()
    assert not list(world.parts.records.intents.of_kind("blobs"))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
async def test_every_point(verb: Callable[[World], Awaitable[None]]) -> None:
    world = await prepared()
    camera = Camera(world)
    await verb(world)
    await world.parts.close()
    assert len(camera.pictures) > 3
    seen = set()
    for picture in camera.pictures:
        after = restored(picture, world.directory)
        await after.start()
        seen.add(await agree(after))
        await swept(after)
        await push(after.parts.services.repositories, NEW, "1")
        assert await agree(after) == NEW.digest, "a push repairs everything"
        await after.parts.close()
        after.forget()
    assert seen <= {OLD.digest, NEW.digest, NEW.manifests[0].digest, SIGNED.digest, ""}
    world.forget()
