"""Snapshots of instances over the REST door: every route, and other lists that contain them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest_door import Stand, standing

_WEB = "/1.0/instances/web1"
_VOLUME = "/1.0/storage-pools/default/volumes/container/web1"


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        body = {"name": "web1", "source": {"type": "image", "alias": "tiny"}, "config": {"user.mark": "then"}}
        await open_door.finish("POST", "/1.0/instances", body)
        yield open_door


async def take(stand: Stand, name: str = "", **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = await stand.finish("POST", f"{_WEB}/snapshots", {"name": name, **more})
    return told


async def test_a_snapshot_is_taken_shown_listed_and_removed(stand: Stand) -> None:
    told = await take(stand)
    assert told["resources"]["instances_snapshots"] == [f"{_WEB}/snapshots/snap0"]
    assert await stand.get(f"{_WEB}/snapshots") == [f"{_WEB}/snapshots/snap0"]
    (listed,) = await stand.get(f"{_WEB}/snapshots?recursion=1")
    one = await stand.get(f"{_WEB}/snapshots/snap0")
    assert one == listed
    assert (one["name"], one["stateful"], one["config"]["user.mark"]) == ("snap0", False, "then")
    assert (one["expires_at"], one["profiles"]) == ("0001-01-01T00:00:00Z", ["default"])
    assert one["size"] >= 0
    assert "root" in one["expanded_devices"]
    (full,) = await stand.get("/1.0/instances?recursion=2")
    assert [each["name"] for each in full["snapshots"]] == ["snap0"]
    await stand.finish("DELETE", f"{_WEB}/snapshots/snap0", None)
    assert await stand.get(f"{_WEB}/snapshots") == []


async def test_snapshots_are_listed_among_volumes(stand: Stand) -> None:
    await take(stand, "one")
    volumes = await stand.get("/1.0/storage-pools/default/volumes?recursion=1")
    assert {"web1", "web1/one"} <= {each["name"] for each in volumes}
    assert await stand.get(f"{_VOLUME}/snapshots") == [f"{_VOLUME}/snapshots/one"]
    assert (await stand.get(f"{_VOLUME}/snapshots/one"))["name"] == "one"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_root_volume_is_changed_through_its_instance(stand: Stand, method: str) -> None:
    shown = await stand.get(_VOLUME)
    assert (shown["name"], shown["type"], shown["used_by"]) == ("web1", "container", [_WEB])
    assert set(await stand.get(f"{_VOLUME}/state")) == {"usage"}
    for body, status, field in (
        ({"config": shown["config"], "description": shown["description"]}, 200, None),
        ({}, 200, None),
        ({"config": {"size": "1GiB"}}, 400, "config.size"),
        ({"config": {"size": "much"}}, 400, "config.size"),
        ({"config": {"snapshots.pattern": "b"}}, 400, "config.snapshots.pattern"),
        ({"restore": "one"}, 400, "restore"),
    ):
        answered, answer = await stand.ask(method, _VOLUME, body)
        assert (answered, (answer["metadata"] or {}).get("field")) == (status, field), body
    assert (await stand.ask(method, _VOLUME, {}, headers={"If-Match": "old"}))[0] == 412
    assert (await stand.ask(method, _VOLUME.replace("web1", "none"), {}))[0] == 404


async def test_a_snapshot_is_renamed_and_its_expiry_set(stand: Stand) -> None:
    await take(stand, "one")
    await stand.finish("POST", f"{_WEB}/snapshots/one", {"name": "two"})
    body = {"expires_at": "2040-01-02T03:04:05Z"}
    await stand.finish("PUT", f"{_WEB}/snapshots/two", body)
    assert (await stand.get(f"{_WEB}/snapshots/two"))["expires_at"] == "2040-01-02T03:04:05Z"
    status, answered = await stand.ask("PUT", f"{_WEB}/snapshots/two", {}, headers={"If-Match": "old"})
    assert (status, answered["metadata"]["code"]) == (412, "precondition_failed")
    await stand.finish("PATCH", f"{_WEB}/snapshots/two", {})
    assert (await stand.get(f"{_WEB}/snapshots/two"))["expires_at"] == "2040-01-02T03:04:05Z"


@pytest.mark.parametrize("name", ["snap0", "web1/snap0"])
async def test_a_snapshot_is_restored(stand: Stand, name: str) -> None:
    await take(stand)
    await stand.finish("PUT", _WEB, {"config": {"user.mark": "now"}, "profiles": ["default"], "devices": {}})
    await stand.finish("PUT", _WEB, {"restore": name})
    assert (await stand.get(_WEB))["config"]["user.mark"] == "then"


async def test_a_snapshot_without_expiry_ignores_the_key(stand: Stand) -> None:
    body = {"config": {"snapshots.expiry": "1d"}, "profiles": ["default"], "devices": {}}
    await stand.finish("PUT", _WEB, body)
    await take(stand, "goes")
    await take(stand, "stays", expires_at="0001-01-01T00:00:00Z")
    assert not (await stand.get(f"{_WEB}/snapshots/goes"))["expires_at"].startswith("0001")
    assert (await stand.get(f"{_WEB}/snapshots/stays"))["expires_at"].startswith("0001")
