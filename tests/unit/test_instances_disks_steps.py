"""A failure, cancellation or crash at every step of verbs over disks of virtual machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from memory_audit import differences
from sampling import chosen
from strike import Fate, Strike, end_tasks

from isola.errors import IsolaError
from isola.model.instance import Devices, InstanceUpdate
from isola.model.reference import Ref
from isola.model.volume import VolumeRef
from isola.testing.disk_images import qcow2
from isola.testing.parts import World
from isola.testing.vm import FakeMachine

MOST = 6
VM, DATA = Ref.default("victim"), VolumeRef.custom("default", "data")
DISKS: Devices = {
    "data": {"type": "disk", "pool": "default", "source": "data", "io.bus": "virtio-blk"},
    "host": {"type": "disk", "source": "/srv/host.img", "readonly": "true"},
}
Act = Callable[[World], Awaitable[None]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(observer=Fate(), engine=FakeMachine)
    await world.start()
    file = world.directory / "uploads" / "disk"
    await world.host.files.make_directory(file.parent, Path("/srv"))
    await world.host.files.write(file, qcow2(1 << 20, bytes(512)))
    await world.host.files.write(Path("/srv/host.img"), bytes(1 << 20))
    await world.finish(world.parts.services.images.start_import([file], aliases=["disk"]))
    yield world
    world.forget()
    await end_tasks()


@dataclass(frozen=True)
class Verb:
    operation: str
    prepare: Act
    act: Act
    done: Callable[[World], bool]

    @property
    def name(self) -> str:
        return self.act.__name__


async def empty(world: World) -> None:
    """No instance, and a volume of 1 MiB."""
    for instance in list(world.parts.services.instances):
        await world.finish(world.parts.services.instances.delete(instance.ref, force=True))
    volumes = world.parts.services.volumes
    for record in list(volumes):
        await world.finish(await volumes.delete(record.ref))
    await world.finish(await volumes.create(DATA, {"size": "1MiB"}, content="block"))


async def running(world: World) -> None:
    await empty(world)
    await world.create(VM.name, image="disk", start=True)


async def attached(world: World) -> None:
    await running(world)
    await attaches(world)


async def attached_and_stopped(world: World) -> None:
    await attached(world)
    await world.finish(world.parts.services.instances.stop(VM, force=True))


async def creates(world: World) -> None:
    await world.create(VM.name, image="disk", start=True, devices=DISKS)


async def attaches(world: World) -> None:
    await change(world, DISKS)


async def detaches(world: World) -> None:
    await change(world, {})


async def change(world: World, devices: Devices) -> None:
    wanted = InstanceUpdate(config={}, devices=devices, profiles=("default",), description="")
    await world.finish(world.parts.services.instances.update(VM, lambda _: wanted))


async def starts(world: World) -> None:
    await world.finish(world.parts.services.instances.start(VM))


async def stops(world: World) -> None:
    await world.finish(world.parts.services.instances.stop(VM, force=True))


async def deletes(world: World) -> None:
    await world.finish(world.parts.services.instances.delete(VM, force=True))


async def enlarges(world: World) -> None:
    volumes = world.parts.services.volumes
    await world.finish(
        await volumes.update(DATA, lambda found: replace(found, config={**found.config, "size": "2MiB"}))
    )


def there(world: World) -> bool:
    return VM in world.parts.records.instances


def disks(world: World) -> set[str]:
    """Of the guest; empty if it does not run."""
    if not there(world):
        return set()
    guest = world.runtime.instances.get(world.parts.services.instances.get(VM).id)
    return set() if guest is None else set(guest.disks)


VERBS = (
    Verb("Creating instance", empty, creates, lambda w: disks(w) == {"root", *DISKS}),
    Verb("Updating instance", running, attaches, lambda w: disks(w) == {"root", *DISKS}),
    Verb("Updating instance", attached, detaches, lambda w: disks(w) == {"root"}),
    Verb("Starting instance", attached_and_stopped, starts, lambda w: disks(w) == {"root", *DISKS}),
    Verb("Stopping instance", attached, stops, lambda w: not disks(w)),
    Verb("Deleting instance", attached, deletes, lambda w: not there(w)),
    Verb(
        "Updating storage volume",
        attached,
        enlarges,
        lambda w: w.parts.services.volumes.get(DATA).config["size"] == "2MiB",
    ),
)


@pytest.mark.parametrize("action", ["fail", "cancel", "crash"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
async def test_every_step_of(verb: Verb, action: str, world: World) -> None:
    await verb.prepare(world)
    await verb.act(world)  # unpacks the image, which is done once
    await verb.prepare(world)
    learned = Strike(verb.operation)
    fate(world).strike = learned
    await verb.act(world)
    fate(world).strike = None
    assert verb.done(world) and len(learned.points) >= 2
    for number in chosen(len(learned.points), (0, 1), MOST):
        await verb.prepare(world)
        assert not await differences(world)
        result = await hit(world, verb, number, action)
        found = await differences(world)
        assert not found, f"{action} at {learned.points[number]} ({result}): {found}"
        assert result != "success" or verb.done(world), f"{action} at {learned.points[number]}: lost"


async def hit(world: World, verb: Verb, number: int, action: str) -> str:
    fate(world).strike = Strike(verb.operation, number, action)
    asked = asyncio.ensure_future(verb.act(world))
    await asyncio.wait_for(fate(world).struck(), 60)
    if action == "crash":
        fate(world).dead = True
        await world.context.devices.close()
        asked.cancel()
        world.observer = Fate()
        await world.start()
        return "crashed"
    result = "failed"
    with suppress(IsolaError):
        await asked
        result = "success"
    fate(world).strike = None
    return result


def fate(world: World) -> Fate:
    assert isinstance(world.observer, Fate)
    return world.observer
