"""Snapshots of instances: consistent, restored, expired, scheduled; a crash leaves nothing incomplete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from instance_verbs import ROOT, VICTIM, running, stopped

from isola.errors import AlreadyExists, Forbidden, IsolaError, NotFound, Unsupported
from isola.instances.copy import Source
from isola.instances.quiesce import HELD
from isola.instances.snapshots import Snapshots
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate, Status
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Ref
from isola.model.volume import VolumeRef
from isola.state import Intent
from isola.testing.parts import World


def snapshots(world: World) -> Snapshots:
    return world.parts.services.instances.snapshots


def victim(world: World) -> Instance:
    return world.parts.services.instances.get(VICTIM)


def names(world: World) -> list[str]:
    return [each.name for each in snapshots(world).of(victim(world))]


def file_of(world: World, instance: Instance) -> Path:
    """In its upper directory, which is read when the fake host mounts it."""
    return world.directory / "pools/default/volumes" / instance.id / "upper/file"


async def write(world: World, text: bytes) -> None:
    await world.host.files.write(file_of(world, victim(world)), text)


async def read(world: World) -> bytes:
    return await world.host.files.read(file_of(world, victim(world)))


async def update(world: World, **config: str) -> None:
    def decide(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(config=config, devices=found.devices, profiles=found.profiles)

    await world.finish(world.parts.services.instances.update(VICTIM, decide))


@pytest.fixture(params=(stopped, running), ids=("stopped", "running"))
async def either(request: pytest.FixtureRequest, world: World) -> AsyncIterator[World]:
    await request.param(world)
    yield world


async def test_a_restored_instance_equals_the_snapshot(either: World) -> None:
    world = either
    before = world.parts.services.instances.status(victim(world))
    await write(world, b"then")
    await update(world, **{"user.mark": "then"})
    await world.finish(snapshots(world).create(VICTIM))
    await write(world, b"now")
    await update(world, **{"user.mark": "now"})
    await world.finish(snapshots(world).restore(VICTIM, "snap0"))
    assert await read(world) == b"then"
    assert victim(world).config == {"user.mark": "then"}
    assert world.parts.services.instances.status(victim(world)) is before
    assert names(world) == ["snap0"]


async def test_a_restore_changes_the_generation_and_not_the_id(either: World) -> None:
    def ids() -> tuple[str, str]:
        return victim(either).volatile["uuid"], victim(either).volatile["uuid.generation"]

    uuid, generation = ids()
    assert uuid == generation
    await either.finish(snapshots(either).create(VICTIM))
    assert ids() == (uuid, generation)
    await either.finish(snapshots(either).restore(VICTIM, "snap0"))
    assert ids()[0] == uuid and ids()[1] != generation


async def test_names_follow_the_pattern(world: World) -> None:
    await stopped(world)
    for _ in range(2):
        await world.finish(snapshots(world).create(VICTIM))
    await update(world, **{"snapshots.pattern": "at-{{ creation_date|date:'2006-01-02' }}"})
    await world.finish(snapshots(world).create(VICTIM))
    today = f"{world.host.clock.now():%Y-%m-%d}"
    assert sorted(names(world)) == [f"at-{today}", "snap0", "snap1"]
    with pytest.raises(AlreadyExists):
        snapshots(world).create(VICTIM, "snap0")


async def test_one_is_renamed_and_removed(world: World) -> None:
    await stopped(world)
    await world.finish(snapshots(world).create(VICTIM, "one"))
    await world.finish(snapshots(world).rename(VICTIM, "one", "two"))
    assert names(world) == ["two"]
    id = snapshots(world).get(VICTIM, "two").id
    driver, volume = world.context.storage(victim(world)), world.context.volume(victim(world))
    assert await driver.snapshots(volume) == (id,)
    await world.finish(snapshots(world).delete(VICTIM, "two"))
    assert names(world) == []
    assert await driver.snapshots(volume) == ()
    with pytest.raises(NotFound):
        snapshots(world).delete(VICTIM, "two")


async def test_snapshots_are_deleted_and_renamed_with_the_instance(world: World) -> None:
    await stopped(world)
    await world.finish(snapshots(world).create(VICTIM, "one"))
    await world.finish(world.parts.services.instances.rename(VICTIM, "other"))
    other = VICTIM.renamed("other")
    assert snapshots(world).get(other, "one").instance.name == "victim"
    await world.finish(world.parts.services.instances.delete(other))
    assert list(world.parts.records.instance_snapshots) == []
    await stopped(world)
    assert names(world) == []


async def test_expired_snapshots_are_deleted_and_due_ones_taken(world: World) -> None:
    await running(world)
    await update(world, **{"snapshots.expiry": "1H", "snapshots.schedule": "@hourly"})
    now = world.host.clock.now().replace(minute=0)
    await snapshots(world).look(now + timedelta(minutes=1))
    assert names(world) == []
    await snapshots(world).look(now)
    assert names(world) == ["snap0"]
    await snapshots(world).look(now + timedelta(hours=2, minutes=1))
    assert names(world) == []


async def test_a_snapshot_is_taken_in_the_minute_after_a_start(world: World) -> None:
    await running(world)
    await update(world, **{"snapshots.schedule": "@startup, 5 5 5 5 *"})
    started = world.context.live[victim(world).id].started_at
    for seconds in (-1, 60, 61):
        await snapshots(world).look(started + timedelta(seconds=seconds))
    assert names(world) == []
    await snapshots(world).look(started + timedelta(seconds=59))
    assert names(world) == ["snap0"]
    await world.finish(world.parts.services.instances.stop(VICTIM))
    await snapshots(world).look(started + timedelta(seconds=59))
    assert names(world) == ["snap0"]


async def test_stopped_instances_are_not_scheduled_by_default(world: World) -> None:
    await stopped(world)
    now = world.host.clock.now().replace(minute=0)
    await update(world, **{"snapshots.schedule": "@hourly"})
    await snapshots(world).look(now)
    assert names(world) == []
    await update(world, **{"snapshots.schedule": "@hourly", "snapshots.schedule.stopped": "true"})
    await snapshots(world).look(now)
    assert names(world) == ["snap0"]


async def restrict(world: World, **config: str) -> None:
    def decide(found: Project) -> Project:
        kept = {key: value for key, value in found.config.items() if key.startswith("features.")}
        return replace(found, config=kept | config)

    await world.parts.services.projects.update("default", decide)


async def test_a_restricted_project_allows_no_snapshots_by_default(world: World) -> None:
    await stopped(world)
    await restrict(world, restricted="true")
    with pytest.raises(Forbidden):
        snapshots(world).create(VICTIM)
    await restrict(world, restricted="true", **{"restricted.snapshots": "allow"})
    await world.finish(snapshots(world).create(VICTIM))
    assert names(world) == ["snap0"]


async def test_a_restricted_project_allows_no_snapshots_of_volumes(world: World) -> None:
    volumes, data = world.parts.services.volumes, VolumeRef.custom("default", "data")
    await world.finish(await volumes.create(data, {}))
    await world.finish(volumes.snapshots.create(data, "before"))
    await restrict(world, restricted="true")
    with pytest.raises(Forbidden):
        volumes.snapshots.create(data, "after")
    with pytest.raises(Forbidden):
        await volumes.copy(data, VolumeRef.custom("default", "copy"))
    await world.finish(await volumes.copy(data, VolumeRef.custom("default", "copy"), with_snapshots=False))
    await restrict(world, restricted="true", **{"restricted.snapshots": "allow"})
    await world.finish(volumes.snapshots.create(data, "after"))
    assert [each.name for each in volumes.snapshots.of(data)] == ["after", "before"]


async def test_a_missing_profile_is_named_before_the_instance_is_stopped(world: World) -> None:
    await running(world)
    await world.finish(snapshots(world).create(VICTIM))
    held = world.parts.records.instance_snapshots.read(snapshots(world).get(VICTIM, "snap0").key).value
    lost = replace(held, instance=replace(held.instance, profiles=("gone",)))
    await world.parts.records.instance_snapshots.change(held.key, lambda _: lost)
    with pytest.raises(IsolaError, match="gone"):
        snapshots(world).restore(VICTIM, "snap0")
    assert world.parts.services.instances.status(victim(world)) is Status.RUNNING


async def test_objects_named_only_by_a_snapshot_may_be_deleted(world: World) -> None:
    """As in LXD, a snapshot does not count as a user of profiles, networks or volumes."""
    services, data = world.parts.services, VolumeRef.custom("default", "data")
    await world.finish(await services.volumes.create(data, {}))
    await services.profiles.create(Profile("extra"))
    disk = {"type": "disk", "pool": "default", "source": "data", "path": "/data"}
    await stopped(world)

    def decide(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(config={}, devices={"data": disk}, profiles=("default", "extra"))

    await world.finish(services.instances.update(VICTIM, decide))
    await world.finish(snapshots(world).create(VICTIM, "with"))
    await world.finish(
        services.instances.update(VICTIM, lambda _: InstanceUpdate(config={}, devices={}, profiles=("default",)))
    )
    before = victim(world)
    await services.profiles.delete(Ref.default("extra"))
    with pytest.raises(NotFound, match="extra"):
        snapshots(world).restore(VICTIM, "with")
    await services.profiles.create(Profile("extra"))
    await world.finish(await services.volumes.delete(data))
    with pytest.raises(NotFound, match="data"):
        await world.finish(snapshots(world).restore(VICTIM, "with"))
    assert victim(world) == before
    await world.finish(await services.volumes.create(data, {}))
    await world.finish(snapshots(world).restore(VICTIM, "with"))
    assert victim(world).profiles == ("default", "extra")


async def test_instances_frozen_by_a_killed_daemon_are_thawed(world: World) -> None:
    await running(world)
    await world.context.intents.begin(Intent("still-x", HELD, {"instance": victim(world).id}))
    await world.context.live[victim(world).id].guest.pause()
    await world.start()
    assert world.parts.services.instances.status(victim(world)) is Status.RUNNING
    assert list(world.context.intents.of_kind(HELD)) == []


async def test_instances_frozen_by_users_stay_frozen(world: World) -> None:
    await running(world)
    await world.finish(world.parts.services.instances.pause(VICTIM))
    await world.finish(snapshots(world).create(VICTIM))
    assert world.parts.services.instances.status(victim(world)) is Status.FROZEN


async def test_a_copy_has_an_identity_of_its_own(either: World) -> None:
    world = either
    instances = world.parts.services.instances
    await write(world, b"then")
    await world.finish(snapshots(world).create(VICTIM))
    await write(world, b"now")
    await world.finish(instances.copy(Source(VICTIM), InstanceRequest(name="now")))
    await world.finish(instances.copy(Source(VICTIM, "snap0"), InstanceRequest(name="then")))
    source, now, then = (instances.get(VICTIM.renamed(name)) for name in ("victim", "now", "then"))
    assert len({each.id for each in (source, now, then)}) == 3
    assert len({each.idmap for each in (source, now, then)}) == 3
    assert len({each.volatile["uuid"] for each in (source, now, then)}) == 3
    assert [each.name for each in snapshots(world).of(now)] == ["snap0"]
    assert snapshots(world).of(then) == []
    assert instances.status(now) is Status.STOPPED
    for instance, text in ((now, b"now"), (then, b"then")):
        assert await world.host.files.read(file_of(world, instance)) == text
    await world.finish(snapshots(world).restore(now.ref, "snap0"))
    await world.finish(instances.start(now.ref))


async def test_the_request_overrides_the_source(world: World) -> None:
    await stopped(world)
    await update(world, **{"user.a": "source", "user.b": "source"})
    request = InstanceRequest(name="copy", config={"user.b": "request", "volatile.base_image": "x"})
    await world.finish(world.parts.services.instances.copy(Source(VICTIM, with_snapshots=False), request))
    copy = world.parts.services.instances.get(VICTIM.renamed("copy"))
    assert copy.config == {"user.a": "source", "user.b": "request"}


async def test_a_copy_in_another_project_needs_its_profiles(world: World) -> None:
    await stopped(world)
    await world.parts.services.projects.create(Project("blue", config={"features.profiles": "true"}))
    instances = world.parts.services.instances
    request = InstanceRequest(name="copy", project="blue", devices={"root": ROOT})
    await world.finish(instances.copy(Source(VICTIM), request))
    assert instances.get(Ref("blue", "copy")).profiles == ("default",)
    with pytest.raises(AlreadyExists):
        instances.copy(Source(VICTIM), request)
    with pytest.raises(NotFound):
        instances.copy(Source(VICTIM, "none"), replace(request, name="other"))


async def test_a_size_that_the_pool_cannot_limit_is_refused_with_the_reason(world: World) -> None:
    await stopped(world)
    sized = {"root": ROOT | {"size": "64MiB"}}
    with pytest.raises(Unsupported, match="limits on the size"):
        await world.create("sized", devices=sized)

    def decide(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(config={}, devices=sized, profiles=found.profiles)

    with pytest.raises(Unsupported, match="limits on the size"):
        await world.finish(world.parts.services.instances.update(VICTIM, decide))
    assert "root" not in victim(world).devices
