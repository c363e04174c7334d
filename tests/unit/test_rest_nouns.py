"""Profiles, networks, storage, projects, and routes that are not supported yet."""

from __future__ import annotations

import pytest
from rest_door import Stand, standing

from isola.host.link_kinds import Bridge
from isola.model.network import Network
from isola.model.reference import Ref
from isola.model.storage import Pool
from isola.testing.parts import World

_NIC = {"type": "nic", "network": "isolabr0"}
_LAB = {"ipv4.address": "10.1.2.1/24", "ipv6.address": "none"}


async def test_profiles(stand: Stand) -> None:
    body = {"name": "p1", "config": {"user.a": "1"}, "devices": {"eth0": _NIC}}
    async with stand.session.post("http://isola/1.0/profiles", json=body) as answer:
        assert (answer.status, answer.headers["Location"]) == (201, "/1.0/profiles/p1")
    assert (await stand.ask("POST", "/1.0/profiles", body))[0] == 409
    assert await stand.get("/1.0/profiles") == ["/1.0/profiles/default", "/1.0/profiles/p1"]
    async with stand.session.get("http://isola/1.0/profiles/p1") as answer:
        tag = answer.headers["ETag"]
    change = {"config": {"user.a": "", "user.b": "2"}}
    assert (await stand.ask("PATCH", "/1.0/profiles/p1", change, headers={"If-Match": f'"{tag}"'}))[0] == 200
    assert (await stand.ask("PATCH", "/1.0/profiles/p1", change, headers={"If-Match": tag}))[0] == 412
    shown = await stand.get("/1.0/profiles/p1")
    assert (shown["config"], shown["devices"]) == ({"user.b": "2"}, {"eth0": _NIC})
    assert (await stand.ask("PUT", "/1.0/profiles/p1", {"description": "d"}))[0] == 200
    assert (await stand.get("/1.0/profiles?recursion=1"))[1] == {
        "name": "p1",
        "description": "d",
        "config": {},
        "devices": {},
        "used_by": [],
        "project": "default",
    }
    assert (await stand.ask("POST", "/1.0/profiles/p1", {"name": "p2"}))[0] == 201
    assert (await stand.ask("DELETE", "/1.0/profiles/p2"))[0] == 200
    assert (await stand.ask("DELETE", "/1.0/profiles/default"))[0] == 403


async def test_networks(stand: Stand) -> None:
    shown = {one["name"]: one for one in await stand.get("/1.0/networks?recursion=1")}
    assert {name: one["managed"] for name, one in shown.items()} == {"isolabr0": True, "lo": False, "eth0": False}
    body = {"name": "br1", "config": {"ipv4.address": "none", "ipv6.address": "none"}, "description": "d"}
    assert (await stand.ask("POST", "/1.0/networks", body))[0] == 201
    status, answer = await stand.ask("POST", "/1.0/networks", body)
    assert (status, answer["metadata"]["code"]) == (409, "already_exists")
    assert (await stand.ask("PATCH", "/1.0/networks/br1", {"config": {"ipv4.nat": "true"}}))[0] == 200
    kept = {"ipv4.address": "none", "ipv4.nat": "true", "ipv6.address": "none"}
    assert (await stand.get("/1.0/networks/br1"))["config"] == kept
    assert (await stand.ask("PUT", "/1.0/networks/br1", {"config": _LAB}))[0] == 200
    assert (await stand.get("/1.0/networks/br1"))["config"] == _LAB
    assert (await stand.ask("POST", "/1.0/networks/br1", {"name": "br2"}))[0] == 201
    assert (await stand.ask("DELETE", "/1.0/networks/br2"))[0] == 200
    status, answer = await stand.ask("DELETE", "/1.0/networks/isolabr0")
    assert (status, answer["metadata"]["code"]) == (400, "in_use")
    status, answer = await stand.ask("DELETE", "/1.0/networks/eth0")
    assert (status, answer["metadata"]["field"]) == (400, "name")
    assert (await stand.get("/1.0/networks/eth0"))["type"] == "physical"
    instance = await stand.create("web1", start=True)
    leases = await stand.get("/1.0/networks/isolabr0/leases")
    assert [(one["hostname"], one["type"]) for one in leases if one["hwaddr"] == ""] == [
        ("isolabr0.gw", "gateway"), ("isolabr0.gw", "gateway"),
    ]  # fmt: skip
    assert {one["hwaddr"] for one in leases if one["hostname"] == "web1"} == {instance.plugged["eth0"].facts["hwaddr"]}
    assert (await stand.get("/1.0/networks/isolabr0/state"))["state"] == "up"
    config = (await stand.get("/1.0/networks/isolabr0"))["config"]
    assert config.keys() == {"ipv4.address", "ipv4.nat", "ipv6.address", "ipv6.nat"}
    assert (await stand.ask("GET", "/1.0/networks/nope"))[0] == 404
    assert (await stand.ask("POST", "/1.0/networks", {"name": "../x"}))[0] == 400


async def test_a_network_precedes_a_link_of_the_same_name(stand: Stand) -> None:
    before = await stand.get("/1.0/networks/isolabr0")
    await stand.world.host.links.create_bridge(Bridge("isolabr0", (), 1500))
    network = await stand.get("/1.0/networks/isolabr0")
    assert network["managed"] and network["config"] == before["config"]
    assert (await stand.ask("PATCH", "/1.0/networks/isolabr0", {"description": "mine"}))[0] == 200


async def test_storage(stand: Stand) -> None:
    await stand.create("web1")
    root = "/1.0/storage-pools"
    assert await stand.get(root) == [f"{root}/default"]
    assert await stand.get(f"{root}/default/resources") == {
        "space": {"total": 100 << 30, "used": 10 << 30},
        "inodes": {"total": 1_000_000, "used": 1000},
    }
    volume = f"{root}/default/volumes/container/web1"
    assert await stand.get(f"{root}/default/volumes") == [volume]
    assert await stand.get(f"{root}/default/volumes/custom") == []
    assert (await stand.get(volume))["used_by"] == ["/1.0/instances/web1"]
    assert await stand.get(f"{volume}/state") == {"usage": {"used": 4096, "total": 0}}
    assert (await stand.ask("GET", f"{root}/default/volumes/custom/web1"))[0] == 404
    assert (await stand.ask("POST", root, {"name": "p1", "driver": "overlay"}))[0] == 201
    status, body = await stand.ask("POST", root, {"name": "p2", "driver": "floppy"})
    assert (status, body["metadata"]["field"]) == (400, "driver")
    assert (await stand.ask("PATCH", f"{root}/p1", {"description": "d"}))[0] == 200
    assert (await stand.get(f"{root}/p1"))["description"] == "d"
    assert (await stand.ask("PUT", f"{root}/p1", {"config": {"user.a": "b"}}))[0] == 200
    assert (await stand.get(f"{root}?recursion=1"))[1]["config"] == {"user.a": "b"}
    assert (await stand.ask("DELETE", f"{root}/p1"))[0] == 200
    assert await stand.get(root) == [f"{root}/default"]


async def test_the_only_project(stand: Stand) -> None:
    assert await stand.get("/1.0/projects?project=default&all-projects=true") == ["/1.0/projects/default"]
    shown = await stand.get("/1.0/projects/default")
    assert "/1.0/networks/isolabr0" in shown["used_by"]
    assert (await stand.get("/1.0/projects/default/state"))["resources"]["instances"]["Usage"] == 0


@pytest.mark.parametrize("path", ["/1.0/certificates", "/1.0/warnings", "/1.0/cluster/members"])
async def test_unsupported_collections_are_empty_lists(stand: Stand, path: str) -> None:
    assert await stand.get(path) == []
    assert (await stand.ask("GET", f"{path}/x"))[0] == 404


async def test_resources_group_threads_by_core(stand: Stand) -> None:
    shown = await stand.get("/1.0/resources")
    assert shown["cpu"]["total"] == 4
    assert [len(core["threads"]) for core in shown["cpu"]["sockets"][0]["cores"]] == [2, 2]
    assert shown["memory"]["used"] == 2 << 30
    assert shown["storage"] == {"disks": [{"id": "sda", "size": 5}], "total": 1}
    assert not (await stand.get("/1.0/cluster"))["enabled"]


async def lose_records(world: World) -> None:
    """A daemon that loses its records of a pool, a network, an instance and an image."""
    services = (await world.start()).services
    await world.import_image()
    fingerprint = await world.import_image("other", os="Other")
    await world.create("web1", start=True)
    await world.finish(services.operations.start("Creating", lambda op: services.pools.create(op, Pool("old"))))
    await world.finish(services.operations.start("Creating", lambda op: services.networks.create(op, Network("lost"))))
    await world.parts.close()
    manifest = services.images.get(Ref.default(fingerprint)).manifest
    for key in ("pools/old", "networks/default/lost", "instances/default/web1", f"images/default/{manifest}"):
        await world.store.delete(f"/{key}")
    await world.host.files.remove_tree(world.directory / "described" / "networks" / "lost.json")


async def test_objects_without_a_record() -> None:
    async with standing(lose_records) as stand:
        await check_what_is_in_no_record(stand)


async def check_what_is_in_no_record(stand: Stand) -> None:
    (id,) = stand.world.runtime.instances
    shown = await stand.get("/1.0/isola/unknown")
    assert [(item["type"], item["id"], item["adoptable"]) for item in shown] == [
        ("storage-pool", "old", True),
        ("network", "lost", False),
        ("instance", id, True),
        ("image-content", "image-content", False),
    ]
    assert shown[3]["size"] > 0 and shown[2]["running"] and shown[2]["name"] == "web1"
    assert (await stand.get("/1.0/isola/unknown/old"))["type"] == "storage-pool"
    assert (await stand.ask("GET", "/1.0/isola/unknown/other"))[0] == 404
    body = {"action": "adopt", "type": "storage-pool", "id": "old"}
    assert (await stand.ask("POST", "/1.0/isola/unknown", body))[0] == 202
    assert (await stand.ask("POST", "/1.0/isola/unknown", body | {"action": "remove"}))[0] == 400
    assert (await stand.ask("POST", "/1.0/isola/unknown", {"action": "adopt", "id": "x"}))[0] == 404


async def test_a_copy_of_the_state(stand: Stand) -> None:
    async with stand.session.get("http://isola/1.0/isola/state") as answer:
        assert answer.status == 200 and answer.content_type == "application/octet-stream"
        assert await answer.read() == await stand.world.store.copy()
