"""Status, type and code of the responses of every route, as clients of LXD and Incus expect them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest_door import Stand, standing

from isola.errors import InvalidInput
from isola.model.profile import Profile
from isola.model.reference import Ref
from isola.model.template import Template
from isola.operations import Operation
from isola.testing.tree import Node

_POOL = "/1.0/storage-pools/default"
_WEB = "/1.0/instances/web1"
_HTTP = "http://isola"


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """One of everything: ``web1`` runs, ``db1`` is stopped, ``FP`` in a path is the fingerprint of ``tiny``."""
    async with standing() as open_door:
        services = open_door.services
        await open_door.create("db1")
        await open_door.create("web1", start=True)
        await open_door.write_logs("web1")
        await services.profiles.create(Profile("p1", "", {}, {}))
        yield open_door


async def _ask(stand: Stand, method: str, path: str, body: object = None, **more: Any) -> tuple[int, str, str]:
    fingerprint = stand.services.images.alias(Ref.default("tiny")).target
    if isinstance(body, dict) and body.get("target") == "FP":
        body = body | {"target": fingerprint}
    status, answer = await stand.ask(method, path.replace("FP", fingerprint), body, **more)
    return status, answer["type"], (answer["metadata"] or {}).get("code", "") if answer["type"] == "error" else ""


OK, MADE, BEGUN = (200, "sync", ""), (201, "sync", ""), (202, "async", "")
_CHOSEN: dict[str, object] = {"config": {"ipv4.address": "auto", "ipv6.address": "auto"}}
MISSING, WRONG, STATE = (404, "error", "not_found"), (400, "error", "invalid"), (400, "error", "wrong_state")
EXISTS, FORBIDDEN = (409, "error", "already_exists"), (403, "error", "forbidden")
REFUSED, USED = (501, "error", "unsupported"), (400, "error", "in_use")

SERVER = [
    ("GET", "/", None, OK),
    ("GET", "/1.0", None, OK),
    ("PUT", "/1.0", {"config": {"user.a": "1"}}, OK),
    ("PATCH", "/1.0", {"config": {"user.a": "1"}}, OK),
    ("PATCH", "/1.0", {"config": {"nonsense": "1"}}, WRONG),
    ("GET", "/1.0/resources", None, OK),
    ("GET", "/1.0/metadata/configuration", None, OK),
    ("GET", "/1.0/events", None, WRONG),
    ("GET", "/2.0", None, MISSING),
    ("GET", "/1.0/nonsense", None, MISSING),
    ("GET", "/1.0/projects", None, OK),
    ("GET", "/1.0/projects/default", None, OK),
    ("GET", "/1.0/projects/default/state", None, OK),
    ("GET", "/1.0/projects/nope", None, MISSING),
    ("GET", "/1.0/instances?project=nope", None, MISSING),
    ("POST", "/1.0/projects", {"name": "x"}, MADE),
    ("GET", "/1.0/cluster", None, OK),
    ("PUT", "/1.0/cluster", {}, REFUSED),
    ("GET", "/1.0/operations", None, OK),
    ("GET", "/1.0/operations/nope", None, MISSING),
    ("DELETE", "/1.0/operations/nope", None, MISSING),
    ("GET", "/1.0/operations/nope/wait", None, MISSING),
    ("GET", "/1.0/operations/nope/websocket?secret=x", None, MISSING),
]
INSTANCES: list[tuple[str, str, object, tuple[int, str, str]]] = [
    ("GET", "/1.0/instances", None, OK),
    ("GET", "/1.0/instances?recursion=2", None, OK),
    ("GET", "/1.0/instances?instance-type=container", None, OK),
    ("GET", "/1.0/instances?instance-type=nonsense", None, WRONG),
    ("POST", "/1.0/instances", {"name": "new", "source": {"type": "none"}}, BEGUN),
    ("POST", "/1.0/instances", {"name": "web1", "source": {"type": "none"}}, EXISTS),
    ("POST", "/1.0/instances", {"name": "a/b", "source": {"type": "none"}}, WRONG),
    ("PUT", "/1.0/instances", {"state": {"action": "stop"}}, BEGUN),
    ("PUT", "/1.0/instances", {"state": {"action": "explode"}}, WRONG),
    ("GET", _WEB, None, OK),
    ("GET", f"{_WEB}?instance-type=container", None, OK),
    ("GET", f"{_WEB}?instance-type=virtual-machine", None, MISSING),
    ("GET", "/1.0/instances/nope", None, MISSING),
    ("PUT", _WEB, {"config": {}, "profiles": ["default"]}, BEGUN),
    ("PUT", _WEB, {"config": {}}, WRONG),
    ("PATCH", _WEB, {"config": {"user.a": "1"}}, OK),
    ("PATCH", "/1.0/instances/nope", {}, MISSING),
    ("POST", "/1.0/instances/db1", {"name": "db2"}, BEGUN),
    ("POST", "/1.0/instances/db1", {}, WRONG),
    ("DELETE", "/1.0/instances/db1", None, BEGUN),
    ("DELETE", _WEB, None, STATE),
    ("GET", f"{_WEB}/state", None, OK),
    ("PUT", f"{_WEB}/state", {"action": "freeze"}, BEGUN),
    ("PUT", f"{_WEB}/state", {"action": "start"}, STATE),
    ("PUT", f"{_WEB}/state", {}, WRONG),
    ("PUT", "/1.0/instances/nope/state", {"action": "start"}, MISSING),
    ("POST", f"{_WEB}/exec", {"command": ["true"]}, BEGUN),
    ("POST", f"{_WEB}/exec", {"command": []}, WRONG),
    ("POST", f"{_WEB}/console", {}, BEGUN),
    ("DELETE", f"{_WEB}/console", None, OK),
    ("GET", f"{_WEB}/metadata", None, OK),
    ("PUT", f"{_WEB}/metadata", {}, OK),
    ("PATCH", f"{_WEB}/metadata", {}, OK),
    ("GET", f"{_WEB}/metadata/templates", None, OK),
    ("GET", f"{_WEB}/metadata/templates?path=x", None, MISSING),
    ("POST", f"{_WEB}/metadata/templates", None, WRONG),
    ("POST", f"{_WEB}/metadata/templates?path=x", None, OK),
    ("DELETE", f"{_WEB}/metadata/templates?path=x", None, MISSING),
    ("GET", f"{_WEB}/logs", None, OK),
    ("GET", f"{_WEB}/logs/exec-output", None, OK),
    ("GET", f"{_WEB}/logs/exec-output/nope", None, MISSING),
    ("DELETE", f"{_WEB}/logs/exec-output/exec_1.stdout", None, OK),
    ("GET", f"{_WEB}/logs/nope.log", None, MISSING),
    ("DELETE", f"{_WEB}/logs/runtime.log", None, OK),
    ("GET", f"{_WEB}/files", None, WRONG),
    ("GET", f"{_WEB}/files?path=/nope", None, MISSING),
    ("GET", f"{_WEB}/files?path=/", None, OK),
    ("DELETE", f"{_WEB}/files?path=/nope", None, MISSING),
    ("GET", f"{_WEB}/snapshots", None, OK),
    ("POST", f"{_WEB}/snapshots", {"name": "s"}, BEGUN),
    ("POST", f"{_WEB}/snapshots", {"name": "s", "stateful": True}, BEGUN),
    ("POST", f"{_WEB}/snapshots", {"name": "../s"}, WRONG),
    ("GET", f"{_WEB}/snapshots/nope", None, MISSING),
    ("PUT", f"{_WEB}/snapshots/nope", {}, MISSING),
    ("POST", f"{_WEB}/snapshots/nope", {"name": "t"}, MISSING),
    ("DELETE", f"{_WEB}/snapshots/nope", None, MISSING),
    ("GET", f"{_WEB}/backups", None, OK),
    ("POST", f"{_WEB}/backups", {"name": "b"}, REFUSED),
    ("GET", f"{_WEB}/sftp", None, WRONG),
]
IMAGES = [
    ("GET", "/1.0/images", None, OK),
    ("POST", "/1.0/images", {}, WRONG),
    ("POST", "/1.0/images", {"source": {"type": "image", "protocol": "build", "alias": "debian/12"}}, BEGUN),
    ("POST", "/1.0/images", {"source": {"type": "image", "protocol": "build", "alias": "nope"}}, MISSING),
    ("GET", "/1.0/images/FP", None, OK),
    ("GET", "/1.0/images/nope", None, MISSING),
    ("PUT", "/1.0/images/FP", {"public": True}, OK),
    ("PATCH", "/1.0/images/FP", {"properties": {"a": "b"}}, OK),
    ("DELETE", "/1.0/images/FP", None, BEGUN),
    ("DELETE", "/1.0/images/nope", None, MISSING),
    ("POST", "/1.0/images/FP/secret", None, BEGUN),
    ("POST", "/1.0/images/FP/refresh", None, REFUSED),
    ("POST", "/1.0/images/FP/export", {}, REFUSED),
    ("GET", "/1.0/images/nope/export", None, MISSING),
    ("GET", "/1.0/images/aliases", None, OK),
    ("POST", "/1.0/images/aliases", {"name": "more", "target": "FP"}, MADE),
    ("POST", "/1.0/images/aliases", {"name": "tiny", "target": "FP"}, EXISTS),
    ("POST", "/1.0/images/aliases", {"name": "more", "target": "nope"}, MISSING),
    ("POST", "/1.0/images/aliases", {"name": "more"}, WRONG),
    ("GET", "/1.0/images/aliases/tiny", None, OK),
    ("GET", "/1.0/images/aliases/nope", None, MISSING),
    ("PUT", "/1.0/images/aliases/tiny", {"target": "FP"}, OK),
    ("PUT", "/1.0/images/aliases/tiny", {}, WRONG),
    ("PATCH", "/1.0/images/aliases/tiny", {"description": "d"}, OK),
    ("POST", "/1.0/images/aliases/tiny", {"name": "more"}, MADE),
    ("DELETE", "/1.0/images/aliases/tiny", None, OK),
    ("DELETE", "/1.0/images/aliases/nope", None, MISSING),
]
NOUNS = [
    ("GET", "/1.0/profiles", None, OK),
    ("POST", "/1.0/profiles", {"name": "p2"}, MADE),
    ("POST", "/1.0/profiles", {"name": "p1"}, EXISTS),
    ("POST", "/1.0/profiles", {"name": "a/b"}, WRONG),
    ("POST", "/1.0/profiles", {}, WRONG),
    ("GET", "/1.0/profiles/p1", None, OK),
    ("GET", "/1.0/profiles/nope", None, MISSING),
    ("PUT", "/1.0/profiles/p1", {}, OK),
    ("PATCH", "/1.0/profiles/p1", {}, OK),
    ("PATCH", "/1.0/profiles/nope", {}, MISSING),
    ("POST", "/1.0/profiles/p1", {"name": "p2"}, MADE),
    ("POST", "/1.0/profiles/default", {"name": "p2"}, FORBIDDEN),
    ("DELETE", "/1.0/profiles/p1", None, OK),
    ("DELETE", "/1.0/profiles/default", None, FORBIDDEN),
    ("GET", "/1.0/networks", None, OK),
    ("POST", "/1.0/networks", {"name": "br1"}, MADE),
    ("POST", "/1.0/networks", {"name": "isolabr0"}, EXISTS),
    ("POST", "/1.0/networks", {}, WRONG),
    ("GET", "/1.0/networks/isolabr0", None, OK),
    ("GET", "/1.0/networks/lo", None, OK),
    ("GET", "/1.0/networks/nope", None, MISSING),
    ("PUT", "/1.0/networks/isolabr0", _CHOSEN, OK),
    ("PUT", "/1.0/networks/lo", {}, WRONG),
    ("PATCH", "/1.0/networks/isolabr0", {}, OK),
    ("DELETE", "/1.0/networks/isolabr0", None, USED),
    ("DELETE", "/1.0/networks/lo", None, WRONG),
    ("DELETE", "/1.0/networks/nope", None, MISSING),
    ("GET", "/1.0/networks/isolabr0/leases", None, OK),
    ("GET", "/1.0/networks/nope/leases", None, MISSING),
    ("GET", "/1.0/networks/isolabr0/state", None, OK),
    ("GET", "/1.0/networks/nope/state", None, MISSING),
    ("GET", "/1.0/storage-pools", None, OK),
    ("POST", "/1.0/storage-pools", {"name": "p", "driver": "overlay"}, MADE),
    ("POST", "/1.0/storage-pools", {"name": "default", "driver": "overlay"}, EXISTS),
    ("POST", "/1.0/storage-pools", {"name": "p"}, WRONG),
    ("POST", _POOL, {"name": "other"}, REFUSED),
    ("GET", _POOL, None, OK),
    ("GET", "/1.0/storage-pools/nope", None, MISSING),
    ("PUT", _POOL, {}, OK),
    ("PATCH", _POOL, {}, OK),
    ("DELETE", "/1.0/storage-pools/nope", None, MISSING),
    ("GET", f"{_POOL}/resources", None, OK),
    ("GET", f"{_POOL}/volumes", None, OK),
    ("GET", f"{_POOL}/volumes/container", None, OK),
    ("GET", f"{_POOL}/volumes/virtual-machine", None, OK),
    ("GET", f"{_POOL}/volumes/image", None, OK),
    ("GET", f"{_POOL}/volumes/nonsense", None, WRONG),
    ("POST", f"{_POOL}/volumes/custom", {"name": "../v"}, WRONG),
    ("POST", f"{_POOL}/volumes/custom", {"name": "v", "content_type": "nonsense"}, WRONG),
    ("GET", f"{_POOL}/volumes/container/web1", None, OK),
    ("GET", f"{_POOL}/volumes/container/nope", None, MISSING),
    ("GET", f"{_POOL}/volumes/nonsense/web1", None, WRONG),
    ("GET", f"{_POOL}/volumes/container/web1/state", None, OK),
    ("GET", f"{_POOL}/volumes/container/web1/snapshots", None, OK),
    ("POST", f"{_POOL}/volumes/container/web1/snapshots", {"name": "s"}, REFUSED),
]
NOT_OFFERED = [
    ("GET", f"{_POOL}/volumes/container/web1/snapshots/s", None, MISSING),
    ("DELETE", f"{_POOL}/volumes/container/web1/snapshots/s", None, REFUSED),
    ("POST", f"{_POOL}/volumes/container/web1/backups", {"name": "b"}, REFUSED),
    ("GET", f"{_POOL}/volumes/custom/v/backups/b/export", None, REFUSED),
    ("GET", f"{_POOL}/buckets", None, REFUSED),
    ("POST", f"{_POOL}/buckets/b/keys", {"name": "k"}, REFUSED),
    ("GET", "/1.0/network-acls", None, REFUSED),
    ("POST", "/1.0/network-acls/x", {"name": "y"}, REFUSED),
    ("GET", "/1.0/network-zones/x/records", None, REFUSED),
    ("GET", "/1.0/network-allocations", None, REFUSED),
    ("GET", "/1.0/network-integrations", None, REFUSED),
    ("POST", "/1.0/networks/isolabr0/forwards", {"listen_address": "10.0.0.1"}, REFUSED),
    ("GET", "/1.0/networks/isolabr0/load-balancers", None, REFUSED),
    ("GET", "/1.0/networks/isolabr0/peers", None, REFUSED),
    ("GET", "/1.0/cluster/groups", None, REFUSED),
    ("PUT", "/1.0/cluster/certificate", {}, REFUSED),
    ("POST", "/1.0/cluster/members/x/state", {"action": "evacuate"}, REFUSED),
    ("GET", "/1.0/metrics", None, REFUSED),
    ("POST", f"{_WEB}/rebuild", {"source": {"type": "none"}}, REFUSED),
    ("POST", "/1.0/containers/web1/rebuild", {}, REFUSED),
    ("GET", f"{_WEB}/debug/memory", None, REFUSED),
    ("GET", f"{_WEB}/nonsense", None, MISSING),
    ("GET", "/1.0/network-aclsx", None, MISSING),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), [*SERVER, *INSTANCES, *IMAGES, *NOUNS, *NOT_OFFERED])
async def test_status_kind_and_code(
    stand: Stand, method: str, path: str, body: object, expected: tuple[int, str, str]
) -> None:
    assert await _ask(stand, method, path, body) == expected


@pytest.mark.parametrize(
    "path",
    ["/1.0", _WEB, "/1.0/profiles/p1", "/1.0/networks/isolabr0", _POOL, "/1.0/images/FP", "/1.0/images/aliases/tiny"],
)
async def test_an_outdated_etag_is_412(stand: Stand, path: str) -> None:
    fingerprint = stand.services.images.alias(Ref.default("tiny")).target
    async with stand.session.get(_HTTP + path.replace("FP", fingerprint)) as answer:
        tag = answer.headers["ETag"]
    body: dict[str, object] = {"target": "FP"} if "aliases" in path else {}
    if "networks" in path:
        body = _CHOSEN
    if path == _WEB:
        body["profiles"] = ["default"]  # without one it would have no root disk
    for method in ("PATCH", "PUT"):
        failed = await _ask(stand, method, path, body, headers={"If-Match": "0123"})
        assert failed == (412, "error", "precondition_failed")
        status, _, _ = await _ask(stand, method, path, body, headers={"If-Match": tag})
        assert status in (200, 202)


@pytest.mark.parametrize(
    ("method", "path", "body", "location"),
    [
        ("POST", "/1.0/profiles", {"name": "p2"}, "/1.0/profiles/p2"),
        ("POST", "/1.0/profiles/p1", {"name": "p2"}, "/1.0/profiles/p2"),
        ("POST", "/1.0/networks", {"name": "br1"}, "/1.0/networks/br1"),
        ("POST", "/1.0/storage-pools", {"name": "p", "driver": "overlay"}, "/1.0/storage-pools/p"),
        ("POST", "/1.0/images/aliases/tiny", {"name": "more"}, "/1.0/images/aliases/more"),
    ],
)
async def test_created_objects_have_a_location(
    stand: Stand, method: str, path: str, body: object, location: str
) -> None:
    async with stand.session.request(method, _HTTP + path, json=body) as answer:
        assert (answer.status, answer.headers["Location"]) == (201, location)
        assert (await answer.json())["status_code"] == 200


async def test_operations_have_a_location(stand: Stand) -> None:
    async with stand.session.post(f"{_HTTP}{_WEB}/exec", json={"command": ["true"]}) as answer:
        body = await answer.json()
        assert (answer.status, answer.headers["Location"]) == (202, body["operation"])
        assert (body["status_code"], body["status"]) == (100, "Operation created")


async def test_instances_by_their_type(stand: Stand) -> None:
    assert len(await stand.get("/1.0/instances?instance-type=container")) == 2
    for recursion in (0, 1, 2):
        assert await stand.get(f"/1.0/instances?instance-type=virtual-machine&recursion={recursion}") == []
    asked = {"state": {"action": "stop"}}
    ended = await stand.finish("PUT", "/1.0/instances?instance-type=virtual-machine", asked)
    assert ended["description"] == "Changing the state of 0 instances"


async def test_ended_operations_cannot_be_cancelled(stand: Stand) -> None:
    status, answer = await stand.ask("POST", f"{_WEB}/exec", {"command": ["cat"], "wait-for-websocket": True})
    path = answer["operation"]
    assert (status, await _ask(stand, "DELETE", path)) == (202, OK)
    assert (await stand.get(f"{path}/wait"))["status"] == "Cancelled"
    assert await _ask(stand, "DELETE", path) == STATE


async def test_a_wait_that_times_out_returns_the_current_state(stand: Stand) -> None:
    _, answer = await stand.ask("POST", f"{_WEB}/exec", {"command": ["cat"], "wait-for-websocket": True})
    await asyncio.sleep(0)
    assert (await stand.get(f"{answer['operation']}/wait?timeout=0"))["status"] == "Running"
    assert await _ask(stand, "DELETE", answer["operation"]) == OK


async def test_an_operation_has_an_error_once_it_has_failed(stand: Stand) -> None:
    undoing, go_on = asyncio.Event(), asyncio.Event()

    async def make() -> None:
        pass

    async def undo() -> None:
        undoing.set()
        await go_on.wait()

    async def work(op: Operation) -> None:
        await op.effect("make it", make, undo=undo)
        raise InvalidInput("Broken", field="name")

    path = f"/1.0/operations/{stand.services.operations.start('Making', work).id}"
    await asyncio.wait_for(undoing.wait(), 60)
    shown = await stand.get(path)
    assert (shown["status"], shown["err"], shown["metadata"]) == ("Running", "", None)
    go_on.set()
    ended = await stand.get(f"{path}/wait")
    assert (ended["status"], ended["err"]) == ("Failure", "Broken")
    assert ended["metadata"]["error"]["field"] == "name"


@pytest.mark.parametrize("query", ["", "?secret=", "?secret=wrong"])
async def test_a_channel_is_forbidden_without_its_secret(stand: Stand, query: str) -> None:
    _, answer = await stand.ask("POST", f"{_WEB}/exec", {"command": ["cat"], "wait-for-websocket": True})
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    assert await _ask(stand, "GET", f"{answer['operation']}/websocket{query}", headers=upgrade) == FORBIDDEN
    assert await _ask(stand, "DELETE", answer["operation"]) == OK


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_headers_of_files(stand: Stand, method: str) -> None:
    idmap = stand.services.instances.get(Ref.default("web1")).idmap
    assert idmap is not None
    facts: dict[str, Any] = {"mode": 0o640, "uid": idmap.base + 5, "gid": idmap.base + 6, "modified": 1_700_000_000}
    root = await stand.inside("web1")
    root.children |= {
        "f": Node("file", data=b"abc", **facts), "l": Node("symlink", target="/f", **facts),
        "d": Node("directory", **facts),
    }  # fmt: skip
    for path, kind in (("/f", "file"), ("/d", "directory"), ("/l", "symlink")):
        async with stand.session.request(method, f"{_HTTP}{_WEB}/files?path={path}") as answer:
            for dialect in ("LXD", "Incus"):
                names = ("uid", "gid", "mode", "type", "modified")
                shown = [answer.headers[f"X-{dialect}-{name}"] for name in names]
                assert shown == ["5", "6", "0640", kind, "2023-11-14 22:13:20 +0000 UTC"]
            if kind == "file":
                assert (answer.content_type, answer.headers["Content-Length"]) == ("application/octet-stream", "3")
            assert method == "HEAD" or kind != "directory" or answer.content_type == "application/json"


async def test_a_template_is_read_by_its_name(stand: Stand) -> None:
    await stand.create("made")
    template = Template("/etc/motd", ("create",), "welcome\n", "motd.tpl")
    await stand.world.context.records.change(
        Ref.default("made"),
        lambda made: dataclasses.replace(made, start=dataclasses.replace(made.start, templates=(template,))),
    )
    path = "/1.0/instances/made/metadata/templates"
    assert await stand.get(path) == ["motd.tpl"]
    async with stand.session.get(f"{_HTTP}{path}?path=motd.tpl") as answer:
        assert (answer.status, answer.content_type) == (200, "application/octet-stream")
        assert await answer.read() == b"welcome\n"
    assert await _ask(stand, "GET", f"{path}?path=other") == MISSING


async def test_outputs_of_recorded_commands(stand: Stand) -> None:
    path = f"{_WEB}/logs/exec-output"
    assert await stand.get(path) == [f"{path}/exec_1.stdout"]
    async with stand.session.get(f"{_HTTP}{path}/exec_1.stdout") as answer:
        assert (answer.status, answer.content_type) == (200, "application/octet-stream")
        assert await answer.read() == b"log of exec-output/exec_1.stdout"


async def test_empty_values_are_written_as_clients_expect(stand: Stand) -> None:
    db1 = await stand.get("/1.0/instances/db1?recursion=1")
    assert (db1["config"].keys() > {"image.os"}, db1["devices"], db1["ephemeral"]) == (True, {}, False)
    assert (db1["snapshots"], db1["backups"], db1["stateful"]) == ([], [], False)
    assert db1["last_used_at"] == "1970-01-01T00:00:00Z"
    assert (db1["state"]["network"], db1["state"]["pid"], db1["state"]["processes"]) == (None, 0, 0)
    image = await stand.get("/1.0/images/" + stand.services.images.alias(Ref.default("tiny")).target)
    assert (image["aliases"], image["profiles"]) == ([{"name": "tiny", "description": ""}], ["default"])
    assert (image["expires_at"], image["last_used_at"]) == ("0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
    assert "update_source" not in image
    p1 = await stand.get("/1.0/profiles/p1")
    assert (p1["config"], p1["devices"], p1["used_by"], p1["description"]) == ({}, {}, [], "")
    assert (await stand.get("/1.0/networks/lo"))["used_by"] == []
    assert (await stand.get(_POOL))["config"] == {}
    resources = (await stand.get("/1.0/projects/default/state"))["resources"]
    assert resources["instances"] == {"Limit": -1, "Usage": 2}


async def test_supported_extensions_are_listed(stand: Stand) -> None:
    announced = (await stand.get("/1.0"))["api_extensions"]
    assert {"storage_volume_state", "project_usage"} <= set(announced)
    assert {"instance_nic_network", "proxy", "container_nic_routed", "images_expiry"} <= set(announced)
