"""Clients attached to the output and input of a first process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import WSMsgType
from channels import eventually
from rest_door import Stand, standing

from isola.model.reference import Ref
from isola.runtimes import Channel


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        yield open_door


async def _attached(stand: Stand, **how: object) -> tuple[str, dict[str, Any]]:
    status, answer = await stand.ask("POST", "/1.0/instances/web1/attach", how)
    assert status == 202, answer
    fds = answer["metadata"]["metadata"]["fds"]
    path = answer["operation"]
    return path, {
        name: await stand.session.ws_connect(f"http://isola{path}/websocket?secret={secret}")
        for name, secret in fds.items()
    }


async def test_a_client_attached_ahead_misses_nothing_of_the_run(stand: Stand) -> None:
    await stand.create("web1", terminal=False, stdin=True)
    await stand.world.parts.records.instances.change(
        Ref.default("web1"), lambda found: replace(found, start=replace(found.start, system=False))
    )
    path, sockets = await _attached(stand, ahead=True, stdin=True)
    assert set(sockets) == {"0", "1", "2", "control"}
    await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "start"})
    instance = stand.world.on_host("web1")
    for attachment in instance.attached:
        attachment.say((Channel.STDOUT, b"out"))
        attachment.say((Channel.STDERR, b"err"))
    assert await sockets["1"].receive_bytes(timeout=60) == b"out"
    assert await sockets["2"].receive_bytes(timeout=60) == b"err"
    await sockets["0"].send_bytes(b"typed")
    await sockets["control"].send_str(json.dumps({"command": "signal", "signal": 10}))
    await sockets["0"].send_str("")
    await eventually(lambda: bytes(instance.input) == b"typed" and instance.input_ended and instance.signals == [10])
    for attachment in instance.attached:
        attachment.say(None)
    for name in ("1", "2"):
        end = await sockets[name].receive(timeout=60)
        assert (end.type, end.data) == (WSMsgType.TEXT, "")
    assert (await asyncio.wait_for(stand.get(f"{path}/wait"), 60))["status"] == "Success"


async def test_one_that_does_not_run_is_only_attached_to_ahead(stand: Stand) -> None:
    await stand.create("web1")
    status, answer = await stand.ask("POST", "/1.0/instances/web1/attach", {})
    assert (status, answer["metadata"]["code"]) == (400, "wrong_state")


async def test_a_client_that_leaves_ends_its_attachment_and_not_the_run(stand: Stand) -> None:
    await stand.create("web1", start=True)
    path, sockets = await _attached(stand)
    assert set(sockets) == {"0", "control"}
    for socket in sockets.values():
        await socket.close()
    assert (await asyncio.wait_for(stand.get(f"{path}/wait"), 60))["status"] == "Success"
    instance = stand.world.on_host("web1")
    assert instance.attached == [] and instance.status is None


async def test_a_signal_reaches_the_first_process(stand: Stand) -> None:
    await stand.create("web1", start=True)
    path = "/1.0/instances/web1/signal"
    assert [(await stand.ask("POST", path, {"signal": each}))[0] for each in ("HUP", "SIGUSR1", 12)] == [200] * 3
    assert stand.world.on_host("web1").signals == [1, 10, 12]
    status, answer = await stand.ask("POST", path, {"signal": "NOTHING"})
    assert (status, answer["metadata"]["code"]) == (400, "invalid")
