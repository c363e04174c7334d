"""An engine that stops working: running instances can still be inspected, stopped and removed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from memory_audit import settle

from isola.errors import DriverUnavailable
from isola.model.exec import ExecRequest
from isola.model.instance import Status
from isola.model.probe import Probe
from isola.model.reference import Ref
from isola.testing.parts import HostedRuntime, World


class Breaking(HostedRuntime):
    """Works until ``broken`` is set."""

    answer = Probe(available=True, version="1")

    @classmethod
    async def probe(cls, host: object) -> Probe:
        """The given result."""
        return cls.answer


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An instance runs, then the engine breaks and the daemon is started again."""
    Breaking.answer = Probe(available=True, version="1")
    world = World(engine=Breaking)
    await world.start()
    await world.import_image()
    await world.create("one", start=True)
    yield world
    world.forget()


async def broken(world: World, *, restarted: bool) -> None:
    Breaking.answer = Probe(available=False, reason="cannot load libyajl.so.2", remedy="apt-get install --reinstall")
    if restarted:
        await world.parts.close()
        await world.start()
    else:
        await world.context.runtimes.probe()


@pytest.mark.parametrize("restarted", [False, True])
async def test_running_instances_are_seen_and_can_be_deleted(world: World, restarted: bool) -> None:
    on_host = world.on_host("one")
    await broken(world, restarted=restarted)
    instances = world.parts.services.instances
    assert instances.status(instances.get(Ref.default("one"))) is Status.RUNNING
    await world.finish(instances.delete(Ref.default("one"), force=True))
    assert world.runtime.instances == {}
    assert on_host.status is not None, "its processes run on"
    assert not world.context.records.find(Ref.default("one"))


@pytest.mark.parametrize("restarted", [False, True])
async def test_it_stops_but_neither_starts_nor_runs_commands(world: World, restarted: bool) -> None:
    await broken(world, restarted=restarted)
    instances = world.parts.services.instances
    with pytest.raises(DriverUnavailable, match="libyajl"):
        await instances.exec(Ref.default("one"), ExecRequest(command=("true",))).start()
    await world.finish(instances.stop(Ref.default("one"), force=True))
    assert instances.status(instances.get(Ref.default("one"))) is Status.STOPPED
    with pytest.raises(DriverUnavailable, match="libyajl"):
        await world.finish(instances.start(Ref.default("one")))
    assert instances.status(instances.get(Ref.default("one"))) is Status.STOPPED
    await settle(world)


async def test_the_end_of_a_running_instance_is_noticed(world: World) -> None:
    await broken(world, restarted=True)
    instance = world.parts.services.instances.get(Ref.default("one"))
    world.runtime.end(instance.id)
    await settle(world)
    assert world.parts.services.instances.status(instance) is Status.STOPPED
