"""A failure, cancellation and kill at every point of pull and push; store and records must agree afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from image_interrupter import Interrupter, agree
from image_library import World

from isola.images import ImageLibrary
from isola.model.image_reference import parse
from isola.model.reference import Ref
from isola.operations import Operation
from isola.testing.registry import FakeRegistry

URL = "https://registry.example"
OLD, NEW, COPY = (f"registry.example/{name}" for name in ("team/app:1", "team/app:2", "team/copy:1"))
Verb = Callable[[ImageLibrary], Operation]


def pull(library: ImageLibrary) -> Operation:
    return library.registries.start_pull(parse(NEW))


def pull_again(library: ImageLibrary) -> Operation:
    """The name belongs to another image by now."""
    return library.registries.start_pull(parse(OLD))


def push(library: ImageLibrary) -> Operation:
    image = library.resolve(Ref.default(OLD))
    assert image is not None
    return library.registries.start_push(image.ref, parse(COPY))


async def prepared() -> tuple[World, ImageLibrary, Interrupter, FakeRegistry]:
    """A library with one image of a registry, which has two others by now; and an observer of all later points."""
    world = World()
    registry = world.host.http.servers[URL] = FakeRegistry(URL)
    registry.add_image("team/app", "1", {"old": b"old"}, more=[{"below": b"below"}])
    library = await world.start()
    await world.operations.finish(library.registries.start_pull(parse(OLD)))
    registry.add_image("team/app", "1", {"old": b"old"}, more=[{"moved": b"moved"}])
    only = registry.add_image("team/app", "", {"new": b"new"})
    registry.add_index("team/app", "2", {"linux/amd64": only})
    world.observer = observer = Interrupter(world)
    return world, await world.start(), observer, registry


async def points_of(verb: Verb) -> list[str]:
    world, library, observer, _ = await prepared()
    await world.operations.finish(verb(library))
    return observer.seen


@pytest.mark.parametrize("action", ["fail", "cancel", "kill"])
@pytest.mark.parametrize("verb", [pull, pull_again, push])
async def test_every_point(verb: Verb, action: str) -> None:
    points = await points_of(verb)
    assert len(points) >= 6
    for number in range(len(points)):
        world, library, observer, registry = await prepared()
        observer.at, observer.action = number, action
        operation = verb(library)
        await operation.wait()
        if action == "kill":
            world.restore(observer.picture)
            library = await world.start()
        await agree(world, library)
        await world.operations.finish(verb(library))
        await agree(world, library)
        assert library.resolve(Ref.default(OLD)) is not None, points[number]
        assert (("team/copy", "1") in registry.manifests) is (verb is push)


async def test_a_pull_goes_on_after_a_restart_where_it_was() -> None:
    world, library, _, registry = await prepared()
    registry.breaks = [1 << 20, *[10] * 50]  # the configuration is whole, the layer breaks until the pull gives up
    operation = pull(library)
    await operation.wait()
    assert operation.error is not None
    registry.breaks, world.observer = [], None
    library = await world.start()
    world.host.http.requests.clear()
    await world.operations.finish(pull(library))
    ranges = [each.headers["range"] for each in world.host.http.requests if "range" in each.headers]
    assert len(ranges) == 1 and ranges != ["bytes=0-"]
    await agree(world, library)
