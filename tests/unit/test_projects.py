"""Projects: separated and shared resources, limits and restrictions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rest_door import Stand

from isola.errors import Forbidden
from isola.model.build import BUILDS, NOTE, Furnished
from isola.model.instance import InstanceRequest
from isola.model.reference import Ref
from isola.model.volume import VolumeRecord, VolumeRef

START = datetime(2030, 1, 1, tzinfo=UTC)
ROOT = {"type": "disk", "path": "/", "pool": "default"}
NO_NIC = {"type": "none"}
NIC = {"type": "nic", "network": "isolabr0"}
FEATURES = {
    "features.images": "true",
    "features.networks": "false",
    "features.profiles": "true",
    "features.storage.buckets": "true",
    "features.storage.volumes": "true",
}


async def project(stand: Stand, name: str = "blue", **config: str) -> None:
    body = {"name": name, "config": {key.replace("__", "-").replace("_", "."): text for key, text in config.items()}}
    assert (await stand.ask("POST", "/1.0/projects", body))[0] == 201


async def sharing(stand: Stand, name: str = "blue", **config: str) -> None:
    """A project that shares images and profiles with the default project."""
    await project(stand, name, features_images="false", features_profiles="false", **config)


async def launch(stand: Stand, name: str, where: str, **wanted: Any) -> tuple[int, Any]:
    """HTTP status, or 400 if the operation failed, and the error."""
    body = {"name": name, "source": {"type": "image", "alias": "tiny"}, **wanted}
    status, answer = await stand.ask("POST", f"/1.0/instances?project={where}", body)
    if status != 202:
        return status, answer["error"]
    done = await stand.get(f"{answer['operation']}/wait")
    return done["status_code"], done["err"]


async def refused(stand: Stand, method: str, path: str, body: object = None) -> str:
    status, answer = await stand.ask(method, path, body)
    assert status >= 400, answer
    return str(answer["error"])


async def test_a_project_is_created_shown_changed_renamed_and_deleted(stand: Stand) -> None:
    events = stand.services.events.follow(["lifecycle"])  # type: ignore[list-item]
    await project(stand, user_owner="me")
    assert await stand.get("/1.0/projects") == ["/1.0/projects/blue", "/1.0/projects/default"]
    assert await stand.get("/1.0/projects/blue") == {
        "name": "blue",
        "description": "",
        "config": {**FEATURES, "user.owner": "me"},
        "used_by": ["/1.0/profiles/default?project=blue"],
    }
    assert [each["name"] for each in await stand.get("/1.0/projects?recursion=1&filter=name eq blue")] == ["blue"]
    async with stand.session.get("http://isola/1.0/projects/blue") as answer:
        tag = answer.headers["ETag"]
    change = {"description": "new", "config": {"limits.instances": "3", "features.profiles": "true"}}
    assert (await stand.ask("PATCH", "/1.0/projects/blue", change, headers={"If-Match": tag}))[0] == 200
    shown = await stand.get("/1.0/projects/blue")
    assert shown["config"] == {**FEATURES, "limits.instances": "3", "user.owner": "me"}
    assert (await stand.ask("PUT", "/1.0/projects/blue", change, headers={"If-Match": tag}))[0] == 412
    assert (await stand.ask("PUT", "/1.0/projects/blue", change))[0] == 200
    shown = await stand.get("/1.0/projects/blue")
    off = dict.fromkeys(FEATURES, "false") | {"features.profiles": "true"}
    assert shown["config"] == {**off, "limits.instances": "3"}, "a feature that is not named is switched off"
    assert shown["description"] == "new"
    await stand.finish("POST", "/1.0/projects/blue", {"name": "green"})
    assert (await stand.get("/1.0/profiles?project=green")) == ["/1.0/profiles/default?project=green"]
    assert (await stand.ask("DELETE", "/1.0/projects/green"))[0] == 200
    assert await stand.get("/1.0/projects") == ["/1.0/projects/default"]
    assert [each.project for each in stand.services.profiles] == ["default"]
    stand.services.events.close()
    told = [getattr(event.content, "action", "") async for event in events]
    verbs = [action for action in told if action.startswith("project-")]
    assert verbs == [f"project-{verb}" for verb in ("created", "updated", "updated", "renamed", "deleted")]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-", "a_b", "a.b", "x" * 64, "*", ".."])
async def test_invalid_names(stand: Stand, name: str) -> None:
    assert (await stand.ask("POST", "/1.0/projects", {"name": name}))[0] == 400


async def test_invalid_requests_are_refused(stand: Stand) -> None:
    await project(stand)
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue"}))[0] == 409
    assert (await stand.ask("POST", "/1.0/projects", {"name": "red", "config": {"no.such": "key"}}))[0] == 400
    assert (await stand.ask("GET", "/1.0/projects/red"))[0] == 404
    for path in ("instances", "profiles", "images", "networks", "events"):
        assert (await stand.ask("GET", f"/1.0/{path}?project=red"))[0] == 404, path
    assert "default" in await refused(stand, "DELETE", "/1.0/projects/default")
    off = {"config": {"features.profiles": "false"}}
    assert "default" in await refused(stand, "PATCH", "/1.0/projects/default", off)
    assert (await stand.ask("POST", "/1.0/profiles?project=blue", {"name": "mine"}))[0] == 201
    for method, body in (("DELETE", None), ("PATCH", off)):
        assert "profile mine (project blue)" in await refused(stand, method, "/1.0/projects/blue", body)
    operation = await stand.finish("POST", "/1.0/projects/blue", {"name": "green"})
    assert operation["status"] == "Failure" and "mine" in operation["err"]
    assert (await stand.ask("DELETE", "/1.0/profiles/mine?project=blue"))[0] == 200
    assert (await stand.ask("PATCH", "/1.0/projects/blue", off))[0] == 200
    assert [each.project for each in stand.services.profiles] == ["default"], "it shares profiles now"


async def test_two_projects_may_use_the_same_name(stand: Stand) -> None:
    await sharing(stand)
    for where in ("default", "blue"):
        assert (await launch(stand, "web1", where, start=True))[0] == 200
    one, two = stand.services.instances.get(Ref("default", "web1")), stand.services.instances.get(Ref("blue", "web1"))
    assert one.id != two.id and one.idmap != two.idmap
    nics = [nic.instance_name for nic in stand.services.instances._context.nics.on(Ref.default("isolabr0"))]
    assert sorted(nics) == ["web1", "web1.blue"], "their names in DNS differ"
    assert await stand.get("/1.0/instances") == ["/1.0/instances/web1"]
    assert await stand.get("/1.0/instances?project=blue") == ["/1.0/instances/web1?project=blue"]
    everywhere = await stand.get("/1.0/instances?all-projects=true&recursion=1")
    assert [each["project"] for each in everywhere] == ["blue", "default"]
    state = {"action": "stop", "force": True}
    stopped = await stand.finish("PUT", "/1.0/instances/web1/state?project=blue", state)
    assert stopped["resources"]["instances"] == ["/1.0/instances/web1?project=blue"]
    statuses = [each["status"] for each in await stand.get("/1.0/instances?all-projects=true&recursion=2")]
    assert statuses == ["Stopped", "Running"]
    assert (await stand.get("/1.0/networks/isolabr0"))["used_by"][:2] == [
        "/1.0/instances/web1?project=blue",
        "/1.0/instances/web1",
    ]
    await stand.finish("DELETE", "/1.0/instances/web1?project=blue")
    assert await stand.get("/1.0/instances?all-projects=true") == ["/1.0/instances/web1"]


async def test_images_and_profiles_are_a_project_s_own_or_shared(stand: Stand) -> None:
    await project(stand, "own")
    await sharing(stand, "poor")
    fingerprint = stand.services.images.alias(Ref.default("tiny")).target
    assert await stand.get("/1.0/images?project=own") == []
    assert await stand.get("/1.0/images?project=poor") == [f"/1.0/images/{fingerprint}"]
    assert (await stand.ask("GET", f"/1.0/images/{fingerprint}?project=own"))[0] == 404
    status, error = await launch(stand, "web1", "own")
    assert status == 400 and "root disk" in error, "its default profile is empty"
    status, error = await launch(stand, "web1", "own", devices={"root": ROOT})
    assert status == 400 and "tiny" in error, "it has no image of this name"
    assert (await launch(stand, "web1", "poor"))[0] == 200
    profile = "/1.0/profiles/default"
    assert (await stand.get(profile))["used_by"] == ["/1.0/instances/web1?project=poor"]
    assert (await stand.get(f"{profile}?project=poor"))["project"] == "default"
    assert (await stand.get(f"{profile}?project=own"))["devices"] == {}


async def test_a_bridge_belongs_to_no_project(stand: Stand) -> None:
    await project(stand, features_networks="true")
    assert await stand.get("/1.0/networks?project=blue") == []
    assert "bridge" in await refused(stand, "POST", "/1.0/networks?project=blue", {"name": "lab"})


async def test_clients_of_a_project_hear_of_operations_on_what_it_shares(stand: Stand) -> None:
    await sharing(stand)
    await project(stand, "red")
    address = "http://isola/1.0/events?type=operation&project="
    async with stand.session.ws_connect(address + "blue") as blue, stand.session.ws_connect(address + "red") as red:
        fingerprint = (await stand.get("/1.0/images/aliases/tiny?project=blue"))["target"]
        status, answer = await stand.ask("DELETE", f"/1.0/images/{fingerprint}?project=blue")
        assert status == 202
        seen = await blue.receive_json(timeout=60)
        while seen["metadata"]["status"] != "Success":
            seen = await blue.receive_json(timeout=60)
        assert f"/1.0/operations/{seen['metadata']['id']}" == answer["operation"]
        await stand.ask(
            "POST",
            "/1.0/instances?project=red",
            {"name": "none", "source": {"type": "none"}, "devices": {"root": ROOT}},
        )
        other = await red.receive_json(timeout=60)
        assert other["project"] == "red", "it has images of its own"


async def test_operations_and_events_belong_to_their_project(stand: Stand) -> None:
    await sharing(stand)
    async with stand.session.ws_connect("http://isola/1.0/events?type=lifecycle&project=blue") as events:
        for where in ("default", "blue"):
            assert (await launch(stand, "web1", where))[0] == 200
        seen = [await events.receive_json(timeout=60) for _ in range(1)]
    assert [(each["project"], each["metadata"]["source"]) for each in seen] == [
        ("blue", "/1.0/instances/web1?project=blue")
    ]
    groups = await stand.get("/1.0/operations?recursion=1&project=blue")
    assert [each["resources"]["instances"] for each in groups["success"]] == [["/1.0/instances/web1?project=blue"]]
    assert len((await stand.get("/1.0/operations?all-projects=true"))["success"]) > len(groups["success"])


@pytest.mark.parametrize(
    ("limit", "value", "config"),
    [
        ("limits.instances", "1", {}),
        ("limits.containers", "1", {}),
        ("limits.memory", "300MiB", {"limits.memory": "200MiB"}),
        ("limits.cpu", "3", {"limits.cpu": "0-1"}),
        ("limits.processes", "150", {"limits.processes": "100"}),
    ],
)
async def test_limits_are_enforced(stand: Stand, limit: str, value: str, config: dict[str, str]) -> None:
    await sharing(stand)
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": {limit: value}}))[0] == 200
    assert (await launch(stand, "web1", "blue", config=config))[0] == 200
    status, error = await launch(stand, "web2", "blue", config=config)
    assert status == 403 and limit in error
    name = limit.removeprefix("limits.")
    resources = (await stand.get("/1.0/projects/blue/state"))["resources"]
    assert resources[name]["Usage"] > 0 and resources[name]["Limit"] >= resources[name]["Usage"]
    assert resources["networks"] == {"Limit": -1, "Usage": 0}
    least = {"config": {limit: "1MiB" if name == "memory" else "0"}}
    assert limit in await refused(stand, "PATCH", "/1.0/projects/blue", least), "the present usage is higher"
    if config:
        status, error = await launch(stand, "web2", "blue")
        assert status == 400 and "needs" in error
        ((key, _),) = config.items()
        more = {"config": {key: "900MiB" if name == "memory" else "500"}}
        assert limit in await refused(stand, "PATCH", "/1.0/instances/web1?project=blue", more)


async def test_concurrent_creations_do_not_exceed_a_limit(stand: Stand) -> None:
    import asyncio

    await sharing(stand, limits_instances="1")
    ends = await asyncio.gather(*(launch(stand, f"web{number}", "blue") for number in range(4)))
    assert sorted(status for status, _ in ends)[0] == 200 and [status for status, _ in ends].count(200) == 1
    assert len(await stand.get("/1.0/instances?project=blue")) == 1


async def test_a_profile_cannot_exceed_a_limit(stand: Stand) -> None:
    await sharing(stand, limits_memory="1GiB")
    assert (await launch(stand, "web1", "blue", config={"limits.memory": "512MiB"}))[0] == 200
    small = {"name": "small", "config": {"limits.memory": "256MiB"}}
    assert (await stand.ask("POST", "/1.0/profiles", small))[0] == 201
    assert (await launch(stand, "web2", "blue", profiles=["default", "small"]))[0] == 200
    more = {"config": {"limits.memory": "900MiB"}}
    assert "limits.memory" in await refused(stand, "PATCH", "/1.0/profiles/small", more)
    assert stand.services.profiles.get(Ref.default("small")).config == {"limits.memory": "256MiB"}


@pytest.mark.parametrize(
    ("rule", "devices", "key"),
    [
        ({}, {"eth0": {"type": "nic", "nictype": "bridged", "parent": "isolabr0"}}, "restricted.devices.nic"),
        ({}, {"eth0": {"type": "nic", "network": "isolabr0", "host_name": "mine0"}}, "restricted.devices.nic"),
        (
            {"restricted.networks.access": "other"},
            {"eth0": {"type": "nic", "network": "isolabr0"}},
            "restricted.networks.access",
        ),
        (
            {"restricted.devices.nic": "block"},
            {"eth0": {"type": "nic", "network": "isolabr0"}},
            "restricted.devices.nic",
        ),
        ({"restricted.storage-pools.access": "fast"}, {}, "restricted.storage-pools.access"),
    ],
)
async def test_restrictions_are_enforced(stand: Stand, rule: dict[str, str], devices: dict[str, Any], key: str) -> None:
    await sharing(stand)
    body = {"config": {"restricted": "true", **rule}}
    assert (await stand.ask("PATCH", "/1.0/projects/blue", body))[0] == 200
    nothing = {"eth0": {"type": "none"}, "root": ROOT}
    status, error = await launch(stand, "web1", "blue", devices=nothing | devices)
    assert status == 403 and key in error
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": {"restricted": ""}}))[0] == 200
    assert (await launch(stand, "web1", "blue", devices=nothing | devices))[0] == 200
    assert key in await refused(stand, "PATCH", "/1.0/projects/blue", body), "existing instances violate it"


async def test_disks_stay_below_the_paths_that_are_allowed(stand: Stand) -> None:
    rules = {"restricted": "true", "restricted.devices.disk": "allow", "restricted.devices.disk.paths": "/srv/blue"}
    await sharing(stand)
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": rules}))[0] == 200
    await stand.world.host.files.make_directory(Path("/srv/blue/data"))
    disk = {"type": "disk", "source": "/srv/blue/data", "path": "/data"}
    nothing = {"eth0": {"type": "none"}, "root": ROOT}
    for source in ("/srv/red", "/srv/blue2", "/srv"):
        status, error = await launch(stand, "web1", "blue", devices=nothing | {"data": disk | {"source": source}})
        assert status == 403 and "restricted.devices.disk.paths" in error
    assert (await launch(stand, "web1", "blue", devices=nothing | {"data": disk}, start=True))[0] == 200
    [graft] = stand.world.host.guest_mounts.grafts
    assert graft.beneath == Path("/srv/blue"), "no link leads out of it either"
    shifted = nothing | {"data": disk | {"shift": "true"}}
    status, error = await launch(stand, "web2", "blue", devices=shifted, start=True)
    assert status == 400 and "must not be shifted" in error


async def test_disks_that_a_build_gives_to_its_instances_are_not_restricted(stand: Stand) -> None:
    rules = {"restricted": "true", "restricted.devices.disk": "allow", "restricted.devices.disk.paths": "/srv/blue"}
    await sharing(stand)
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": rules}))[0] == 200
    source = stand.world.context.directory / BUILDS / "cache"
    await stand.world.host.files.make_directory(source)
    devices = {"root": ROOT, "cache": {"type": "disk", "source": str(source), "path": "/cache"}}
    nic = {"eth0": {"type": "nic", "nictype": "bridged", "parent": "isolabr0"}}
    request = InstanceRequest(
        name="web1", project="blue", image="tiny", start=True, notes={NOTE: "1"}, devices=devices | {"eth0": NO_NIC}
    )
    instances, furnished = stand.services.instances, stand.world.context.furnished
    with pytest.raises(Forbidden):
        instances.create(request)
    furnished[Ref("blue", "web1")] = Furnished(devices={"cache": devices["cache"]})
    for refused_ in (replace(request, devices=devices | nic), replace(request, name="web2")):
        with pytest.raises(Forbidden):
            instances.create(refused_)
    await stand.world.finish(instances.create(request))
    [graft] = stand.world.host.guest_mounts.grafts
    assert (graft.source, graft.beneath) == (source, None)
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": rules}))[0] == 200
    etc = {"type": "disk", "source": "/etc", "path": "/mnt", "shift": "true"}
    for wanted in ({"more": etc}, {"cache": etc}):
        said = await refused(stand, "PATCH", "/1.0/instances/web1?project=blue", {"devices": wanted})
        assert "restricted.devices.disk" in said, "only what the build itself gives is exempt"


async def test_projects_outlive_the_daemon(stand: Stand) -> None:
    await project(stand, limits_instances="2")
    await stand.world.parts.close()
    parts = await stand.world.start()
    assert parts.services.projects.get("blue").config["limits.instances"] == "2"
    assert parts.services.profiles.get(Ref("blue", "default")).devices == {}


async def test_volumes_count_against_the_disk_space_of_a_project(stand: Stand) -> None:
    await project(stand, limits_disk="10GiB")
    body = {"name": "data", "type": "custom"}
    said = await refused(stand, "POST", "/1.0/storage-pools/default/volumes/custom?project=blue", body)
    assert "has no size" in said
    guard, blue = stand.services.projects.guard, VolumeRef.custom("default", "data", "blue")
    record = VolumeRecord("v1", "default", "custom", "blue", "data", START, config={"size": "6GiB"})
    await stand.world.parts.records.volumes.add(blue.key, record)
    guard.volume(replace(record, config={"size": "10GiB"}))
    guard.volume(replace(record, name="other", config={"size": "4GiB"}))
    for wanted in (replace(record, config={"size": "11GiB"}), replace(record, name="other", config={"size": "5GiB"})):
        with pytest.raises(Forbidden, match="allows limits"):
            guard.volume(wanted)
    await stand.world.parts.records.volumes.remove(blue.key)


async def test_images_count_against_the_disk_space_of_a_project(stand: Stand) -> None:
    await project(stand, limits_disk="1")
    body = {"source": {"type": "image", "protocol": "build", "alias": "debian/12"}}
    operation = await stand.finish("POST", "/1.0/images?project=blue", body)
    assert operation["status"] == "Failure" and "limits.disk" in operation["err"]
    assert await stand.get("/1.0/images?project=blue") == []
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": {"limits.disk": "1GiB"}}))[0] == 200
    assert (await stand.finish("POST", "/1.0/images?project=blue", body))["status"] == "Success"
    assert (await stand.get("/1.0/projects/blue/state"))["resources"]["disk"]["Usage"] > 0


async def test_a_pool_may_have_its_own_limit(stand: Stand) -> None:
    await sharing(stand, **{"limits_disk_pool_default": "1GiB", "limits_disk_pool_fast": "1MiB"})
    guard = stand.services.projects.guard
    volume = VolumeRecord("v1", "default", "custom", "blue", "data", START, config={"size": "1GiB"})
    guard.volume(volume)
    guard.volume(replace(volume, pool="other", config={}))
    for refused_volume in (replace(volume, config={"size": "2GiB"}), replace(volume, pool="fast")):
        with pytest.raises(Forbidden, match=r"limits\.disk\.pool"):
            guard.volume(refused_volume)
    assert "needs a size of its root disk" in (await launch(stand, "web1", "blue"))[1]
    resources = (await stand.get("/1.0/projects/blue/state"))["resources"]
    assert resources["disk.pool.default"] == {"Limit": 1 << 30, "Usage": 0}


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("restricted.idmap.uid", "0-999, 5000", "9-1"),
        ("restricted.idmap.gid", "33", "all"),
        ("restricted.cluster.target", "allow", "yes"),
        ("restricted.cluster.groups", "one,two", "\0"),
        ("restricted.networks.uplinks", "lan", "\0"),
        ("restricted.networks.subnets", "lan:192.0.2.0/28, lan:2001:db8::/64", "lan"),
        ("limits.disk.pool.fast", "10GiB", "much"),
    ],
)
async def test_keys_of_the_api_are_known(stand: Stand, key: str, good: str, bad: str) -> None:
    await project(stand)
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": {key: good}}))[0] == 200
    assert (await stand.get("/1.0/projects/blue"))["config"][key] == good
    assert (await stand.ask("PATCH", "/1.0/projects/blue", {"config": {key: bad}}))[0] == 400


async def test_a_quick_rename_has_ended_at_the_response(stand: Stand) -> None:
    """pylxd reads the project by its new name without waiting for the operation."""
    assert (await stand.ask("POST", "/1.0/projects", {"name": "red"}))[0] == 201
    status, body = await stand.ask("POST", "/1.0/projects/red", {"name": "green"})
    assert (status, body["metadata"]["status"]) == (202, "Success")
    assert (await stand.ask("GET", "/1.0/projects/green"))[0] == 200


@pytest.mark.parametrize(
    ("rule", "managed", "links"),
    [
        ({"restricted.devices.nic": "block"}, True, True),
        ({"restricted": "true", "restricted.devices.nic": "block"}, False, False),
        ({"restricted": "true"}, True, False),
        ({"restricted": "true", "restricted.devices.nic": "allow"}, True, True),
        ({"restricted": "true", "restricted.devices.nic": "allow", "restricted.networks.access": "lan"}, False, False),
        ({"restricted": "true", "restricted.networks.access": "lan, isolabr0"}, True, False),
    ],
)
async def test_a_project_sees_the_networks_that_its_nics_may_use(
    stand: Stand, rule: dict[str, str], managed: bool, links: bool
) -> None:
    stand.world.host.links.add_physical("eth7")
    assert (await stand.ask("POST", "/1.0/projects", {"name": "red", "config": rule}))[0] == 201
    shown = await stand.get("/1.0/networks?project=red")
    assert ("/1.0/networks/isolabr0" in shown, "/1.0/networks/eth7" in shown) == (managed, links)
    for name, seen in (("isolabr0", managed), ("eth7", links)):
        for path in (f"/1.0/networks/{name}", f"/1.0/networks/{name}/state"):
            for more in ("", "&all-projects=true"):
                assert (await stand.ask("GET", f"{path}?project=red{more}"))[0] == (200 if seen else 404)
    status, _ = await stand.ask("PATCH", "/1.0/networks/isolabr0?project=red", {"config": {"user.x": "y"}})
    assert status == (200 if managed else 404)


async def test_a_pool_in_which_a_project_may_have_nothing_is_hidden(stand: Stand) -> None:
    await project(stand, "red", limits_disk_pool_default="0")
    assert await stand.get("/1.0/storage-pools?project=red") == []
    assert (await stand.ask("GET", "/1.0/storage-pools/default?project=red"))[0] == 404
    config = {"restricted": "true", "restricted.storage-pools.access": "default"}
    assert (await stand.ask("PUT", "/1.0/projects/red", {"config": config}))[0] == 200
    assert await stand.get("/1.0/storage-pools?project=red") == ["/1.0/storage-pools/default"]
    assert (await stand.ask("PUT", "/1.0/projects/red", {"config": config | {"restricted.storage-pools.access": "b"}}))[
        0
    ] == 200
    assert await stand.get("/1.0/storage-pools?project=red") == []
    assert len(await stand.get("/1.0/storage-pools")) == 1
