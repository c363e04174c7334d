"""Changes of instances as requested by clients: complete replacements."""

from __future__ import annotations

from isola.model.instance import InstanceUpdate
from isola.model.reference import Ref
from isola.testing.parts import World


def change(**wanted: object) -> InstanceUpdate:
    """An update with the defaults of the tests' instances."""
    return InstanceUpdate(**({"config": {}, "devices": {}, "profiles": ("default",)} | wanted))  # type: ignore[arg-type]


async def update(world: World, name: str = "web1", **wanted: object) -> None:
    """Change it, and wait for the end."""
    await world.finish(world.parts.services.instances.update(Ref.default(name), lambda _: change(**wanted)))
