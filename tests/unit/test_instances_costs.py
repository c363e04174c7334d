"""How many writes the verbs of an instance need: each costs a sync of the disk, for which clients wait."""

from __future__ import annotations

from isola.model.reference import Ref
from isola.testing.parts import World

NAME = "c1"


async def test_the_first_start_does_not_describe_the_instance_again(world: World) -> None:
    instance = await world.create(NAME)
    file = world.context.descriptions("default").place(instance.id)
    described = await world.host.files.read(file)
    await world.finish(world.parts.services.instances.start(Ref.default(NAME)))
    assert await world.host.files.read(file) == described
