"""WebSockets: exec's channels, events; and operations waited for and cancelled."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from channels import Client, eventually
from rest_door import Stand, standing

from isola.doors.rest.connections import Channels
from isola.errors import Conflict, HostFailure, NotFound
from isola.model.event import EventKind
from isola.model.reference import Entity, Kind, Ref
from isola.operations import Operation
from isola.testing.host import fake_host


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        await open_door.create("web1", start=True)
        yield open_door


async def _exec(stand: Stand, *command: str, **more: object) -> tuple[str, dict[str, str]]:
    body = {"command": command, "wait-for-websocket": True, **more}
    status, answer = await stand.ask("POST", "/1.0/instances/web1/exec", body)
    assert status == 202, answer
    assert answer["metadata"]["class"] == "websocket"
    fds: dict[str, str] = answer["metadata"]["metadata"]["fds"]
    return answer["operation"], fds


def _connect(stand: Stand, operation: str, secret: str) -> Any:
    return stand.session.ws_connect(f"http://isola{operation}/websocket?secret={secret}")


async def _received(socket: aiohttp.ClientWebSocketResponse, size: int) -> bytes:
    """So many bytes from any number of messages."""
    heard = b""
    while len(heard) < size:
        heard += await socket.receive_bytes(timeout=60)
    return heard


async def test_exec_over_four_channels(stand: Stand) -> None:
    operation, fds = await _exec(stand, "control")
    assert set(fds) == {"0", "1", "2", "control"}
    sockets = {name: await _connect(stand, operation, secret) for name, secret in fds.items()}
    for block in (b"one", b"x" * 200_000):
        await sockets["0"].send_bytes(block)
        assert await _received(sockets["1"], len(block)) == block
    await sockets["0"].send_str("")
    await sockets["control"].send_str(json.dumps({"command": "signal", "signal": 15}))
    assert (await sockets["2"].receive()).data == b"signal 15"
    for name in ("1", "2"):
        end = await sockets[name].receive()
        assert (end.type, end.data) == (WSMsgType.TEXT, "")
        assert (await sockets[name].receive()).type is WSMsgType.CLOSE
    ended = await stand.get(f"{operation}/wait")
    assert (ended["status"], ended["metadata"]["return"]) == ("Success", 7)
    for one in sockets.values():
        await asyncio.wait_for(one.close(), 60)


async def test_the_server_does_not_wait_for_a_silent_client(stand: Stand) -> None:
    operation, fds = await _exec(stand, "line", interactive=True)
    assert set(fds) == {"0", "control"}
    data = await _connect(stand, operation, fds["0"])
    control = await _connect(stand, operation, fds["control"])
    await data.send_bytes(b"now")
    ended = await asyncio.wait_for(stand.get(f"{operation}/wait"), 60)
    assert ended["metadata"]["return"] == 7 and not control.closed


async def test_a_disconnected_client_ends_its_channel(stand: Stand) -> None:
    operation, fds = await _exec(stand, "cat", interactive=True)
    data = await _connect(stand, operation, fds["0"])
    control = await _connect(stand, operation, fds["control"])
    await data.close()
    await control.close()
    assert (await asyncio.wait_for(stand.get(f"{operation}/wait"), 60))["status"] == "Success"


async def test_secrets_are_checked_and_valid_once(stand: Stand) -> None:
    operation, fds = await _exec(stand, "cat", interactive=True)
    for secret in ("", "wrong"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await _connect(stand, operation, secret)
        assert caught.value.status == 403
    data = await _connect(stand, operation, fds["0"])
    again = await _connect(stand, operation, fds["0"])
    assert "connected already" in (await again.receive()).data
    assert (await again.receive()).type is WSMsgType.CLOSE
    await data.send_bytes(b"still there")
    await _connect(stand, operation, fds["control"])
    assert (await data.receive()).data == b"still there"
    await data.send_str("\4")
    await stand.get(f"{operation}/wait")


async def test_a_plain_get_of_a_websocket_is_refused(stand: Stand) -> None:
    operation, fds = await _exec(stand, "cat")
    status, body = await stand.ask("GET", f"{operation}/websocket?secret={fds['0']}")
    assert (status, body["metadata"]["field"]) == (400, "Upgrade")
    bad = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "1"}
    status, body = await stand.ask("GET", f"{operation}/websocket?secret={fds['0']}", headers=bad)
    assert (status, body["metadata"]["code"]) == (400, "invalid")
    assert (await stand.ask("DELETE", operation))[0] == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "command"),
        ({"command": "ls"}, "command"),
        ({"command": ["ls", 1]}, "command[1]"),
        ({"command": ["ls"], "environment": {"A": {}}}, "environment.A"),
        ({"command": ["ls"], "user": -1}, "user"),
        ({"command": ["ls"], "user": 2**33}, "user"),
        ({"command": ["ls"], "width": "80"}, "width"),
        ({"command": ["ls\0"]}, "command[0]"),
    ],
)
async def test_wrong_exec_requests_name_their_field(stand: Stand, body: object, field: str) -> None:
    status, answer = await stand.ask("POST", "/1.0/instances/web1/exec", body)
    assert (status, answer["metadata"]["field"]) == (400, field)


async def test_events_of_the_requested_types(stand: Stand) -> None:
    async with stand.session.ws_connect("http://isola/1.0/events?type=operation,lifecycle") as events:
        stand.services.events.log("info", "not wanted")
        stand.services.events.lifecycle("instance-created", Entity.of(Kind.INSTANCE, Ref.default("web1")))
        await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "freeze"})
        seen = [await asyncio.wait_for(events.receive_json(), 60) for _ in range(4)]
    assert [one["type"] for one in seen] == ["lifecycle", "operation", "lifecycle", "operation"]
    assert seen[0]["metadata"] == {
        "action": "instance-created",
        "source": "/1.0/instances/web1",
        "name": "web1",
        "project": "default",
    }
    assert seen[2]["metadata"]["requestor"] == {"username": "root", "protocol": "unix", "address": "@"}
    assert seen[2]["metadata"]["action"] == "instance-paused"
    assert [seen[n]["metadata"]["status"] for n in (1, 3)] == ["Running", "Success"]
    assert seen[3].keys() == {"type", "timestamp", "metadata", "location", "project"}


async def test_followers_are_removed_when_they_disconnect(stand: Stand) -> None:
    async with stand.session.ws_connect("http://isola/1.0/events"):
        assert stand.services.events.followed(EventKind.LOGGING)
    for _ in range(3000):
        if not stand.services.events.followed(EventKind.LOGGING):
            break
        await asyncio.sleep(0.02)
    assert not stand.services.events.followed(EventKind.LOGGING)


async def test_closing_the_door_closes_followers_at_once(stand: Stand) -> None:
    async with stand.session.ws_connect("http://isola/1.0/events") as events:
        closing = asyncio.ensure_future(stand.doors.close())
        assert (await asyncio.wait_for(events.receive(), 60)).type is WSMsgType.CLOSE
        await asyncio.wait_for(closing, 60)


async def test_operations_are_listed_by_status_waited_for_and_cancelled(stand: Stand) -> None:
    undone: list[str] = []

    async def undo() -> None:
        undone.append("undone")

    async def work(op: Operation) -> None:
        op.on_rollback("it", undo)
        with op.step("Unpack", total=200, unit="bytes") as step:
            step.advance(50)
            await asyncio.sleep(60)

    operation = stand.services.operations.start("Long", work)
    path = f"/1.0/operations/{operation.id}"
    shown = await stand.get(f"{path}/wait?timeout=0")
    assert (shown["status"], shown["may_cancel"]) == ("Running", True)
    assert shown["metadata"]["create_progress"] == "Unpack: 25%"
    assert shown["metadata"]["progress"] == [
        {"name": "Unpack", "done": 50, "total": 200, "unit": "bytes", "finished": False, "depth": 0}
    ]
    assert (await stand.get("/1.0/operations"))["running"] == [path]
    assert (await stand.get("/1.0/operations?recursion=1"))["running"][0]["description"] == "Long"
    assert (await stand.ask("DELETE", path))[0] == 200
    ended = await stand.get(f"{path}/wait")
    assert (ended["status"], ended["status_code"], undone) == ("Cancelled", 401, ["undone"])
    assert (await stand.ask("DELETE", path))[0] == 400
    status, body = await stand.ask("GET", f"{path}/wait?timeout=soon")
    assert (status, body["metadata"]["field"]) == (400, "timeout")


async def test_a_request_that_starts_an_operation_may_wait_for_its_end(stand: Stand) -> None:
    await stand.create("db1")
    state = "/1.0/instances/db1/state"
    status, body = await stand.ask("PUT", f"{state}?wait=10", {"action": "start"})
    assert (status, body["type"], body["metadata"]["status"]) == (202, "async", "Success")
    assert (await stand.get(body["operation"]))["status"] == "Success"


async def test_a_request_waits_no_longer_than_it_says(stand: Stand) -> None:
    await stand.create("db1")

    async def slow(operation: Operation) -> None:
        await asyncio.sleep(60)

    ahead = stand.services.operations.start("Slow", slow, locks=[Entity.of(Kind.INSTANCE, Ref("default", "db1")).lock])
    status, body = await stand.ask("PUT", "/1.0/instances/db1/state?wait=0.05", {"action": "start"})
    assert (status, body["metadata"]["status"]) == (202, "Pending")
    ahead.cancel()
    assert (await stand.get(f"{body['operation']}/wait"))["status"] == "Success"


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", "10.5"])
async def test_a_wrong_wait_is_refused_before_anything_is_started(stand: Stand, wait: str) -> None:
    await stand.create("db1")
    status, body = await stand.ask("PUT", f"/1.0/instances/db1/state?wait={wait}", {"action": "start"})
    assert (status, body["metadata"]["field"]) == (400, "wait")
    assert (await stand.get("/1.0/instances/db1"))["status"] == "Stopped"


async def test_a_failed_operation_has_a_structured_error(stand: Stand) -> None:
    async def work(op: Operation) -> None:
        raise HostFailure("It broke", evidence="ENOSPC", remedy="make room")

    operation = stand.services.operations.start("Fail", work)
    ended = await stand.get(f"/1.0/operations/{operation.id}/wait")
    assert (ended["status_code"], ended["err"]) == (400, "It broke: ENOSPC (make room)")
    assert ended["metadata"]["error"]["code"] == "host_failure"
    assert ended["metadata"]["error"]["remedy"] == "make room"


async def test_an_unexpected_failure_of_an_operation_shows_no_internals(stand: Stand) -> None:
    async def work(op: Operation) -> None:
        raise ZeroDivisionError("secret detail")

    operation = stand.services.operations.start("Fail", work)
    ended = await stand.get(f"/1.0/operations/{operation.id}/wait")
    assert ended["status"] == "Failure"
    assert "secret detail" not in ended["err"]
    assert "internal" in ended["err"].lower()


def _alive(kind: type) -> int:
    return sum(isinstance(found, kind) for found in gc.get_objects())


async def test_ended_connections_are_freed_without_garbage_collection(stand: Stand) -> None:
    gc.collect()
    before = _alive(web.WebSocketResponse)
    gc.disable()
    try:
        for _ in range(10):
            operation, fds = await _exec(stand, "cat")
            sockets = [await _connect(stand, operation, secret) for secret in fds.values()]
            await sockets[0].send_str("")
            await stand.get(f"{operation}/wait")
            for socket in sockets:
                socket._response.close()  # without a close frame
        await eventually(lambda: _alive(web.WebSocketResponse) <= before)
    finally:
        gc.enable()


async def test_channels_are_connected_once_and_only_with_their_secret() -> None:
    channels = Channels(fake_host().clock, ["0"])
    with pytest.raises(NotFound):
        channels.connect("wrong", Client())
    assert not channels.connected("0")
    assert channels.connect(channels.secrets["0"], Client()) == "0"
    with pytest.raises(Conflict, match="already"):
        channels.connect(channels.secrets["0"], Client())
    assert channels.connected("0") and await channels.get("0", 1)
    channels.release()
    with pytest.raises(Conflict, match="ended"):
        channels.connect(channels.secrets["0"], Client())
