"""Restarts of the daemon: instances keep running, interrupted changes are completed, and a boot starts instances."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from channels import eventually
from memory_audit import differences, settle
from strike import Fate, Strike

from isola.daemon.bootstrap import NETWORK, POOL, bootstrap
from isola.daemon.build import build
from isola.errors import WrongState
from isola.host.mounts import MemoryMount
from isola.model.event import EventKind
from isola.model.instance import Desired, Status
from isola.model.profile import Profile
from isola.model.reference import Ref
from isola.testing.host import fake_host
from isola.testing.parts import World
from isola.testing.store import FakeStore


def statuses(world: World) -> dict[str, Status]:
    instances = world.parts.services.instances
    return {instance.name: instances.status(instance) for instance in instances}


async def again(world: World) -> None:
    """Stop the daemon and start it again."""
    await world.parts.close()
    await world.start()


async def booted(world: World) -> None:
    """Reboot the host: nothing runs, nothing is mounted, and the boot id differs."""
    await world.parts.close()
    for id in list(world.runtime.instances):
        world.runtime.end(id)
        del world.runtime.instances[id]
    for mount in list(world.host.mounts.table):
        await world.host.mounts.unmount(mount.target)
    await world.host.links.delete(*await world.host.links.names("is"))
    world.host.system.boot = f"{world.host.system.boot[:-1]}{int(world.host.system.boot[-1], 16) ^ 1:x}"
    await world.start()


@pytest.mark.parametrize("ephemeral", [True, False])
async def test_what_rebooted_meanwhile_is_started_again(world: World, ephemeral: bool) -> None:
    instance = await world.create("web1", start=True, ephemeral=ephemeral)
    await world.parts.close()
    world.runtime.reboot(instance.id)
    await world.start()
    await eventually(lambda: statuses(world) == {"web1": Status.RUNNING})
    assert world.on_host("web1").status is None and not await differences(world)


async def test_what_rebooted_meanwhile_and_then_lost_its_host_goes_by_autostart(world: World) -> None:
    instance = await world.create("web1", start=True, config={"boot.autostart": "false"})
    await world.parts.close()
    world.runtime.reboot(instance.id)
    await booted(world)
    await settle(world)
    assert statuses(world) == {"web1": Status.STOPPED} and not await differences(world)


async def test_running_instances_keep_running_and_are_supervised(world: World) -> None:
    await world.create("web1", start=True, config={"limits.cpu": "1"})
    await world.create("web2", start=True)
    await world.finish(world.parts.services.instances.pause(Ref.default("web2")))
    before = {name: world.on_host(name).number for name in ("web1", "web2")}
    await again(world)
    assert statuses(world) == {"web1": Status.RUNNING, "web2": Status.FROZEN}
    assert {name: world.on_host(name).number for name in before} == before
    assert not await differences(world)
    world.runtime.end(world.parts.services.instances.get(Ref.default("web1")).id)
    await eventually(lambda: statuses(world)["web1"] is Status.STOPPED)
    await world.finish(world.parts.services.instances.stop(Ref.default("web2")))
    assert not await differences(world)


@pytest.mark.parametrize("verb", ["", "start", "restart", "stop", "delete"])
async def test_an_instance_that_cannot_be_inspected_is_not_considered_dead(world: World, verb: str) -> None:
    await world.create("web1", start=True)
    before = world.on_host("web1").number
    wired = {place: id(pair) for place, (pair, _) in world.host.links.inside.items()}
    world.runtime.blind = 1
    await again(world)
    assert statuses(world)["web1"] is Status.ERROR and world.on_host("web1").number == before
    instances = world.parts.services.instances
    if verb in ("", "start"):
        if verb:
            with contextlib.suppress(WrongState):  # it runs by then if the daemon has checked again
                await world.finish(instances.start(Ref.default("web1")))
        await eventually(lambda: statuses(world)["web1"] is Status.RUNNING)
        assert statuses(world)["web1"] is Status.RUNNING and world.on_host("web1").number == before
        assert {place: id(pair) for place, (pair, _) in world.host.links.inside.items()} == wired
    else:
        await world.finish(
            instances.delete(Ref.default("web1"), force=True)
            if verb == "delete"
            else getattr(instances, verb)(Ref.default("web1"))
        )
    assert not await differences(world)


async def test_instances_that_ended_meanwhile_are_cleaned_up(world: World) -> None:
    kept = await world.create("web1", start=True)
    gone = await world.create("web2", start=True, ephemeral=True)
    await world.parts.close()
    for instance in (kept, gone):
        world.runtime.end(instance.id)
    await world.start()
    assert statuses(world) == {"web1": Status.STOPPED}
    assert not await differences(world)


async def test_after_a_boot_running_and_autostart_instances_run(world: World) -> None:
    await world.create("ran", start=True)
    await world.create("stopped")
    await world.create("auto", config={"boot.autostart": "true"})
    await booted(world)
    assert statuses(world) == {"auto": Status.RUNNING, "ran": Status.RUNNING, "stopped": Status.STOPPED}
    assert not await differences(world)
    await world.finish(world.parts.services.instances.stop(Ref.default("auto")))
    await again(world)
    assert statuses(world)["auto"] is Status.STOPPED


async def test_after_a_boot_instances_start_by_priority(world: World) -> None:
    for name, priority in (("last", "0"), ("first", "20"), ("second", "10")):
        await world.create(name, start=True, config={"boot.autostart.priority": priority})
    await booted(world)
    started = sorted(world.runtime.instances.values(), key=lambda instance: instance.number)
    assert [instance.spec.hostname for instance in started] == ["first", "second", "last"]


async def test_an_instance_that_cannot_be_started_delays_no_other(world: World) -> None:
    broken = await world.create("broken", start=True)
    await world.create("fine", start=True)
    record = dataclasses.replace(broken, runtime="gone", desired=Desired.RUNNING)
    await world.parts.records.instances.change(Ref.default("broken"), lambda _: record)
    await booted(world)
    assert statuses(world) == {"broken": Status.ERROR, "fine": Status.RUNNING}
    assert "gone" in world.context.faults[broken.id].why


async def test_a_daemon_reads_records_of_a_newer_version(world: World) -> None:
    """Unknown fields are ignored, missing ones get their default."""
    await world.create("web1", start=True)
    entry = await world.store.get("/instances/default/web1")
    assert entry is not None
    text = entry.value.replace(b'"ephemeral":false,', b'"from_the_future":{"x":[1]},')
    assert text != entry.value
    await world.store.put("/instances/default/web1", text)
    await again(world)
    assert statuses(world) == {"web1": Status.RUNNING} and not await differences(world)


# --- shutdown -------------------------------------------------------------------------------------------------------


async def test_a_shutdown_stops_all_and_the_next_start_restarts_them(world: World) -> None:
    await world.create("web1", start=True)
    await world.create("web2", start=True, ephemeral=True)
    await world.create("web3")
    await world.parts.shutdown()
    assert not world.runtime.instances and not world.host.mounts.table
    assert await world.host.links.names("is") == () and await world.host.firewall.tables() == ()
    await world.parts.close()
    await world.start()
    assert statuses(world) == {"web1": Status.RUNNING, "web3": Status.STOPPED}
    assert not await differences(world)


async def test_the_files_of_runs_are_in_memory_as_long_as_an_instance_runs(world: World) -> None:
    def in_memory() -> list[MemoryMount]:
        memory = [mount for mount in world.host.mounts.table if isinstance(mount, MemoryMount)]
        return [mount for mount in memory if mount.target == world.directory / "run"]

    await world.create("web1", start=True)
    runs = world.directory / "run"
    await world.host.files.make_directory(runs / "0123456789abcdef")
    assert await world.host.mounts.mounted(world.directory / "netns"), "as are those of network namespaces"
    assert [mount.target for mount in in_memory()] == [runs]
    await again(world)
    assert len(in_memory()) == 1 and await world.host.files.names(runs) == ("0123456789abcdef",)
    await world.host.files.remove_tree(runs / "0123456789abcdef")
    await world.parts.shutdown()
    await world.parts.close()
    assert not world.host.mounts.table
    await world.host.files.make_directory(runs / "0123456789abcdef")
    await world.start()
    assert not in_memory(), "an older daemon's runs are on disk"


async def test_a_shutdown_stops_by_priority_and_kills_after_the_timeout(world: World) -> None:
    ended: list[str] = []
    names = {}
    for name, priority in (("last", "0"), ("first", "5")):
        config = {"boot.stop.priority": priority, "boot.host_shutdown_timeout": "0"}
        names[(await world.create(name, start=True, config=config)).id] = name
    world.runtime.ends_on = frozenset({9})
    remove = world.runtime.remove

    async def remember(id: str) -> None:
        ended.append(names[id])
        await remove(id)

    world.runtime.remove = remember  # type: ignore[method-assign]
    await world.parts.services.instances.shutdown()
    assert ended == ["first", "last"]


async def test_a_shutdown_does_not_wait_for_a_stop_that_never_ends(world: World) -> None:
    await world.create("web1", start=True, config={"boot.host_shutdown_timeout": "0"})
    await world.create("web2", start=True)
    world.runtime.ends_on = frozenset({9})
    stopping = world.parts.services.instances.stop(Ref.default("web1"), timeout=None)
    await eventually(lambda: world.on_host("web1").signals)
    world.runtime.ends_on = frozenset({9, 30})
    await world.parts.services.instances.shutdown()
    assert stopping.status.final and not world.runtime.instances


# --- the first start ------------------------------------------------------------------------------------------------


async def test_the_first_start_makes_a_pool_a_network_and_a_profile_once(world: World) -> None:
    services = world.parts.services
    assert [pool.name for pool in services.pools] == [POOL] and [net.name for net in services.networks] == [NETWORK]
    await services.profiles.update(
        Ref.default("default"),
        lambda _: Profile("default", "mine", {}, {"root": {"type": "disk", "path": "/", "pool": POOL}}),
    )
    await world.finish(
        services.operations.start("Deleting network", lambda op: services.networks.delete(op, Ref.default(NETWORK)))
    )
    await again(world)
    assert [net.name for net in world.parts.services.networks] == []
    assert world.parts.services.profiles.get(Ref.default("default")).description == "mine"


@pytest.mark.parametrize("operation", ["Creating storage pool", "Creating network"])
async def test_a_first_start_that_dies_is_finished_by_the_next(operation: str) -> None:
    hits = 0
    while True:
        strike = Strike(operation, hits, "fail")
        world = World(observer=Fate(strike))
        await world.start()
        if not strike.hit.is_set():
            break
        world.observer = Fate()
        await world.start()
        await world.import_image()
        await world.create("web1", start=True)
        assert not await differences(world), strike.points[-1]
        world.forget()
        hits += 1
    world.forget()
    assert hits >= 4


async def test_a_minimal_daemon_has_a_profile_and_nothing_else() -> None:
    host = fake_host()
    parts = await build(host, Path("/isola/minimal"), FakeStore(host.clock))
    await parts.open()
    await bootstrap(parts, minimal=True)
    assert len(parts.services.networks) == 0 and list(parts.services.pools) == []
    assert parts.services.profiles.get(Ref.default("default")).devices == {}
    await parts.close()


async def test_daemons_on_one_host_leave_each_other_alone() -> None:
    host = fake_host()
    worlds = [World(host, Fate(), Path(f"/isola/side-{number}")) for number in range(2)]
    for world in worlds:
        await world.start()
        await world.import_image()
        await world.create("web1", start=True)
    for world in worlds:
        await again(world)
    await worlds[0].parts.shutdown()
    assert worlds[1].on_host("web1").status is None
    assert len(await host.links.names(worlds[1].parts.services.names.short)) == 2
    assert not await host.links.names(worlds[0].parts.services.names.short)
    for world in worlds:
        world.forget()


async def test_closing_ends_followers_and_cancels_what_can_be_cancelled(world: World) -> None:
    await world.create("web1", start=True)
    world.runtime.ends_on = frozenset({9})
    stopping = world.parts.services.instances.stop(Ref.default("web1"), timeout=None)
    await eventually(lambda: world.on_host("web1").signals)
    follower = world.parts.services.events.follow([EventKind.LIFECYCLE])
    await world.parts.close()
    assert [event async for event in follower] == []
    assert stopping.status.final and world.on_host("web1").status is None


async def test_a_watcher_of_an_old_daemon_does_nothing_after_its_close(world: World) -> None:
    instance = await world.create("web1", start=True)
    await world.parts.close()
    world.runtime.end(instance.id)
    await settle(world)
    assert [record.desired for record in world.parts.records.instances] == ["running"]


CHANGING = "last_state.changing"


@pytest.mark.parametrize("change", [{"limits.memory": "512MiB"}, {"limits.cpu": "1"}, {"user.x": "1"}])
async def test_a_changed_profile_leaves_nics_alone_at_the_next_start(world: World, change: dict[str, str]) -> None:
    for number in range(4):
        await world.create(f"web{number}", start=True)
    profile = world.parts.services.profiles.get(Ref.default("default"))
    await world.parts.services.profiles.update(
        Ref.default("default"), lambda found: Profile(found.name, "", change, profile.devices)
    )
    assert not any(CHANGING in instance.volatile for instance in world.parts.records.instances)
    wired = {place: id(pair) for place, (pair, _) in world.host.links.inside.items()}
    await again(world)
    assert {place: id(pair) for place, (pair, _) in world.host.links.inside.items()} == wired
    assert len(wired) == 4 and not await differences(world)


async def test_partly_set_limits_are_set_again_without_touching_nics(world: World) -> None:
    instance = await world.create("web1", start=True, config={"limits.memory": "512MiB"})
    marked = dataclasses.replace(
        world.parts.records.instances.get(Ref.default("web1")), volatile=dict(instance.volatile) | {CHANGING: "limits"}
    )
    await world.parts.records.instances.change(Ref.default("web1"), lambda _: marked)
    world.on_host("web1").limits = dataclasses.replace(world.on_host("web1").limits, memory=1 << 30)
    wired = {place: id(pair) for place, (pair, _) in world.host.links.inside.items()}
    await again(world)
    assert {place: id(pair) for place, (pair, _) in world.host.links.inside.items()} == wired
    assert world.on_host("web1").limits.memory == 512 << 20
    assert CHANGING not in world.parts.records.instances.get(Ref.default("web1")).volatile


async def test_a_start_writes_no_unchanged_record(world: World) -> None:
    await world.create("stopped")
    await world.create("running", start=True)
    await again(world)
    before = world.store._revision
    await again(world)
    assert world.store._revision == before
