"""A failure, cancellation or kill at every point of import and deletion; store and records must agree afterwards."""

import hashlib
from collections.abc import Awaitable, Callable

import pytest
from image_interrupter import Interrupter, agree
from image_library import World, split, unified
from sampling import chosen

from isola.errors import IsolaError
from isola.images import ImageLibrary
from isola.model.reference import Ref
from isola.operations import Operation


async def import_unified(world: World, library: ImageLibrary) -> Operation:
    return library.start_import([await world.upload("u", unified())], aliases=["tiny"])


async def import_split(world: World, library: ImageLibrary) -> Operation:
    files = [await world.upload(f"s{number}", data) for number, data in enumerate(split())]
    return library.start_import(files, aliases=["tiny"])


async def delete(world: World, library: ImageLibrary) -> Operation:
    return library.start_delete(library.get(Ref.default(OLD)).ref)


OLD = hashlib.sha256(unified("old")).hexdigest()
Verb = Callable[[World, ImageLibrary], Awaitable[Operation]]
VERBS = [import_unified, import_split, delete]
ACTIONS = ["fail", "cancel", "kill"]


async def prepared() -> tuple[World, ImageLibrary, Interrupter]:
    """A library with one image, and an observer of all later points."""
    world = World()
    library = await world.start()
    await world.operations.finish(library.start_import([await world.upload("o", unified("old"))], aliases=["old"]))
    world.observer = observer = Interrupter(world)
    return world, await world.start(), observer


async def points_of(verb: Verb) -> list[str]:
    world, library, observer = await prepared()
    await world.operations.finish(await verb(world, library))
    return observer.seen


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("verb", VERBS)
async def test_every_point(verb: Verb, action: str) -> None:
    points = await points_of(verb)
    assert len(points) >= 2
    for number in chosen(len(points), (ACTIONS.index(action), len(ACTIONS)), 2):
        world, library, observer = await prepared()
        observer.at, observer.action = number, action
        before = {image.fingerprint for image in library}
        operation = await verb(world, library)
        await operation.wait()
        if action == "kill":
            world.restore(observer.picture)
            library = await world.start()
        await agree(world, library)
        after = {image.fingerprint for image in library}
        if action != "kill":
            assert (after != before) == operation.committed, points[number]
        await works_on(world, library, verb, done=after != before)


async def works_on(world: World, library: ImageLibrary, verb: Verb, *, done: bool) -> None:
    """Without interruption the same verb succeeds, or is already done."""
    if done:
        with pytest.raises(IsolaError):
            await world.operations.finish(await verb(world, library))
    else:
        await world.operations.finish(await verb(world, library))
    await agree(world, library)


async def test_rollback_spares_the_blobs_of_another_import_in_flight() -> None:
    world, library, observer = await prepared()
    observer.at, observer.action = 9, "fail"
    operations = [
        library.start_import([await world.upload("n", unified("next"))]),
        library.start_import([await world.upload("m", unified("more"))]),
    ]
    for operation in operations:
        await operation.wait()
    assert sorted(operation.status.name for operation in operations) == ["FAILURE", "SUCCESS"]
    await agree(world, library)
