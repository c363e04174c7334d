"""The lifecycle of instances, verb by verb, over a host in memory."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from channels import eventually
from heard import lifecycle
from instance_updates import change, update
from instance_verbs import NIC_ONE as NIC
from instance_verbs import ROOT
from memory_audit import differences, settle

from isola.errors import Busy, IsolaError, TimedOut, WrongState
from isola.instances.identity import nics_of
from isola.model.event import EventKind
from isola.model.instance import InstanceRequest, Status
from isola.model.network import Network, NetworkNamespace
from isola.model.operation import OperationStatus
from isola.model.profile import Profile
from isola.model.reference import Ref
from isola.testing.parts import HostedRuntime, World
from isola.testing.vm import FakeVm

pytestmark = pytest.mark.parametrize("world", [HostedRuntime, FakeVm], ids=["container", "vm"], indirect=True)
HALT = 30
"""SIGPWR, on which the image's init halts."""


def status(world: World, name: str = "web1") -> Status:
    instances = world.parts.services.instances
    return instances.status(instances.get(Ref.default(name)))


def wanted(world: World, **more: Any) -> InstanceRequest:
    return InstanceRequest(isolation=world.isolation, **more)


# --- create ---------------------------------------------------------------------------------------------------------


async def test_an_instance_is_created_from_image_profile_and_request(world: World) -> None:
    instance = await world.create("web1", config={"user.x": "1"}, description="a web server")
    assert status(world) is Status.STOPPED
    assert instance.image_properties["os"] == "Tiny" and instance.description == "a web server"
    config, devices = world.parts.services.instances.expanded(instance)
    assert config["user.x"] == "1" and config["image.os"] == "Tiny" and config["volatile.base_image"] == instance.image
    assert set(devices) == {"root", "eth0"}
    assert not await differences(world)


async def test_an_image_s_profiles_are_used_where_the_request_names_none(world: World) -> None:
    services = world.parts.services
    await services.profiles.create(Profile("web", "", {"limits.processes": "77"}, {"root": ROOT}))
    image = services.images.resolve(Ref.default("tiny"))
    assert image is not None
    await services.images.update(image.ref, lambda found: dataclasses.replace(found, profiles=("web",)))
    instance = await world.create("web1")
    assert instance.profiles == ("web",)
    assert services.instances.expanded(instance)[0]["limits.processes"] == "77"
    assert (await world.create("web2", profiles=("default",))).profiles == ("default",)
    await services.images.update(image.ref, lambda found: dataclasses.replace(found, profiles=()))
    assert (await world.create("web3", devices={"root": ROOT})).profiles == ()


async def test_the_last_use_of_an_image_is_recorded(world: World) -> None:
    images = world.parts.services.images
    fingerprint = images.alias(Ref.default("tiny")).target
    assert images.get(Ref.default(fingerprint)).last_used_at is None
    await world.create("web1")
    first = images.get(Ref.default(fingerprint)).last_used_at
    assert first is not None and first <= world.host.clock.now()
    revision = images.revision(Ref.default(fingerprint))
    await world.create("web2")
    assert images.revision(Ref.default(fingerprint)) == revision, "launches in quick succession write it once"
    await world.host.clock.advance(61)
    await world.create("web3")
    last = images.get(Ref.default(fingerprint)).last_used_at
    assert last is not None and first + timedelta(seconds=61) <= last <= world.host.clock.now()


async def test_the_architecture_is_the_image_s_whatever_the_client_says(world: World) -> None:
    instance = await world.create("web1", architecture="riscv64")
    assert instance.architecture == "x86_64"


async def test_every_instance_has_ids_addresses_and_a_mac_of_its_own(world: World) -> None:
    made = [await world.create(f"web{number}") for number in range(5)]
    assert len({instance.idmap.base for instance in made}) == 5
    assert len({instance.volatile["uuid"] for instance in made}) == 5
    for fact in ("hwaddr", "ipv4", "ipv6"):
        assert len({instance.plugged["eth0"].facts[fact] for instance in made}) == 5


async def test_creating_at_once_shares_the_layer_and_nothing_else(world: World) -> None:
    requests = [wanted(world, name=f"web{number}", image="tiny", start=True) for number in range(8)]
    operations = [world.parts.services.instances.create(request) for request in requests]
    await asyncio.gather(*(world.finish(operation) for operation in operations))
    assert all(status(world, request.name or "") is Status.RUNNING for request in requests)
    assert not await differences(world)


async def test_without_a_name_an_unused_one_is_generated(world: World) -> None:
    for _ in range(2):
        await world.finish(world.parts.services.instances.create(wanted(world, image="tiny")))
    names = [instance.name for instance in world.parts.services.instances]
    assert len(set(names)) == 2


async def test_an_empty_instance_needs_no_image(world: World) -> None:
    instance = await world.create("empty", image=None)
    assert instance.start.layers == () and instance.image == ""
    assert not await differences(world)


async def test_concurrent_creations_with_one_name_create_one(world: World) -> None:
    first = world.parts.services.instances.create(wanted(world, name="web1", image="tiny"))
    with pytest.raises(Busy):
        world.parts.services.instances.create(wanted(world, name="web1", image="tiny"))
    await world.finish(first)
    with pytest.raises(IsolaError) as caught:
        world.parts.services.instances.create(wanted(world, name="web1", image="tiny"))
    assert caught.value.code == "already_exists" and caught.value.remedy


async def test_an_instance_that_does_not_start_stays_and_is_stopped(world: World) -> None:
    await world.import_image("broken", **{"isola.command": "/no/such/program"})
    operation = world.parts.services.instances.create(wanted(world, name="web1", image="broken", start=True))
    await operation.wait(5)
    assert operation.view().error_code == "host_failure"
    assert status(world) is Status.STOPPED
    assert not await differences(world)


DEAD = (b"\x1b[1;31mFailed to create control group inotify object\x1b[0m\r\nExiting PID 1...\r\n", 255)


async def test_a_system_that_dies_at_once_is_a_failed_start_with_a_reason(world: World) -> None:
    world.runtime.dying["/sbin/init"] = DEAD
    operation = world.parts.services.instances.create(wanted(world, name="web1", image="tiny", start=True))
    await operation.wait(5)
    view = operation.view()
    assert (view.error_code, view.status) == ("host_failure", OperationStatus.FAILURE)
    assert "status 255" in view.error
    assert "Failed to create control group inotify object\nExiting PID 1..." in view.error and "\x1b" not in view.error
    assert status(world) is Status.STOPPED and not await differences(world)
    log = (await world.parts.services.instances.logs.last_start(Ref.default("web1"))).decode()
    assert "The start failed" in log and log.count("inotify object") == 2, "the reason, and the console"
    world.runtime.dying.clear()
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert not await differences(world)


async def test_a_start_that_fails_before_anything_is_shown_leaves_its_reason_in_the_log(world: World) -> None:
    await world.import_image("broken", **{"isola.command": "/no/such/program"})
    with pytest.raises(IsolaError):
        await world.create("web1", start=True, image="broken")
    assert b"no such file or directory" in await world.parts.services.instances.logs.last_start(Ref.default("web1"))


@pytest.mark.parametrize(("code", "then"), [(0, Status.STOPPED), (129, Status.RUNNING)])
async def test_applications_that_end_at_once_have_started(world: World, code: int, then: Status) -> None:
    world.runtime.dying["/sbin/init"] = (b"", code)
    operation = world.parts.services.instances.create(wanted(world, name="web1", image="tiny", start=True))
    await operation.wait(5)
    assert operation.error is None
    world.runtime.dying.clear()
    await eventually(lambda: status(world) is then)
    assert not await differences(world)


@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
async def test_the_next_verb_cleans_up_what_could_not_be_rolled_back(world: World, verb: str) -> None:
    await world.create("web1")
    world.runtime.dying["/sbin/init"] = DEAD
    world.runtime.keeps = True
    with pytest.raises(IsolaError):
        await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert status(world) is Status.ERROR
    world.runtime.dying.clear()
    with pytest.raises(IsolaError, match="too many open files"):
        await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert status(world) is Status.ERROR, "it is still marked"
    world.runtime.keeps = False
    await world.finish(getattr(world.parts.services.instances, verb)(Ref.default("web1")))
    assert not world.context.faults and not await differences(world)


async def test_an_end_that_cannot_be_inspected_is_noticed_later(world: World) -> None:
    world.runtime.blind = 3
    instance = await world.create("web1", start=True)
    await eventually(lambda: world.runtime.blind == 0)
    world.runtime.end(instance.id)
    await eventually(lambda: status(world) is Status.STOPPED)
    assert not await differences(world)


async def test_requested_addresses_and_none(world: World) -> None:
    gateway = world.parts.services.networks.gateways(Ref.default("isolabr0"))[0]
    wanted = gateway.rpartition(".")[0] + ".77"
    first = await world.create("web1", devices={"eth0": NIC | {"ipv4.address": wanted, "ipv6.address": "none"}})
    assert first.plugged["eth0"].facts["ipv4"] == wanted and "ipv6" not in first.plugged["eth0"].facts
    with pytest.raises(IsolaError) as caught:
        await world.create("web2", devices={"eth0": NIC | {"ipv4.address": wanted}})
    assert caught.value.code == "already_exists"
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert not await differences(world)


async def test_a_nic_takes_the_mtu_of_its_network_at_the_next_start(world: World) -> None:
    services = world.parts.services
    await world.create("web1", start=True)

    def smaller(network: Network) -> Network:
        return dataclasses.replace(network, config=dict(network.config) | {"bridge.mtu": "1400"})

    await world.finish(
        services.operations.start("t", lambda op: services.networks.update(op, Ref.default("isolabr0"), smaller))
    )
    assert (await services.networks.state(Ref.default("isolabr0")))["mtu"] == 1400

    def on_nics() -> list[int]:
        links, run = world.host.links, world.on_host("web1").spec
        if run.nics:
            return [links.taps[nic.link].mtu for nic in run.nics if links.taps[nic.link].mtu == nic.mtu]
        return [pair.mtu for (place, _), (pair, _) in links.inside.items() if NetworkNamespace(place) == run.network]

    assert on_nics() == [1500]
    await world.finish(services.instances.stop(Ref.default("web1"), force=True))
    await world.finish(services.instances.start(Ref.default("web1")))
    assert on_nics() == [1400]


async def test_a_failed_nic_leaves_no_address_reserved(world: World) -> None:
    other = NIC | {"name": "eth1", "ipv4.address": "192.0.2.1"}
    with pytest.raises(IsolaError) as caught:
        await world.create("web1", devices={"eth1": other})
    assert caught.value.field == "ipv4.address"
    assert "web1" not in [instance.name for instance in world.parts.services.instances]
    assert not await differences(world)


# --- start and stop -------------------------------------------------------------------------------------------------


async def test_start_gives_root_network_limits_and_environment(world: World) -> None:
    config = {"limits.memory": "1GiB", "limits.processes": "99", "environment.COLOUR": "blue"}
    instance = await world.create("web1", start=True, config=config)
    seen = world.on_host("web1")
    assert seen.started and seen.spec.hostname == "web1" and seen.spec.environment["COLOUR"] == "blue"
    assert (seen.limits.memory, seen.limits.processes) == (1 << 30, 99)
    state = await world.parts.services.instances.state(instance)
    assert state.status is Status.RUNNING and state.memory_total == 1 << 30 and state.started_at is not None
    assert [(nic.name, nic.hwaddr) for nic in state.network if nic.name != "lo"] == [
        ("eth0", instance.plugged["eth0"].facts["hwaddr"])
    ]


async def test_a_clean_stop_uses_the_runtimes_method(world: World) -> None:
    await world.create("web1", start=True)
    seen = world.on_host("web1")
    await world.finish(world.parts.services.instances.stop(Ref.default("web1")))
    assert seen.stops == 1 and status(world) is Status.STOPPED
    assert seen.signals == ([HALT] if world.runtime.capabilities.shares_kernel else [])
    assert not await differences(world)


async def test_a_system_that_did_not_hear_a_request_is_asked_again(world: World) -> None:
    await world.create("web1", start=True)
    seen, hears = world.on_host("web1"), world.runtime.ends_on
    world.runtime.ends_on = frozenset({9})
    stopping = asyncio.create_task(world.finish(world.parts.services.instances.stop(Ref.default("web1"))))
    await eventually(lambda: seen.stops)
    world.runtime.ends_on = hears
    await stopping
    assert seen.stops == 2 and status(world) is Status.STOPPED and not await differences(world)


async def test_a_program_is_asked_to_stop_only_once(world: World) -> None:
    await world.create("web1")
    await world.context.records.change(
        Ref.default("web1"),
        lambda found: dataclasses.replace(found, start=dataclasses.replace(found.start, system=False)),
    )
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    world.runtime.ends_on = frozenset({9})
    with pytest.raises(TimedOut):
        await world.finish(world.parts.services.instances.stop(Ref.default("web1"), timeout=0.8))
    assert world.on_host("web1").stops == 1


async def test_an_instance_that_ignores_the_stop_runs_until_it_is_killed(world: World) -> None:
    await world.create("web1", start=True)
    world.runtime.ends_on = frozenset({9})
    with pytest.raises(TimedOut) as caught:
        await world.finish(world.parts.services.instances.stop(Ref.default("web1"), timeout=0.01))
    assert "may still stop" in caught.value.evidence and "runs on" not in str(caught.value)
    assert status(world) is Status.RUNNING and not await differences(world)
    await world.finish(world.parts.services.instances.stop(Ref.default("web1"), timeout=None, force=True))
    assert status(world) is Status.STOPPED and not await differences(world)


async def test_a_stop_without_end_can_be_cancelled(world: World) -> None:
    await world.create("web1", start=True)
    world.runtime.ends_on = frozenset({9})
    operation = world.parts.services.instances.stop(Ref.default("web1"), timeout=None)
    await eventually(lambda: world.on_host("web1").stops)
    operation.cancel()
    await operation.wait(2)
    assert operation.status is OperationStatus.CANCELLED
    assert status(world) is Status.RUNNING and not await differences(world)


async def test_an_instance_that_ends_after_a_cancelled_stop_is_cleaned_up(world: World) -> None:
    instance = await world.create("web1", start=True)
    world.runtime.ends_on = frozenset({9})
    with pytest.raises(TimedOut):
        await world.finish(world.parts.services.instances.stop(Ref.default("web1"), timeout=0.01))
    world.runtime.end(instance.id)
    await eventually(lambda: status(world) is Status.STOPPED)
    assert not await differences(world)


async def test_restart_is_a_new_program_with_the_same_addresses(world: World) -> None:
    instance = await world.create("web1", start=True)
    before = world.on_host("web1").number
    await world.finish(world.parts.services.instances.restart(Ref.default("web1")))
    after = world.parts.services.instances.get(Ref.default("web1"))
    assert world.on_host("web1").number != before
    assert nics_of(world.context, after) == nics_of(world.context, instance)
    assert not await differences(world)


async def test_pause_resume_and_what_a_frozen_instance_refuses(world: World) -> None:
    await world.create("web1", start=True)
    instances = world.parts.services.instances
    await world.finish(instances.pause(Ref.default("web1")))
    assert status(world) is Status.FROZEN and world.on_host("web1").frozen
    with pytest.raises(WrongState):
        await world.finish(instances.pause(Ref.default("web1")))
    await world.finish(instances.resume(Ref.default("web1")))
    assert status(world) is Status.RUNNING and not world.on_host("web1").frozen
    with pytest.raises(WrongState):
        await world.finish(instances.resume(Ref.default("web1")))
    await world.finish(instances.pause(Ref.default("web1")))
    await world.finish(instances.stop(Ref.default("web1")))
    assert status(world) is Status.STOPPED


async def test_one_verb_at_a_time(world: World) -> None:
    await world.create("web1", start=True)
    instances = world.parts.services.instances
    stopping = instances.stop(Ref.default("web1"))
    for verb in (instances.restart, instances.pause, instances.start):
        with pytest.raises(Busy, match="Stopping instance"):
            verb(Ref.default("web1"))
    again = instances.stop(Ref.default("web1"))
    await world.finish(stopping)
    await world.finish(again)
    assert status(world) is Status.STOPPED and again.waited


@pytest.mark.parametrize(
    ("before", "verb", "after"),
    [
        ("stopped", "start", Status.RUNNING),
        ("running", "stop", Status.STOPPED),
        ("running", "pause", Status.FROZEN),
        ("frozen", "resume", Status.RUNNING),
    ],
)
async def test_the_same_request_twice_is_done_once(world: World, before: str, verb: str, after: Status) -> None:
    instances = world.parts.services.instances
    await world.create("web1", start=before != "stopped")
    if before == "frozen":
        await world.finish(instances.pause(Ref.default("web1")))
    for operation in [getattr(instances, verb)(Ref.default("web1")) for _ in range(3)]:
        await world.finish(operation)
    assert status(world) is after and not await differences(world)


async def test_deletions_and_changes_wait_for_their_turn(world: World) -> None:
    await world.create("web1", start=True)
    instances = world.parts.services.instances
    waiting = [
        instances.stop(Ref.default("web1")),
        instances.update(Ref.default("web1"), lambda _: change(description="first")),
        instances.update(Ref.default("web1"), lambda found: change(description=found.description + " second")),
        instances.rename(Ref.default("web1"), "web2"),
    ]
    for operation in waiting:
        await world.finish(operation)
    assert instances.get(Ref.default("web2")).description == "first second"
    for operation in [instances.delete(Ref.default("web2")) for _ in range(2)]:
        await world.finish(operation)
    assert not len(instances) and not await differences(world)


@pytest.mark.parametrize("verb", ["stop", "delete", "restart"])
async def test_force_does_not_wait_for_a_running_stop(world: World, verb: str) -> None:
    await world.create("web1", start=True)
    instances = world.parts.services.instances
    world.runtime.ends_on = frozenset({9})
    hopeless = instances.stop(Ref.default("web1"), timeout=None)
    await eventually(lambda: world.on_host("web1").stops)
    others = [instances.update(Ref.default("web1"), lambda _: change(description="later"))]
    await asyncio.wait_for(world.finish(getattr(instances, verb)(Ref.default("web1"), force=True)), 60)
    await asyncio.wait([asyncio.ensure_future(other.wait(2)) for other in (hopeless, *others)])
    assert hopeless.status is OperationStatus.CANCELLED and not await differences(world)


# --- ends from inside -----------------------------------------------------------------------------------------------


async def test_halted_from_inside(world: World) -> None:
    instance = await world.create("web1", start=True)
    events = world.parts.services.events.follow([EventKind.LIFECYCLE])
    world.runtime.end(instance.id)
    await eventually(lambda: status(world) is Status.STOPPED)
    assert not await differences(world)
    assert [lifecycle(await anext(aiter(events))).action] == ["instance-shutdown"]


async def test_rebooted_from_inside(world: World) -> None:
    instance = await world.create("web1", start=True)
    before = world.on_host("web1").number
    world.runtime.reboot(instance.id)
    await eventually(lambda: instance.id in world.runtime.instances and world.on_host("web1").number != before)
    await settle(world)
    assert status(world) is Status.RUNNING and not await differences(world)


@pytest.mark.parametrize("how", ["stopped", "ended", "restarted"])
async def test_ephemeral_instances_are_deleted_at_their_end_but_not_at_a_restart(how: str, world: World) -> None:
    instance = await world.create("web1", start=True, ephemeral=True)
    instances = world.parts.services.instances
    if how == "stopped":
        await world.finish(instances.stop(Ref.default("web1")))
    elif how == "restarted":
        await world.finish(instances.restart(Ref.default("web1")))
        assert status(world) is Status.RUNNING
        return
    else:
        world.runtime.end(instance.id)
        await eventually(lambda: len(instances) == 0)
    assert len(instances) == 0 and not await differences(world)


# --- rename, delete -------------------------------------------------------------------------------------------------


async def test_rename_keeps_everything_but_the_name(world: World) -> None:
    before = await world.create("web1")
    await world.finish(world.parts.services.instances.rename(Ref.default("web1"), "db1"))
    after = world.parts.services.instances.get(Ref.default("db1"))
    assert (after.id, after.volatile, after.idmap) == (before.id, before.volatile, before.idmap)
    assert len(world.parts.services.instances) == 1
    await world.finish(world.parts.services.instances.start(Ref.default("db1")))
    assert world.on_host("db1").spec.hostname == "db1" and not await differences(world)


async def test_a_running_instance_is_renamed_on_request(world: World) -> None:
    await world.create("web1", start=True)
    instances = world.parts.services.instances
    with pytest.raises(WrongState):
        instances.rename(Ref.default("web1"), "db1")
    await world.finish(instances.rename(Ref.default("web1"), "db1", running=True))
    assert instances.status(instances.get(Ref.default("db1"))) is Status.RUNNING
    assert await differences(world) == ["db1 calls itself web1"], "until its next start"
    assert world.parts.services.instances.status(instances.get(Ref.default("db1"))) is Status.RUNNING
    await world.finish(world.parts.services.instances.restart(Ref.default("db1"), force=True))
    assert world.on_host("db1").spec.hostname == "db1" and not await differences(world)


async def test_delete_leaves_nothing_but_the_image(world: World) -> None:
    await world.create("web1", start=True)
    with pytest.raises(WrongState):
        world.parts.services.instances.delete(Ref.default("web1"))
    await world.finish(world.parts.services.instances.delete(Ref.default("web1"), force=True))
    assert len(world.parts.services.instances) == 0 and not await differences(world)


async def test_protected_instances_are_not_deleted(world: World) -> None:
    await world.create("web1", config={"security.protection.delete": "true"})
    with pytest.raises(IsolaError) as caught:
        world.parts.services.instances.delete(Ref.default("web1"), force=True)
    assert caught.value.code == "forbidden" and "security.protection.delete" in caught.value.remedy
    await update(world)
    await world.finish(world.parts.services.instances.delete(Ref.default("web1")))


async def test_a_nic_is_added_and_removed_while_it_runs(world: World) -> None:
    await world.create("web1", start=True)
    second = NIC | {"name": "eth1"}
    await update(world, devices={"eth1": second})
    assert not await differences(world)
    assert len(nics_of(world.context, world.parts.services.instances.get(Ref.default("web1")))) == 2
    await update(world)
    assert not await differences(world)
    assert len(await world.host.links.names(world.context.names.short)) >= 1


async def test_limits_files_and_commands_of_what_runs(world: World) -> None:
    instances = world.parts.services.instances
    instance = await world.create("web1", start=True)
    await update(world, config={"limits.processes": "77"})
    assert world.on_host("web1").limits.processes == 77
    async with instances.files(Ref.default("web1")) as root:
        assert (await root.stat("/sbin/init")).kind == "file"
    state = await instances.state(instance)
    assert {"lo", "eth0"} <= {seen.name for seen in state.network}
    assert (state.pid > 0) == world.runtime.capabilities.shares_kernel
    assert not await differences(world)


async def test_a_deletion_that_failed_is_finished_by_the_next(world: World) -> None:
    instance = await world.create("web1")
    world.host.mounts.table.clear()
    logs = world.context.logs(instance)
    await world.host.files.make_directory(logs)
    busy = world.host.files._find(logs)
    busy.mounts.append(busy)
    operation = world.parts.services.instances.delete(Ref.default("web1"))
    await operation.wait(2)
    assert operation.view().error_code == "host_failure" and status(world) is Status.ERROR
    for refused in (
        lambda: world.parts.services.instances.start(Ref.default("web1")),
        lambda: world.parts.services.instances.rename(Ref.default("web1"), "web2"),
        lambda: world.parts.services.instances.update(Ref.default("web1"), lambda _: change()),
    ):
        with pytest.raises(WrongState, match="partly deleted"):
            refused()  # type: ignore[no-untyped-call]
    busy.mounts.clear()
    await world.finish(world.parts.services.instances.delete(Ref.default("web1")))
    assert not await differences(world)


async def test_an_instance_that_stops_after_the_time_given_is_as_stopped_as_any(world: World) -> None:
    await world.create("web1", start=True)
    world.runtime.ends_on = frozenset({9})
    with pytest.raises(TimedOut):
        await world.finish(world.parts.services.instances.stop(Ref.default("web1"), timeout=0.01))
    world.runtime.end(world.parts.services.instances.get(Ref.default("web1")).id)
    await eventually(lambda: status(world) is Status.STOPPED)
    assert not await differences(world)
