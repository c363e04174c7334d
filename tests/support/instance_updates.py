"""Instances changed as a client asks for it: the whole of what it wants."""

from __future__ import annotations

from isola.model.instance import InstanceUpdate
from isola.model.reference import Ref
from isola.testing.parts import World


def change(**wanted: object) -> InstanceUpdate:
    """What is wanted, with what every instance here has."""
    return InstanceUpdate(**({"config": {}, "devices": {}, "profiles": ("default",)} | wanted))  # type: ignore[arg-type]


async def update(world: World, name: str = "web1", **wanted: object) -> None:
    """Change it, and wait for that."""
    await world.finish(world.parts.services.instances.update(Ref.default(name), lambda _: change(**wanted)))
