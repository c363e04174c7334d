"""Kinds of isolation over the API, as its own and LXD's clients ask for them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest
from rest_door import MEMORY, Stand

from isola.daemon.build import Drivers
from isola.runtimes import Lack, Machine, RootKind, RuntimeCapabilities
from isola.runtimes.capabilities import Capability
from isola.testing.door import opened, world_in
from isola.testing.vm import FakeVm

SOURCE = {"type": "image", "alias": "tiny"}


class FullVm(FakeVm):
    """With the root of a container, for want of another."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"vm"}),
        shares_kernel=False,
        root=RootKind.SHARED,
        machine=Machine(1 << 30),
        lacks={Capability.DEVICES: Lack("It has devices of its own")},
    )


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        world = world_in(directory, more=Drivers({"fakevm": FakeVm, "full": FullVm}))
        door = await stack.enter_async_context(opened(world))
        connector = aiohttp.UnixConnector(str(door.path))
        yield Stand(world, await stack.enter_async_context(aiohttp.ClientSession(connector=connector)), door)


async def test_a_virtual_machine_as_lxd_s_clients_make_it(stand: Stand) -> None:
    body = {"name": "big", "source": SOURCE, "type": "virtual-machine"}
    assert (await stand.finish("POST", "/1.0/instances", body))["status"] == "Success"
    assert (await stand.finish("POST", "/1.0/instances", {"name": "little", "source": SOURCE}))["status"] == "Success"
    big = await stand.get("/1.0/instances/big")
    assert (big["type"], big["isolation"], big["runtime"]) == ("virtual-machine", "vm", "full")
    assert await stand.get("/1.0/virtual-machines") == ["/1.0/virtual-machines/big"]
    assert await stand.get("/1.0/containers") == ["/1.0/containers/little"]
    assert await stand.get("/1.0/instances?instance-type=virtual-machine") == ["/1.0/instances/big"]
    assert (await stand.ask("GET", "/1.0/virtual-machines/little"))[0] == 404


async def test_the_tree_of_virtual_machines_makes_them(stand: Stand) -> None:
    assert (await stand.finish("POST", "/1.0/virtual-machines", {"name": "big", "source": SOURCE}))[
        "status"
    ] == "Success"
    assert (await stand.get("/1.0/instances/big"))["isolation"] == "vm"


async def test_the_server_says_what_it_offers_and_why_not(stand: Stand) -> None:
    environment = (await stand.get("/1.0"))["environment"]
    assert environment["instance_types"] == ["container", "virtual-machine"]
    found = {each["name"]: each for each in environment["isolations"]}
    assert [name for name, each in found.items() if each["available"]] == ["container", "microvm", "vm"]
    assert found["sandbox"]["reason"] and found["microvm"]["runtime"] == "fakevm"


async def test_a_stopped_instance_moves_by_a_request(stand: Stand) -> None:
    await stand.create("web1", isolation="container")
    moved = await stand.finish("POST", "/1.0/instances/web1", {"name": "web1", "isolation": "microvm"})
    assert moved["status"] == "Success", moved
    found = await stand.get("/1.0/instances/web1")
    assert (found["isolation"], found["runtime"], found["type"]) == ("microvm", "fakevm", "container")
    assert found["wall"]["start_ms"] is None and "kernel of its own" in found["wall"]["separates"]
    assert (await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "start"}))["status"] == "Success"
    assert (await stand.get("/1.0/instances/web1"))["wall"]["start_ms"] == 0
    state = await stand.get("/1.0/instances/web1/state")
    assert state["memory"]["total"] == 256 << 20


async def test_what_is_refused_names_the_field_and_the_nearest_wall(stand: Stand) -> None:
    status, answer = await stand.ask("POST", "/1.0/instances", {"name": "x", "source": SOURCE, "isolation": "sandbox"})
    assert status == 400, answer
    assert "'microvm'" in answer["error"] and "isolation" in str(answer)


async def test_root_volumes_have_the_type_of_their_instances(stand: Stand) -> None:
    base = "/1.0/storage-pools/default/volumes"
    await stand.finish("POST", "/1.0/instances", {"name": "big", "source": SOURCE, "type": "virtual-machine"})
    await stand.finish("POST", "/1.0/instances", {"name": "little", "source": SOURCE})
    await stand.finish("POST", "/1.0/instances/big/snapshots", {"name": "first"})
    machine = f"{base}/virtual-machine/big"
    assert sorted(await stand.get(base)) == [f"{base}/container/little", machine, f"{machine}/snapshots/first"]
    listed = await stand.get(f"{base}/virtual-machine?recursion=1")
    assert [(each["type"], each["name"], each["content_type"]) for each in listed] == [
        ("virtual-machine", "big", "block"),
        ("virtual-machine", "big/first", "block"),
    ]
    assert [each["name"] for each in await stand.get(f"{base}/container?recursion=1")] == ["little"]
    assert (await stand.get(machine))["used_by"] == ["/1.0/instances/big"]
    assert await stand.get(f"{machine}/snapshots") == [f"{machine}/snapshots/first"]
    assert (await stand.get(f"{machine}/snapshots/first"))["content_type"] == "block"
    assert (await stand.ask("PUT", machine, {"config": {}, "description": ""}))[0] == 200
    for method, path, status in (
        ("GET", f"{base}/container/big", 404),
        ("GET", f"{base}/virtual-machine/little", 404),
        ("PUT", f"{base}/container/big", 404),
        ("PATCH", f"{base}/virtual-machine/little", 404),
        ("DELETE", machine, 501),
    ):
        assert (await stand.ask(method, path, {} if method != "GET" else None))[0] == status, path
