"""Screens of instances over the API, as viewers of LXD's clients connect to them: one WebSocket for each connection."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from channels import eventually
from rest_door import MEMORY, Stand

from isola.daemon.build import Drivers
from isola.testing.door import opened, world_in
from isola.testing.sockets import FakeStream
from isola.testing.vm import FakeVm

CONSOLE = "/1.0/instances/desk/console"


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        world = world_in(directory, more=Drivers({"fakevm": FakeVm}))
        door = await stack.enter_async_context(opened(world))
        connector = aiohttp.UnixConnector(str(door.path))
        found = Stand(world, await stack.enter_async_context(aiohttp.ClientSession(connector=connector)), door)
        await found.create("desk", start=True, isolation="microvm")
        yield found


def displays(stand: Stand) -> list[FakeStream]:
    runtime = stand.services.runtimes.find("fakevm")
    assert isinstance(runtime, FakeVm)
    (instance,) = runtime.instances.values()
    return instance.displays


async def show(stand: Stand, **more: object) -> tuple[str, dict[str, str]]:
    status, answer = await stand.ask("POST", CONSOLE, {"type": "vga", **more})
    assert status == 202 and answer["metadata"]["class"] == "websocket", answer
    fds: dict[str, str] = answer["metadata"]["metadata"]["fds"]
    assert set(fds) == {"0", "control"}
    return answer["operation"], fds


def connect(stand: Stand, operation: str, secret: str) -> Any:
    return stand.session.ws_connect(f"http://isola{operation}/websocket?secret={secret}")


async def ended(stand: Stand, operation: str) -> str:
    return str((await stand.get(f"{operation}/wait?timeout=5"))["status"])


async def test_each_connection_of_the_viewer_is_one_of_the_screen(stand: Stand) -> None:
    operation, fds = await show(stand)
    control = await connect(stand, operation, fds["control"])
    channels = []
    for number in range(3):
        channels.append(await connect(stand, operation, fds["0"]))
        await eventually(lambda wanted=number + 1: len(displays(stand)) == wanted)
    for number, channel in enumerate(channels):
        await channel.send_bytes(b"REDQ%d" % number)
        assert await displays(stand)[number].read() == b"REDQ%d" % number
        await displays(stand)[number].write(b"answer %d" % number)
        assert await channel.receive_bytes(timeout=60) == b"answer %d" % number
    await channels[1].close()
    assert await displays(stand)[1].read() == b""
    await channels[0].send_bytes(b"still here")
    assert await displays(stand)[0].read() == b"still here"
    await control.close()
    assert await ended(stand, operation) == "Success"
    assert await displays(stand)[0].read() == b"" == await displays(stand)[2].read()


async def test_a_connection_that_the_screen_ends_is_closed_alone(stand: Stand) -> None:
    operation, fds = await show(stand)
    control = await connect(stand, operation, fds["control"])
    first, second = [await connect(stand, operation, fds["0"]) for _ in range(2)]
    await eventually(lambda: len(displays(stand)) == 2)
    displays(stand)[0].close()
    assert (await first.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
    await displays(stand)[1].write(b"alive")
    assert await second.receive_bytes(timeout=60) == b"alive"
    assert not control.closed


async def test_a_viewer_without_control_leaves_with_its_last_connection(stand: Stand) -> None:
    operation, fds = await show(stand)
    first, second = [await connect(stand, operation, fds["0"]) for _ in range(2)]
    await eventually(lambda: len(displays(stand)) == 2)
    await first.close()
    assert (await stand.get(operation))["status"] == "Running"
    await second.close()
    assert await ended(stand, operation) == "Success"


async def test_a_screen_in_use_is_taken_over_by_force_alone(stand: Stand) -> None:
    first, fds = await show(stand)
    control = await connect(stand, first, fds["control"])
    data = await connect(stand, first, fds["0"])
    await eventually(lambda: len(displays(stand)) == 1)
    status, answer = await stand.ask("POST", CONSOLE, {"type": "vga"})
    assert status == 400 and "in use" in answer["error"]
    second, more = await show(stand, force=True)
    taker = await connect(stand, second, more["control"])
    assert await ended(stand, first) == "Success"
    assert (await data.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
    await control.close()
    assert not taker.closed


async def test_it_ends_with_the_instance(stand: Stand) -> None:
    operation, fds = await show(stand)
    control = await connect(stand, operation, fds["control"])
    data = await connect(stand, operation, fds["0"])
    await eventually(lambda: len(displays(stand)) == 1)
    await stand.finish("PUT", "/1.0/instances/desk/state", {"action": "stop", "force": True})
    assert (await data.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
    assert (await control.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
    assert await ended(stand, operation) == "Success"


async def test_a_frozen_screen_can_be_looked_at(stand: Stand) -> None:
    await stand.finish("PUT", "/1.0/instances/desk/state", {"action": "freeze"})
    operation, fds = await show(stand)
    data = await connect(stand, operation, fds["0"])
    await eventually(lambda: len(displays(stand)) == 1)
    await data.close()
    assert await ended(stand, operation) == "Success"


async def test_secrets_of_other_channels_open_nothing(stand: Stand) -> None:
    operation, fds = await show(stand)
    control = await connect(stand, operation, fds["control"])
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await connect(stand, operation, "no such secret")
    again = await connect(stand, operation, fds["control"])
    assert "connected already" in str((await again.receive(timeout=60)).data)
    await control.close()
    await asyncio.wait_for(ended(stand, operation), 60)


async def test_a_container_has_no_screen(stand: Stand) -> None:
    await stand.create("web1", start=True, isolation="container")
    status, answer = await stand.ask("POST", "/1.0/instances/web1/console", {"type": "vga"})
    assert (status, answer["metadata"]["field"]) == (400, "type")
    assert "no screen" in answer["error"] and "use its console" in answer["error"]


async def test_a_guest_s_own_kernel_lists_its_processes(stand: Stand) -> None:
    found = await stand.get("/1.0/instances/desk/processes")
    assert found == {"titles": ["PID", "CMD"], "rows": [["1", "/sbin/init"]]}
    assert (await stand.get("/1.0/instances/desk/processes?options=aux"))["rows"] == found["rows"]
    status, answer = await stand.ask("GET", "/1.0/instances/desk/processes?options=-o%20pid,rss")
    assert status == 400 and "run ps inside" in answer["error"]
