"""Images made of layers and a configuration: recorded with their names, or nothing of them is left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from image_library import DIRECTORY, World
from tars import directory, member, packed, tar

from isola.errors import HostFailure, IsolaError, NotFound
from isola.images import ImageLibrary
from isola.images.compose import Named, compose, store_layer
from isola.images.oci_config import History, OciConfig
from isola.images.store import Intake
from isola.model.image import Image, ImageConfig, Layer
from isola.model.reference import Ref
from isola.operations import Operation

TREE = tar(directory("etc"), member("etc/x", b"y"))


def configuration(world: World, *command: str) -> OciConfig:
    run = ImageConfig(command=("/app", *command), entrypoint=("/app",), environment={"Z": "1", "A": "2"})
    return OciConfig("x86_64", world.host.clock.now(), (), run, "me", (History("made by a test"),))


async def layer(world: World, library: ImageLibrary, intake: Intake, tree: bytes = TREE) -> Layer:
    data = packed(tree, "zstd")
    file = library.store.scratch / f"layer-{world.host.clock.token(4)}"
    await world.host.files.write(file, data)
    probe = await world.host.archives.repack(file, None)
    return await store_layer(intake, file, probe.diff_id)


async def added(world: World, library: ImageLibrary, *names: str, command: str = "-v") -> Image:
    async def make(intake: Intake) -> Sequence[Named]:
        config = replace(configuration(world, command))
        made = await compose(intake, config, [await layer(world, library, intake)], world.host.clock.now())
        return [Named(made, names)]

    await world.run(lambda op: library.add(op, make, project="default"))
    found = library.resolve(Ref.default(names[0]))
    assert found is not None
    return found


async def test_a_composed_image_can_be_read_again() -> None:
    world = World()
    library = await world.start()
    image = await added(world, library, "app:1", "app:2")
    assert {alias.name for alias in library.aliases()} == {"app:1", "app:2"}
    assert image.manifest == f"sha256:{image.fingerprint}"
    assert (image.config.entrypoint, image.config.arguments) == (("/app",), ("-v",))
    library = await world.start()
    read = await library.configuration(library.get(image.ref))
    assert list(read.run.environment) == ["Z", "A"]
    assert (read.author, read.history, read.diff_ids) == (
        "me",
        (History("made by a test"),),
        (image.layers[0].diff_id,),
    )
    await world.host.files.make_directory(DIRECTORY / "out")
    await library.unpack_layer(image.layers[0], DIRECTORY / "out")


async def test_equal_images_are_one_and_a_name_moves() -> None:
    world = World()
    library = await world.start()
    first = await added(world, library, "app:1")
    before = await world.blobs()
    assert await added(world, library, "app:1") == first
    assert await world.blobs() == before
    second = await added(world, library, "app:1", command="-q")
    assert {image.fingerprint for image in library} == {first.fingerprint, second.fingerprint}
    assert library.alias(Ref.default("app:1")).target == second.fingerprint


async def test_a_layer_that_is_not_what_the_configuration_says_is_not_unpacked() -> None:
    world = World()
    library = await world.start()

    async def make(intake: Intake) -> Sequence[Named]:
        stored = await layer(world, library, intake)
        lie = replace(stored, diff_id=f"sha256:{'0' * 64}")
        return [Named(await compose(intake, configuration(world), [lie], world.host.clock.now()), ("lie",))]

    await world.run(lambda op: library.add(op, make, project="default"))
    (image,) = library
    await world.host.files.make_directory(DIRECTORY / "out")
    with pytest.raises(IsolaError, match="does not match the image's configuration"):
        await library.unpack_layer(image.layers[0], DIRECTORY / "out")


@pytest.mark.parametrize("action", ["fail", "cancel"])
async def test_nothing_is_left_of_an_image_that_was_not_recorded(action: str) -> None:
    world = World()
    library = await world.start()
    kept = await added(world, library, "kept")
    before = await world.blobs()

    async def make(intake: Intake) -> Sequence[Named]:
        other = await layer(world, library, intake, tar(member("other", b"z")))
        await compose(intake, configuration(world), [other], world.host.clock.now())
        if action == "fail":
            raise HostFailure("aborted")
        await asyncio.sleep(60)
        return []

    async def work(op: Operation) -> None:
        asyncio.get_running_loop().call_later(0.05, op.cancel)
        await library.add(op, make, project="default")

    with pytest.raises(IsolaError):
        await world.run(work)
    assert await world.blobs() == before
    assert (list(library), await world.leftovers()) == ([kept], ())
    with pytest.raises(NotFound):
        library.alias(Ref.default("other"))
