"""Deployments: what takes over and what does not, what both versions have, and fleets in waves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from deploy_verbs import AFTER, BEFORE, FIXED, NIC, PORT
from heard import lifecycle
from memory_audit import differences, settle
from strike import end_tasks

from isola.errors import AlreadyExists, Busy, Forbidden, HostFailure, InvalidInput, NotFound, ProgramFailed, TimedOut
from isola.instances.context import lock_of
from isola.instances.reconcile import Verdict, judge
from isola.instances.volatile import HELD, PREVIOUS_ID, RETIRING, ROLE
from isola.model.caller import Caller, Credential
from isola.model.deployment import Strategy, Terms, Version, beside_name, parse_wave, split_waves
from isola.model.event import EventKind
from isola.model.instance import Desired, Instance, InstanceRequest, InstanceUpdate
from isola.model.program import Program
from isola.model.reference import Ref
from isola.testing.clock import FakeClock
from isola.testing.commands import FakeCommand
from isola.testing.host import fake_host
from isola.testing.parts import World

WEB = Ref.default("web")
TERMS = Terms(timeout=20, settle=3, drain=2)
NEW = Version("tiny", AFTER)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world in which only tests advance the clock; ``sh`` is the program of health checks."""
    world = World(fake_host(granted=((1 << 20, 1 << 24),), clock=FakeClock()))
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()


def names(world: World) -> dict[str, Desired]:
    return {each.name: each.desired for each in world.parts.services.instances}


def serving(world: World, name: str = "web") -> Instance:
    return world.parts.services.instances.get(Ref.default(name))


async def finish(world: World, operation: object) -> None:
    """While the clock runs."""
    ending = asyncio.ensure_future(world.finish(operation))  # type: ignore[arg-type]
    for _ in range(400):
        if ending.done():
            break
        await asyncio.sleep(0.001)
        await world.host.clock.advance(0.5)
    await ending


async def tried(world: World) -> Instance:
    """The new version, when it runs."""
    for _ in range(2000):
        found = world.parts.records.instances.find(Ref.default("web-next"))
        if found is not None and found.id in world.context.live:
            return found
        await asyncio.sleep(0.001)
    raise AssertionError("it does not start")


async def deploy(world: World, version: Version = NEW, terms: Terms = TERMS, ref: Ref = WEB) -> None:
    await finish(world, world.parts.services.instances.deployments.deploy(ref, version, terms))


async def test_the_new_version_has_what_the_old_one_had_and_the_changes(world: World) -> None:
    devices = {"eth0": NIC, "http": PORT, "gone": {"type": "disk", "source": "tmpfs:", "path": "/gone"}}
    config = BEFORE | {"user.kept": "yes", "user.gone": "yes"}
    old = await world.create("web", start=True, config=config, devices=devices, program=Program(arguments=("-x",)))
    await deploy(world, Version("tiny", AFTER | {"user.gone": ""}, {"gone": {}}, description="new"))
    new = serving(world)
    assert new.config == AFTER | {"user.kept": "yes"} and set(new.devices) == {"eth0", "http"}
    assert new.description == "new" and new.start.arguments == old.start.arguments == ("-x",)
    assert new.id != old.id and new.volatile[PREVIOUS_ID] == old.id
    assert set(new.plugged) == {"eth0", "http", "root"} and "http" not in serving(world, "web-previous").plugged
    assert not await differences(world)


async def test_while_it_is_tried_out_it_has_neither_the_ports_nor_the_names_of_the_old_one(world: World) -> None:
    await world.create("web", start=True, devices={"eth0": NIC, "http": PORT}, notes={"docker": "{}"})
    operation = world.parts.services.instances.deployments.deploy(WEB, NEW, TERMS)
    new = await tried(world)
    assert not new.notes, "it was not made through another door"
    assert "http" not in new.plugged and new.volatile[HELD] == "http" and new.aside
    assert world.on_host("web-next").spec.hostname == "web"
    assert not world.context.nics.nic(world.context.nics.of(new)[0]).names
    assert world.context.nics.nic(world.context.nics.of(serving(world))[0]).names == ("www",)
    await finish(world, operation)
    assert world.context.nics.nic(world.context.nics.of(serving(world))[0]).names == ("www",)
    assert not world.context.nics.nic(world.context.nics.of(serving(world, "web-previous"))[0]).names


async def test_a_version_that_ends_never_takes_over(world: World) -> None:
    old = await world.create("web", start=True, devices={"http": PORT})
    operation = world.parts.services.instances.deployments.deploy(WEB, NEW, TERMS)
    world.runtime.end((await tried(world)).id, 7)
    with pytest.raises(ProgramFailed, match=r"The new version of 'web' ended with status 7.*written nothing"):
        await finish(world, operation)
    assert serving(world).id == old.id and names(world) == {"web": Desired.RUNNING}
    assert not await differences(world)


async def failing(command: FakeCommand) -> int:
    await command.stdout.write(b"no answer")
    return 1


async def test_a_version_that_is_never_healthy_never_takes_over(world: World) -> None:
    config = {"isola.health.command": "check", "isola.health.retries": "1000"}
    old = await world.create("web", start=True, config=config)
    world.runtime.programs["sh"] = failing
    with pytest.raises(
        TimedOut, match=r"not healthy within 20 seconds: its health check ended with status 1: 'no answer'"
    ):
        await deploy(world)
    assert serving(world).id == old.id and list(names(world)) == ["web"]
    await finish(world, world.parts.services.instances.update(WEB, _retrying))
    with pytest.raises(ProgramFailed, match="is unhealthy"):
        await deploy(world)
    assert serving(world).id == old.id and not await differences(world)


def _retrying(instance: Instance) -> InstanceUpdate:
    config = {"isola.health.command": "check", "isola.health.retries": "2", "isola.health.interval": "1s"}
    return InstanceUpdate(config, instance.devices, instance.profiles)


async def test_a_healthy_version_takes_over_at_once(world: World) -> None:
    tries = []

    async def check(command: FakeCommand) -> int:
        tries.append(world.host.clock.monotonic())
        return 0 if len(tries) > 2 else 1

    await world.create("web", start=True, config={"isola.health.command": "check"})
    world.runtime.programs["sh"] = check
    await deploy(world)
    assert len(tries) == 3 and serving(world).config["user.version"] == "2"
    assert world.context.health[serving(world).id].status.value == "healthy"


async def test_an_image_that_is_missing_and_a_full_project_leave_the_old_version(world: World) -> None:
    old = await world.create("web", start=True)
    with pytest.raises(NotFound):
        await deploy(world, Version("missing"))
    await world.parts.services.projects.update(
        "default", lambda project: project.__class__(project.name, "", {**project.config, "limits.containers": "1"})
    )
    with pytest.raises(Forbidden, match=r"limits\.containers|1"):
        world.parts.services.instances.deployments.deploy(WEB, NEW, TERMS)
    assert serving(world).id == old.id and list(names(world)) == ["web"] and not await differences(world)


async def test_what_two_versions_cannot_have_needs_stop_first(world: World) -> None:
    await world.create("web", start=True, devices={"eth0": FIXED})
    deployments = world.parts.services.instances.deployments
    with pytest.raises(InvalidInput, match=r"side by side: both would have the MAC address .*stop-first"):
        deployments.deploy(WEB, NEW, TERMS)
    assert names(world) == {"web": Desired.RUNNING}
    first = Terms(Strategy.STOP_FIRST, timeout=20)
    await deploy(world, NEW, first)
    assert serving(world).plugged["eth0"].facts["hwaddr"] == FIXED["hwaddr"]
    with pytest.raises(InvalidInput, match="stop-first"):
        deployments.rollback(WEB, TERMS)
    await finish(world, deployments.rollback(WEB, first))
    assert serving(world).plugged["eth0"].facts["hwaddr"] == FIXED["hwaddr"] and not await differences(world)


async def test_with_stop_first_a_broken_version_gives_way_to_the_old_one(world: World) -> None:
    old = await world.create("web", start=True, devices={"eth0": FIXED, "http": PORT})
    address = old.plugged["eth0"].facts["ipv4"]
    world.runtime.programs["sh"] = failing
    broken = Version("tiny", {"isola.health.command": "check", "isola.health.retries": "1000"})
    with pytest.raises(TimedOut):
        await deploy(world, broken, Terms(Strategy.STOP_FIRST, timeout=5))
    assert serving(world).id == old.id and names(world) == {"web": Desired.RUNNING}
    assert serving(world).plugged["eth0"].facts["ipv4"] == address and not await differences(world)


async def test_a_deployment_excludes_another_and_gives_way_to_deletion(world: World) -> None:
    await world.create("web", start=True)
    instances = world.parts.services.instances
    operation = instances.deployments.deploy(WEB, NEW, TERMS)
    with pytest.raises(Busy):
        instances.deployments.deploy(WEB, NEW, TERMS)
    await tried(world)
    await finish(world, instances.delete(WEB, force=True))
    assert operation.status.value == "Cancelled" and not names(world) and not await differences(world)


async def test_a_deployment_waits_for_what_the_daemon_does_by_itself_and_looks_again(world: World) -> None:
    old = await world.create("web", start=True)
    operations, deployments = world.parts.services.operations, world.parts.services.instances.deployments
    cleaned = asyncio.Event()
    operations.start("Removing what is left", lambda _: cleaned.wait(), locks=[lock_of(Ref.default("web-aside"))])
    operation = deployments.deploy(WEB, NEW, TERMS)
    await asyncio.sleep(0)
    assert serving(world).id == old.id
    cleaned.set()
    await finish(world, operation)
    assert serving(world).volatile[PREVIOUS_ID] == old.id and not await differences(world)


async def test_a_version_for_an_instance_that_is_just_created_is_not_its_first(world: World) -> None:
    instances = world.parts.services.instances
    creation = instances.create(InstanceRequest(name="web", image="tiny", start=True, isolation=world.isolation))
    deployment = instances.deployments.deploy(WEB, NEW, TERMS)
    await finish(world, creation)
    old = serving(world)
    await finish(world, deployment)
    assert serving(world).volatile[PREVIOUS_ID] == old.id and names(world).keys() == {"web", "web-previous"}


async def test_names_of_other_instances_are_not_taken(world: World) -> None:
    await world.create("web", start=True)
    await world.create("web-previous")
    with pytest.raises(AlreadyExists, match="is not a version of 'web'"):
        world.parts.services.instances.deployments.deploy(WEB, NEW, TERMS)


async def test_rollback_goes_back_and_forth_and_needs_a_previous_version(world: World) -> None:
    deployments = world.parts.services.instances.deployments
    old = await world.create("web", start=True)
    with pytest.raises(NotFound, match="no previous version"):
        deployments.rollback(WEB, TERMS)
    events = world.parts.services.events.follow([EventKind.LIFECYCLE])
    caller = Caller(Credential.UNIX, "alice", "@")
    await finish(world, deployments.deploy(WEB, NEW, TERMS, caller=caller))
    new = serving(world)
    for expected in (old.id, new.id, old.id):
        await finish(world, deployments.rollback(WEB, TERMS))
        assert serving(world).id == expected
        assert names(world) == {"web": Desired.RUNNING, "web-previous": Desired.STOPPED}
    told = dict[str, Caller]()
    while "instance-rolled-back" not in told:
        event = lifecycle(await anext(aiter(events)))
        told[event.action] = event.caller
    assert told["instance-deployed"] == caller != told["instance-rolled-back"]
    with pytest.raises(InvalidInput, match="is a version of 'web'"):
        deployments.deploy(Ref.default("web-previous"), NEW, TERMS)
    await finish(world, world.parts.services.instances.delete(Ref.default("web-previous")))
    with pytest.raises(NotFound, match="no previous version"):
        deployments.rollback(WEB, TERMS)


async def test_a_rollback_leaves_an_instance_with_the_name_of_those_set_aside(world: World) -> None:
    deployments = world.parts.services.instances.deployments
    old = await world.create("web", start=True)
    await finish(world, deployments.deploy(WEB, NEW, TERMS))
    other = await world.create("web-aside")
    await finish(world, deployments.rollback(WEB, TERMS))
    assert serving(world).id == old.id and serving(world, "web-aside").id == other.id
    with pytest.raises(AlreadyExists, match="web-aside"):
        deployments.deploy(WEB, NEW, TERMS)


async def test_a_version_that_could_not_be_removed_is_removed_by_the_next_deployment(world: World) -> None:
    deployments = world.parts.services.instances.deployments
    await world.create("web", start=True)
    await finish(world, deployments.deploy(WEB, NEW, TERMS))
    world.runtime.keeps = True
    operation = deployments.deploy(WEB, NEW, TERMS)
    await finish(world, operation)
    assert any("web-aside" in text for text in operation.warnings)
    assert serving(world, "web-aside").deleting
    with pytest.raises(HostFailure):
        await finish(world, deployments.deploy(WEB, NEW, TERMS))
    assert names(world).keys() == {"web", "web-previous", "web-aside"}
    world.runtime.keeps = False
    await finish(world, deployments.deploy(WEB, NEW, TERMS))
    assert names(world).keys() == {"web", "web-previous"}


async def test_a_previous_version_with_that_name_serves_after_a_rollback(world: World) -> None:
    instances = world.parts.services.instances
    old = await world.create("web", start=True)
    await finish(world, instances.deployments.deploy(WEB, NEW, TERMS))
    await finish(world, instances.rename(Ref.default("web-previous"), "web-aside"))
    await finish(world, instances.deployments.rollback(WEB, TERMS))
    assert serving(world).id == old.id
    assert names(world) == {"web": Desired.RUNNING, "web-aside": Desired.STOPPED}
    await finish(world, instances.deployments.deploy(WEB, NEW, TERMS))
    assert names(world) == {"web": Desired.RUNNING, "web-previous": Desired.STOPPED}


async def test_only_the_version_that_serves_is_started_by_the_daemon(world: World) -> None:
    await world.create("web", start=True, config={"boot.autostart": "true", "isola.restart": "always"})
    await deploy(world)
    retired = serving(world, "web-previous")
    assert judge(retired, runs=False, boot="other", autostart=True) is Verdict.CLEAN
    assert judge(retired, runs=True, boot="", autostart=True) is Verdict.CLEAN, "it is recorded as stopped"
    await world.start()
    await settle(world)
    assert names(world) == {"web": Desired.RUNNING, "web-previous": Desired.STOPPED}
    assert RETIRING not in retired.volatile[ROLE]


async def test_a_fleet_is_updated_in_waves_and_rolled_back(world: World) -> None:
    refs = [Ref.default(f"web{number}") for number in range(5)]
    for ref in refs:
        await world.create(ref.name, start=True, config=BEFORE)
    deployments = world.parts.services.instances.deployments
    operation = deployments.deploy_all(refs, NEW, TERMS, [1, 0.6])
    await finish(world, operation)
    assert {serving(world, ref.name).config["user.version"] for ref in refs} == {"2"}
    assert (operation.metadata["waves"], operation.metadata["wave"]) == (3, 3)
    await finish(world, deployments.rollback_all(refs, TERMS, [5]))
    assert {serving(world, ref.name).config["user.version"] for ref in refs} == {"1"}
    assert not await differences(world)


async def test_the_first_failure_ends_a_fleet_and_rollback_means_those_that_were_deployed(world: World) -> None:
    refs = [Ref.default(f"web{number}") for number in range(4)]
    for ref in refs:
        await world.create(ref.name, start=True, config=BEFORE)
    deployments = world.parts.services.instances.deployments
    await finish(world, deployments.deploy_all(refs, NEW, TERMS, [4]))
    await world.create("web1-next")  # stands in the way
    operation = deployments.deploy_all(refs, Version("tiny", {"user.version": "3"}), TERMS)
    with pytest.raises(Exception, match=r"Wave 2 of 4 failed for web1.*1 are done, 2 were not begun"):
        await finish(world, operation)
    states = {name: state["status"] for name, state in operation.metadata["instances"].items()}  # type: ignore[attr-defined]
    assert states == {"web0": "done", "web1": "failed", "web2": "untouched", "web3": "untouched"}
    await finish(world, deployments.rollback_all(refs, TERMS))
    assert {serving(world, ref.name).config["user.version"] for ref in refs} == {"2"}, "no other one went back"


def test_waves_say_how_many_are_done_after_each() -> None:
    ten = [str(number) for number in range(10)]
    sizes = [len(wave) for wave in split_waves(ten, [parse_wave(text) for text in ("1", "10%", "50%", "100%")])]
    assert sizes == [1, 4, 5]
    assert [len(wave) for wave in split_waves(ten, range(4, 14, 4))] == [4, 4, 2]
    assert split_waves(["a", "b"], ()) == [["a"], ["b"]] and split_waves(["a"], [parse_wave("1%")]) == [["a"]]
    for wrong in ("", "0", "-1", "101%", "1.5", "%", "9" * 9, "١"):
        with pytest.raises(InvalidInput):
            parse_wave(wrong)


def test_long_names_have_distinct_versions() -> None:
    one, other = "a" * 63, "a" * 62 + "b"
    made = {beside_name(name, suffix) for name in (one, other) for suffix in ("next", "previous")}
    assert len(made) == 4 and all(len(name) <= 63 for name in made) and beside_name("web", "next") == "web-next"
