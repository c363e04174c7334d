"""Moving instances between pools and projects: refusals, properties that are kept, and removal of old data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from instance_verbs import ROOT, VICTIM, moves, running, stopped, takes_snapshot, two_pools
from rest_door import standing

from isola.errors import AlreadyExists, Forbidden, InvalidInput, IsolaError, NotFound, Unsupported, WrongState
from isola.instances.copy import Source
from isola.instances.move import Destination
from isola.model.instance import Instance, InstanceRequest
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Ref
from isola.testing.parts import World

OTHER = VICTIM.renamed("other")


async def project(world: World, **config: str) -> None:
    shared = {f"features.{kind}": "false" for kind in ("images", "profiles", "storage.volumes")}
    await world.parts.services.projects.create(Project("red", config=shared | config))


def victim(world: World, ref: Ref = VICTIM) -> Instance:
    return world.parts.services.instances.get(ref)


async def file_in(world: World, instance: Instance, snapshot: str | None = None) -> bytes:
    driver, volume = world.context.storage(instance), world.context.volume(instance)
    async with driver.contents(volume, snapshot) as tree:
        return await world.host.files.read(tree / "etc/hostname")


@pytest.mark.parametrize(
    ("to", "error", "message"),
    [
        (Destination(VICTIM), InvalidInput, "already in this pool"),
        (Destination(VICTIM, pool="default"), InvalidInput, "already in this pool"),
        (Destination(VICTIM, pool="none"), NotFound, "none"),
        (Destination(Ref("none", "victim")), NotFound, "none"),
        (Destination(OTHER, pool="other"), AlreadyExists, "exists"),
        (Destination(VICTIM.renamed("a/b"), pool="other"), InvalidInput, "name"),
        (Destination(VICTIM, pool="other", profiles=("none",)), NotFound, "none"),
        (Destination(VICTIM, pool="other", devices={"root": ROOT}), None, ""),
        (Destination(VICTIM, pool="other", config={"limits.cpu": "many"}), InvalidInput, "limits.cpu"),
    ],
)
async def test_invalid_moves_are_refused_at_once(
    world: World, to: Destination, error: type[IsolaError] | None, message: str
) -> None:
    await stopped(world)
    await two_pools(world)
    await world.create("other")
    if error is None:
        await world.finish(world.parts.services.instances.move(VICTIM, to))
        return
    before = victim(world)
    with pytest.raises(error, match=message):
        world.parts.services.instances.move(VICTIM, to)
    assert victim(world) == before


async def test_running_instances_are_not_moved(world: World) -> None:
    await running(world)
    await two_pools(world)
    with pytest.raises(WrongState, match="stop it"):
        world.parts.services.instances.move(VICTIM, Destination(VICTIM, pool="other"))


async def test_it_keeps_its_identity_its_files_and_its_snapshots(world: World) -> None:
    await stopped(world)
    await two_pools(world)
    await takes_snapshot(world)
    before = victim(world)
    await moves(pool="other")(world)
    after = victim(world)
    assert (after.id, after.idmap, after.volatile["uuid"]) == (before.id, before.idmap, before.volatile["uuid"])
    assert after.plugged["eth0"] == before.plugged["eth0"]
    assert after.devices["root"] == ROOT | {"pool": "other"}
    (snapshot,) = world.parts.services.instances.snapshots.of(after)
    assert await file_in(world, after) == await file_in(world, after, snapshot.id) == b"tiny\n"
    users = {str(each) for each in world.parts.services.pools.used_by("other")}
    assert str(after.entity) in users
    await world.finish(world.parts.services.instances.snapshots.restore(VICTIM, snapshot.name))
    assert victim(world).devices["root"]["pool"] == "other"
    await world.finish(world.parts.services.instances.start(VICTIM))


@pytest.mark.parametrize(
    ("profiles", "root"),
    [(None, ROOT | {"pool": "other"}), ((), ROOT), (("nic",), ROOT)],
    ids=("the default one has a root", "no profiles", "one with a NIC called root"),
)
async def test_it_keeps_its_root_where_its_profiles_give_it_none(
    world: World, profiles: tuple[str, ...] | None, root: dict[str, str]
) -> None:
    await world.create("victim", devices={})
    await two_pools(world)
    services, red = world.parts.services, Ref("red", VICTIM.name)
    await services.projects.create(Project("red", config={"features.images": "false", "features.profiles": "true"}))
    if profiles is None:
        await services.profiles.update(Ref("red", "default"), lambda found: replace(found, devices={"root": root}))
    elif profiles:
        await services.profiles.create(Profile("nic", project="red", devices={"root": {"type": "none"}}))
    assert not victim(world).devices
    await world.finish(services.instances.move(VICTIM, Destination(red, profiles=profiles)))
    moved = victim(world, red)
    assert moved.volatile["root.pool"] == "default"
    assert [each for each in moved.devices.values() if each["type"] == "disk"] == [ROOT]


async def test_the_pool_may_be_that_of_a_given_root(world: World) -> None:
    await stopped(world)
    await two_pools(world)
    await world.finish(
        world.parts.services.instances.move(VICTIM, Destination(VICTIM, devices={"root": ROOT | {"pool": "other"}}))
    )
    assert victim(world).volatile["root.pool"] == victim(world).devices["root"]["pool"] == "other"


async def test_a_snapshot_from_before_a_move_is_copied_from_where_it_is_now(world: World) -> None:
    await stopped(world)
    await two_pools(world)
    await takes_snapshot(world)
    await moves(pool="other")(world)
    instances = world.parts.services.instances
    await world.finish(instances.copy(Source(VICTIM, "before"), InstanceRequest(name="other")))
    assert victim(world, OTHER).volatile["root.pool"] == "other"
    assert await file_in(world, victim(world, OTHER)) == b"tiny\n"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"limits.instances": "0"}, "limits.instances"),
        ({"features.networks": "true"}, "isolabr0"),
        ({"restricted": "true", "restricted.devices.nic": "block"}, "nic"),
        ({"restricted": "true", "restricted.devices.nic": "allow"}, "snapshots"),
    ],
)
async def test_the_other_projects_limits_are_kept(world: World, config: Mapping[str, str], message: str) -> None:
    await stopped(world)
    await takes_snapshot(world)
    await project(world, **config)
    with pytest.raises((Forbidden, InvalidInput, NotFound), match=message):
        world.parts.services.instances.move(VICTIM, Destination(Ref("red", "victim")))
    if "restricted.devices.nic" in config and message == "snapshots":
        await moves(project="red", with_snapshots=False)(world)
        assert not list(world.parts.records.instance_snapshots)


_WEB = "/1.0/instances/web1"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"migration": True}, 400),
        ({"migration": True, "pool": "none"}, 404),
        ({"migration": True, "project": "none"}, 404),
        ({"migration": True, "pool": "default"}, 400),
        ({"name": "web2", "migration": True, "live": True, "pool": "fast", "instance_only": True}, 202),
        ({"name": "web1", "migration": True, "project": "blue"}, 202),
        ({"name": "web1", "migration": True, "config": {"user.a": "b"}}, 202),
        ({"name": "web2", "migration": False, "Config": {}, "Devices": {}, "Profiles": []}, 202),
        ({"name": "web1", "migration": True, "Config": {"user.a": "b"}, "Devices": None, "Profiles": None}, 202),
    ],
)
async def test_requests_as_clients_send_them(body: Mapping[str, object], status: int) -> None:
    async with standing() as stand:
        await stand.finish("POST", "/1.0/instances", {"name": "web1", "source": {"type": "image", "alias": "tiny"}})
        await stand.ask("POST", "/1.0/storage-pools", {"name": "fast", "driver": "overlay"})
        shared = {"features.profiles": "false", "features.images": "false"}
        await stand.ask("POST", "/1.0/projects", {"name": "blue", "config": shared})
        if status != 202:
            answered, _ = await stand.ask("POST", _WEB, body)
            assert answered == status
            return
        await stand.finish("POST", _WEB, body)
        name, where = body.get("name"), body.get("project", "default")
        found = await stand.get(f"/1.0/instances/{name}?project={where}")
        assert found["expanded_devices"]["root"]["pool"] == body.get("pool", "default")
        assert found["config"].get("user.a", "") == ("b" if "user.a" in str(body) else "")


async def test_a_refresh_over_pools(world: World) -> None:
    await stopped(world)
    await two_pools(world)
    instances = world.parts.services.instances
    request = InstanceRequest(name="other", devices={"root": ROOT | {"pool": "other"}})
    await world.finish(instances.copy(Source(VICTIM), request))
    async with world.context.storage(victim(world)).visit(world.context.volume(victim(world))) as root:
        await world.host.files.write(root / "etc/hostname", b"changed\n")
    await takes_snapshot(world)
    await world.finish(instances.refresh(Source(VICTIM), OTHER))
    (snapshot,) = instances.snapshots.of(victim(world, OTHER))
    assert await file_in(world, victim(world, OTHER)) == b"changed\n"
    assert await file_in(world, victim(world, OTHER), snapshot.id) == b"changed\n"
    assert victim(world, OTHER).volatile["root.pool"] == "other"


async def test_invalid_refreshes_are_refused(world: World) -> None:
    await stopped(world)
    instances = world.parts.services.instances
    await world.create("other", start=True)
    await world.create("empty", image=None)
    for source, ref, error in (
        (VICTIM, VICTIM, InvalidInput),
        (VICTIM, OTHER, WrongState),
        (VICTIM, VICTIM.renamed("none"), NotFound),
        (VICTIM.renamed("empty"), VICTIM, Unsupported),
    ):
        with pytest.raises(error):
            instances.refresh(Source(source), ref)
