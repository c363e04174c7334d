"""Features that all doors share are in the use cases: locks, bulk changes, secrets and lookups."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import isola.doors
from isola.errors import Busy, NotFound
from isola.model.caller import Caller, Credential
from isola.model.instance import Status
from isola.model.network import Network
from isola.model.reference import Ref
from isola.model.state_change import Action, StateChange
from isola.operations import Operation
from isola.testing.parts import World

WHO = Caller(Credential.UNIX, name="caller")


def test_no_door_takes_locks() -> None:
    root = Path(isola.doors.__file__).parent
    assert not [path.name for path in root.rglob("*.py") if "locks=" in path.read_text()]


async def test_one_at_a_time_works_on_a_network(world: World) -> None:
    services = world.parts.services
    made = services.network_verbs.create(Network("net7"), caller=WHO)
    assert services.operations.holder(made.resources[0].lock) is made and made.caller == WHO
    renamed = services.network_verbs.rename(Ref.default("net7"), "net8", caller=WHO)
    assert renamed.status.value == "Pending", "it waits for its turn"
    await services.operations.finish(made)
    await services.operations.finish(renamed)
    assert services.networks.get(Ref.default("net8")).name == "net8"
    deleted = services.network_verbs.delete(Ref.default("net8"))
    await services.operations.finish(deleted)
    with pytest.raises(NotFound):
        services.networks.get(Ref.default("net8"))


async def test_bulk_changes_continue_and_raise_the_first_error(world: World) -> None:
    services = world.parts.services
    made = [await world.create(name, start=name != "idle") for name in ("one", "two", "idle")]
    stop = StateChange(Action.STOP, force=True)
    operation = services.instances.change_states(made, stop, caller=WHO)
    assert {entity.ref.name for entity in operation.resources} == {"one", "two"}, "stopped instances are left alone"
    await services.operations.finish(operation)
    assert [services.instances.status(each) for each in made] == [Status.STOPPED] * 3

    async def hold(op: Operation) -> None:
        await asyncio.sleep(60)

    await services.operations.finish(services.instances.change_states(made, StateChange(Action.START)))
    holder = services.operations.start("Stopping instance", hold, locks=[made[0].entity.lock], gives_way=True)
    frozen = services.instances.change_states(made, StateChange(Action.FREEZE))
    with pytest.raises(Busy):
        await services.operations.finish(frozen)
    assert [services.instances.status(each) for each in made[1:]] == [Status.FROZEN] * 2
    holder.cancel()
    await holder.wait()
    thawed = services.instances.change_state(made[1].ref, StateChange(Action.START))
    await services.operations.finish(thawed)
    assert services.instances.status(made[1]) is Status.RUNNING, "starting a frozen instance thaws it"


async def test_an_image_token_is_valid_while_its_operation_runs(world: World) -> None:
    services = world.parts.services
    await world.create("one")
    [image] = list(services.images)
    operation = services.images.start_lending(image.ref, caller=WHO)
    secret = str(operation.metadata["secret"])
    assert services.images.is_lent(image, secret)
    assert not services.images.is_lent(image, "") and not services.images.is_lent(image, secret[:-1])
    await asyncio.sleep(0)
    operation.cancel()
    await operation.wait()
    assert not services.images.is_lent(image, secret)


async def test_an_image_is_found_by_its_properties(world: World) -> None:
    services = world.parts.services
    await world.create("one")
    [image] = list(services.images)
    assert services.images.with_properties("default", dict(image.properties)) == image
    for project, properties in (("default", {"os": "none of this"}), ("other", dict(image.properties))):
        with pytest.raises(NotFound):
            services.images.with_properties(project, properties)
