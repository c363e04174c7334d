"""``/1.0/warnings`` as clients of LXD use it."""

from __future__ import annotations

import pytest
from channels import eventually
from rest_door import Stand

from isola.doors.rest.extensions import EXTENSIONS
from isola.model.reference import Entity, Kind, Ref
from isola.model.warning import WarningType

POOL = Entity.of_host(Kind.STORAGE_POOL, "fast")
BLUE = Entity.of(Kind.INSTANCE, Ref("blue", "web2"))


async def warned(stand: Stand) -> None:
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue"}))[0] == 201
    for type, entity in (
        (WarningType.AUTOSTART_FAILURE, Entity.of(Kind.INSTANCE, Ref.default("web1"))),
        (WarningType.AUTOSTART_FAILURE, BLUE),
        (WarningType.POOL_UNAVAILABLE, POOL),
    ):
        stand.services.warnings.report(type, entity, f"about {entity}")
    await stand.services.warnings.settled()


async def test_warnings_are_listed_with_their_entity(stand: Stand) -> None:
    assert "warnings" in EXTENSIONS
    await warned(stand)
    shown = {each["entity_url"]: each for each in await stand.get("/1.0/warnings?recursion=1")}
    assert set(shown) == {"/1.0/instances/web1", "/1.0/instances/web2?project=blue", "/1.0/storage-pools/fast"}
    one = shown["/1.0/storage-pools/fast"]
    assert (one["type"], one["severity"], one["project"]) == ("Storage pool unavailable", "high", "")
    assert (one["status"], one["count"], one["last_message"]) == ("new", 1, "about storage pool fast")
    paths = await stand.get("/1.0/warnings")
    assert sorted(paths) == sorted(f"/1.0/warnings/{each['uuid']}" for each in shown.values())
    assert await stand.get(f"/1.0/warnings/{one['uuid']}") == one


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("project=blue", {"/1.0/instances/web2?project=blue"}),
        ("project=default", {"/1.0/instances/web1"}),
        ("filter=severity%20eq%20high", {"/1.0/storage-pools/fast"}),
    ],
)
async def test_filtered_warnings(stand: Stand, query: str, expected: set[str]) -> None:
    await warned(stand)
    assert {each["entity_url"] for each in await stand.get(f"/1.0/warnings?recursion=1&{query}")} == expected


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_warning_is_acknowledged_reset_and_deleted(stand: Stand, method: str) -> None:
    await warned(stand)
    path = (await stand.get("/1.0/warnings"))[0]
    for status in ("acknowledged", "new"):
        assert (await stand.ask(method, path, {"status": status}))[0] == 200
        assert (await stand.get(path))["status"] == status
    for wrong in ({"status": "resolved"}, {"status": ""}, {}, {"status": 1}):
        assert (await stand.ask(method, path, wrong))[0] == 400
    stale = {"headers": {"If-Match": "no"}}
    assert (await stand.ask(method, path, {"status": "acknowledged"}, **stale))[0] == 412
    assert (await stand.ask("DELETE", path))[0] == 200
    assert (await stand.ask("GET", path))[0] == (await stand.ask("DELETE", path))[0] == 404
    assert len(await stand.get("/1.0/warnings")) == 2


async def test_a_failed_cleanup_is_a_warning_until_it_succeeds(stand: Stand) -> None:
    instance = await stand.create("web1", start=True)
    stand.world.runtime.keeps = True
    stand.world.runtime.end(instance.id)
    await eventually(lambda: any(stand.services.warnings))
    shown = (await stand.get("/1.0/warnings?recursion=1"))[0]
    assert (shown["type"], shown["status"]) == ("Instance cleanup failed", "new")
    assert "Cannot remove what is left" in shown["last_message"]
    stand.world.runtime.keeps = False
    await stand.world.host.clock.advance(1)
    await eventually(lambda: not stand.world.context.faults)
    await stand.services.warnings.settled()
    assert (await stand.get(f"/1.0/warnings/{shown['uuid']}"))["status"] == "resolved"
    await stand.finish("DELETE", "/1.0/instances/web1")
    assert await stand.get("/1.0/warnings") == []
