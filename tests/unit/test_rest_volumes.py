"""Custom volumes and their snapshots through the API, as LXD's and Incus' clients use it."""

from __future__ import annotations

from typing import Any

import pytest
from heard import lifecycle
from rest_door import Stand

from isola.model.event import EventKind

ROOT = "/1.0/storage-pools/default/volumes"
DATA = f"{ROOT}/custom/data"


async def with_data(stand: Stand) -> None:
    body = {"name": "data", "type": "custom", "config": {"user.a": "b"}, "description": "mine"}
    assert (await stand.ask("POST", f"{ROOT}/custom", body))[0] == 201


async def test_a_volume_from_creation_to_deletion(stand: Stand) -> None:
    await with_data(stand)
    assert await stand.get(f"{ROOT}/custom") == [DATA]
    shown = await stand.get(DATA)
    assert shown | {"created_at": ""} == {
        "name": "data",
        "type": "custom",
        "content_type": "filesystem",
        "description": "mine",
        "config": {"user.a": "b"},
        "created_at": "",
        "location": "none",
        "pool": "default",
        "project": "default",
        "used_by": [],
    }
    assert (await stand.get(f"{ROOT}?recursion=1"))[0] == shown
    assert await stand.get(f"{ROOT}/custom?filter=name%20eq%20other") == []
    assert (await stand.get(f"{DATA}/state"))["usage"]["total"] == 0
    assert DATA in (await stand.get("/1.0/storage-pools/default"))["used_by"]
    assert (await stand.ask("PATCH", DATA, {"config": {"user.a": "", "user.c": "d"}}))[0] == 200
    assert (await stand.get(DATA))["config"] == {"user.c": "d"}
    assert (await stand.ask("PUT", DATA, {"description": "new"}))[0] == 200
    assert ((await stand.get(DATA))["config"], (await stand.get(DATA))["description"]) == ({}, "new")
    assert (await stand.ask("POST", DATA, {"name": "other"}))[0] == 201
    assert (await stand.ask("GET", DATA))[0] == 404
    assert (await stand.ask("DELETE", f"{ROOT}/custom/other"))[0] == 200
    assert await stand.get(f"{ROOT}/custom") == []


async def test_changes_of_volumes_check_the_etag(stand: Stand) -> None:
    await with_data(stand)
    async with stand.session.get(f"http://isola{DATA}") as answer:
        tag = answer.headers["ETag"]
    assert (await stand.ask("PUT", DATA, {"config": {"user.x": "y"}}, headers={"If-Match": tag}))[0] == 200
    assert (await stand.ask("PUT", DATA, {"config": {}}, headers={"If-Match": tag}))[0] == 412
    assert (await stand.get(DATA))["config"] == {"user.x": "y"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"{ROOT}/custom", {"name": "data"}, 409),
        ("POST", f"{ROOT}/custom", {"name": "../x"}, 400),
        ("POST", f"{ROOT}/custom", {}, 400),
        ("POST", f"{ROOT}/floppy", {"name": "x"}, 400),
        ("POST", f"{ROOT}/container", {"name": "x"}, 400),
        ("POST", f"{ROOT}/custom", {"name": "x", "content_type": "tape"}, 400),
        ("POST", f"{ROOT}/custom", {"name": "x", "config": {"size": "1GiB"}}, 400),
        ("POST", f"{ROOT}/custom", {"name": "x", "config": {"nonsense": "1"}}, 400),
        ("POST", f"{ROOT}/custom", {"name": "x", "source": {"type": "migration"}}, 501),
        ("POST", f"{ROOT}/custom", {"name": "x", "source": {"type": "copy", "name": "none"}}, 404),
        ("POST", f"{ROOT}/custom", {"name": "x", "source": {"type": "copy", "name": "data/none"}}, 404),
        ("POST", f"{ROOT}/custom", {"name": "x", "source": {"type": "copy", "name": "data", "project": "p"}}, 404),
        ("POST", DATA, {"name": "x", "pool": "none"}, 400),
        ("POST", DATA, {"name": "x", "migration": True}, 501),
        ("PUT", DATA, {"restore": "none"}, 404),
        ("GET", f"{ROOT}/custom/none", None, 404),
        ("GET", f"{ROOT}/image/data", None, 404),
        ("DELETE", f"{ROOT}/custom/none", None, 404),
        ("GET", f"{DATA}/snapshots/none", None, 404),
        ("POST", f"{DATA}/snapshots", {"name": "a/b"}, 400),
        ("POST", f"{DATA}/snapshots", {"name": "x", "expires_at": "soon"}, 400),
        ("GET", "/1.0/storage-pools/none/volumes", None, 404),
        ("DELETE", "/1.0/storage-pools/default", None, 400),
    ],
)
async def test_what_is_wrong_is_refused(stand: Stand, method: str, path: str, body: Any, status: int) -> None:
    await with_data(stand)
    answer = await stand.ask(method, path, body)
    assert answer[0] == status, answer
    assert await stand.get(f"{ROOT}/custom") == [DATA]


async def test_copies_and_moves_to_another_pool(stand: Stand) -> None:
    await with_data(stand)
    assert (await stand.ask("POST", "/1.0/storage-pools", {"name": "slow", "driver": "dir"}))[0] == 201
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "s1"})
    slow = "/1.0/storage-pools/slow/volumes/custom"
    source = {"type": "copy", "name": "data", "pool": "default"}
    ended = await stand.finish("POST", slow, {"name": "copy", "type": "custom", "source": source})
    assert ended["status_code"] == 200, ended
    assert await stand.get(slow) == [f"{slow}/copy", f"{slow}/copy/snapshots/s1"]
    ended = await stand.finish("POST", slow, {"name": "old", "source": source | {"name": "data/s1"}})
    assert (ended["status_code"], await stand.get(f"{slow}/old/snapshots")) == (200, [])
    ended = await stand.finish("POST", slow, {"name": "bare", "source": source | {"volume_only": True}})
    assert (ended["status_code"], await stand.get(f"{slow}/bare/snapshots")) == (200, [])
    ended = await stand.finish("POST", DATA, {"name": "moved", "pool": "slow"})
    assert ended["status_code"] == 200, ended
    assert await stand.get(f"{ROOT}/custom") == []
    assert (await stand.get(f"{slow}/moved"))["description"] == "mine"


async def test_a_copy_is_refreshed(stand: Stand) -> None:
    await with_data(stand)
    assert "custom_volume_refresh" in (await stand.get("/1.0"))["api_extensions"]
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "s1"})
    source = {"type": "copy", "name": "data", "refresh": True}
    ended = await stand.finish("POST", f"{ROOT}/custom", {"name": "copy", "source": source})
    assert (ended["status_code"], ended["description"]) == (200, "Copying storage volume")  # there was none
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "s2"})
    body = {"name": "copy", "source": source | {"volume_only": True}, "config": {"user.a": "other"}}
    ended = await stand.finish("POST", f"{ROOT}/custom", body)
    assert (ended["status_code"], ended["description"]) == (200, "Refreshing storage volume")
    copy = f"{ROOT}/custom/copy"
    assert await stand.get(f"{copy}/snapshots") == [f"{copy}/snapshots/s1"]
    await stand.finish("POST", f"{ROOT}/custom", {"name": "copy", "source": source})
    assert await stand.get(f"{copy}/snapshots") == [f"{copy}/snapshots/s1", f"{copy}/snapshots/s2"]
    assert (await stand.get(copy))["config"] == {"user.a": "b"}
    for body, status in (
        ({"name": "data", "source": source}, 400),
        ({"name": "copy", "source": source | {"name": "none"}}, 404),
        ({"name": "copy", "source": source | {"name": "data/none"}}, 404),
        ({"name": "copy", "source": source | {"refresh": "yes"}}, 400),
        ({"name": "copy", "source": {"type": "copy", "name": "data"}}, 409),
    ):
        assert (await stand.ask("POST", f"{ROOT}/custom", body))[0] == status, body


@pytest.mark.parametrize(
    "target", [{"pool": "default"}, {"project": "default"}, {"pool": "default", "project": "default"}]
)
async def test_a_move_within_a_pool_is_a_rename(stand: Stand, target: dict[str, str]) -> None:
    await with_data(stand)
    status, body = await stand.ask("POST", DATA, {"name": "other"} | target)
    assert (status, body["type"]) == (201, "sync")
    assert await stand.get(f"{ROOT}/custom") == [f"{ROOT}/custom/other"]


async def test_a_snapshot_may_be_without_the_expiry_of_its_volume(stand: Stand) -> None:
    await with_data(stand)
    assert (await stand.ask("PATCH", DATA, {"config": {"snapshots.expiry": "1d"}}))[0] == 200
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "one"})
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "two", "expires_at": "0001-01-01T00:00:00Z"})
    shown = {each["name"]: each["expires_at"] for each in await stand.get(f"{DATA}/snapshots?recursion=1")}
    assert shown.pop("data/two") in (None, "0001-01-01T00:00:00Z")
    assert shown["data/one"] not in (None, "0001-01-01T00:00:00Z")


async def test_snapshots_from_creation_to_deletion(stand: Stand) -> None:
    await with_data(stand)
    await stand.finish("POST", f"{DATA}/snapshots", {})
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "third", "expires_at": "2036-01-01T00:00:00Z"})
    assert await stand.get(f"{DATA}/snapshots") == [f"{DATA}/snapshots/snap0", f"{DATA}/snapshots/third"]
    shown = (await stand.get(f"{DATA}/snapshots?recursion=1"))[1]
    assert shown | {"created_at": ""} == {
        "name": "data/third",
        "description": "",
        "config": {"user.a": "b"},
        "content_type": "filesystem",
        "created_at": "",
        "expires_at": "2036-01-01T00:00:00Z",
    }
    assert [each["name"] for each in await stand.get(f"{ROOT}/custom?recursion=1")] == [
        "data",
        "data/snap0",
        "data/third",
    ]
    one = f"{DATA}/snapshots/snap0"
    assert (await stand.ask("PATCH", one, {"description": "first"}))[0] == 200
    assert (await stand.get(one))["description"] == "first"
    assert (await stand.ask("PUT", one, {"expires_at": "2037-01-01T00:00:00Z"}))[0] == 200
    shown = await stand.get(one)
    assert (shown["description"], shown["expires_at"]) == ("", "2037-01-01T00:00:00Z")
    await stand.finish("POST", one, {"name": "first"})
    assert (await stand.ask("GET", one))[0] == 404
    assert (await stand.ask("PUT", DATA, {"restore": "first"}))[0] == 200
    await stand.finish("DELETE", f"{DATA}/snapshots/first")
    assert await stand.get(f"{DATA}/snapshots") == [f"{DATA}/snapshots/third"]
    assert (await stand.ask("DELETE", DATA))[0] == 200


async def test_a_listed_snapshot_is_named_with_its_volume_and_a_single_one_alone(stand: Stand) -> None:
    await with_data(stand)
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "s"})
    listed = (await stand.get(f"{DATA}/snapshots?recursion=1&filter=name%20eq%20data/s"))[0]
    assert (listed["name"], listed["expires_at"]) == ("data/s", None)
    shown = await stand.get(f"{DATA}/snapshots/s")
    assert (shown["name"], shown["expires_at"]) == ("s", "0001-01-01T00:00:00Z")


async def test_a_rename_event_has_the_old_name(stand: Stand) -> None:
    await with_data(stand)
    await stand.finish("POST", f"{DATA}/snapshots", {"name": "s"})
    events = stand.services.events.follow([EventKind.LIFECYCLE])
    await stand.finish("POST", f"{DATA}/snapshots/s", {"name": "t"})
    assert (await stand.ask("POST", DATA, {"name": "other"}))[0] == 201
    events.close()
    told = [(lifecycle(event).action, dict(lifecycle(event).context)) async for event in events]
    assert told == [
        ("storage-volume-snapshot-renamed", {"old_name": "s"}),
        ("storage-volume-renamed", {"old_name": "data"}),
    ]


async def test_root_volumes_are_shown_and_not_changed(stand: Stand) -> None:
    await stand.create("web1")
    root = f"{ROOT}/container/web1"
    assert await stand.get(ROOT) == [root]
    assert await stand.get(f"{root}/snapshots") == []
    for method in ("POST", "DELETE"):
        assert (await stand.ask(method, root, {}))[0] == 501
    assert (await stand.ask("GET", f"{root}/snapshots/x"))[0] == 404


async def test_users_keep_notes_on_root_volumes(stand: Stand) -> None:
    await stand.create("web1")
    root = f"{ROOT}/container/web1"
    body = {"description": "mine", "config": {"user.x": "y", "user.z": "1"}}
    assert (await stand.ask("PUT", root, body))[0] == 200
    shown = await stand.get(root)
    assert (shown["description"], shown["config"]) == ("mine", {"user.x": "y", "user.z": "1"})
    assert (await stand.get(f"{ROOT}?recursion=1"))[0] == shown
    await stand.finish("POST", "/1.0/instances/web1/snapshots", {"name": "s1"})
    assert (await stand.ask("PATCH", root, {"config": {"user.x": "new", "user.z": ""}}))[0] == 200
    assert (await stand.get(root))["config"] == {"user.x": "new"}
    assert (await stand.get(root))["description"] == "mine"
    assert (await stand.get(f"{root}/snapshots/s1"))["config"] == {"user.x": "y", "user.z": "1"}
    source = {"type": "copy", "source": "web1"}
    await stand.finish("POST", "/1.0/instances", {"name": "web2", "source": source})
    assert (await stand.get(f"{ROOT}/container/web2"))["config"] == {"user.x": "new"}
    await stand.finish("PUT", "/1.0/instances/web1", {"restore": "s1"})
    assert (await stand.get(root))["config"] == {"user.x": "y", "user.z": "1"}
    assert (await stand.ask("PUT", root, {}))[0] == 200
    assert ((await stand.get(root))["config"], (await stand.get(root))["description"]) == ({}, "")


async def test_other_keys_of_root_volumes_are_refused(stand: Stand) -> None:
    await stand.create("web1")
    root = f"{ROOT}/container/web1"
    for body in (
        {"config": {"snapshots.schedule": "@daily"}},
        {"config": {"user.x": "x" * (65 << 10)}},
        {"config": {"size": "1GiB"}},
        {"description": "x" * (65 << 10)},
        {"restore": "s1"},
    ):
        for method in ("PUT", "PATCH"):
            answer = await stand.ask(method, root, body)
            assert answer[0] == 400, (method, answer)
    assert (await stand.ask("PUT", root, {"description": "x"}, headers={"If-Match": "other"}))[0] == 412
    assert ((await stand.get(root))["config"], (await stand.get(root))["description"]) == ({}, "")


async def test_all_projects_lists_volumes_of_each(stand: Stand) -> None:
    await with_data(stand)
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue"}))[0] == 201
    assert (await stand.ask("POST", f"{ROOT}/custom?project=blue", {"name": "data"}))[0] == 201
    assert sorted(await stand.get(f"{ROOT}?all-projects=true")) == [DATA, f"{DATA}?project=blue"]
    listed = sorted(await stand.get("/1.0/profiles?all-projects=true"))
    assert listed == ["/1.0/profiles/default", "/1.0/profiles/default?project=blue"]
    done = await stand.get("/1.0/operations?all-projects=true&recursion=1")
    assert len([each for each in done["success"] if each["description"] == "Creating storage volume"]) == 2


async def test_disks_and_discs_are_volumes_of_other_content(stand: Stand) -> None:
    body = {"name": "disk", "content_type": "block", "config": {"size": "1MiB"}}
    assert (await stand.ask("POST", f"{ROOT}/custom", body))[0] == 201
    shown = await stand.get(f"{ROOT}/custom/disk")
    assert (shown["content_type"], shown["config"]) == ("block", {"size": "1MiB"})
    disc = bytes(0x8001) + b"CD001" + bytes(40960 - 0x8006)
    raw = {"Content-Type": "application/octet-stream"}
    named = raw | {"X-LXD-name": "cd", "X-LXD-type": "iso"}
    await stand.finish("POST", f"{ROOT}/custom", data=disc, headers=named)
    assert (await stand.get(f"{ROOT}/custom/cd"))["content_type"] == "iso"
    of_incus = raw | {"X-Incus-name": "incus", "X-Incus-type": "iso"}
    await stand.finish("POST", f"{ROOT}/custom", data=disc, headers=of_incus)
    assert (await stand.ask("DELETE", f"{ROOT}/custom/incus"))[0] in (200, 202)
    for data, headers, status in (
        (bytes(40960), raw | {"X-LXD-name": "cd2", "X-LXD-type": "iso"}, 400),
        (disc, named, 409),
        (disc, raw | {"X-LXD-name": "backup"}, 501),
        (b"", raw | {"X-LXD-name": "cd2", "X-LXD-type": "iso"}, 400),
    ):
        assert (await stand.ask("POST", f"{ROOT}/custom", data=data, headers=headers))[0] == status
    assert sorted(await stand.get(f"{ROOT}/custom")) == [f"{ROOT}/custom/cd", f"{ROOT}/custom/disk"]
    assert not await stand.services.host.files.names(stand.services.images.store.scratch)
