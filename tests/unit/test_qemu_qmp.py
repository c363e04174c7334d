"""The client of QEMU's control protocol against a server that a guest may have taken over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from qmp_server import Server

from isola.errors import HostFailure, TimedOut, WrongState
from isola.runtimes.qemu.qmp import Event, Qmp
from isola.testing.sockets import stream_pair


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Qmp, Server, list[Event]]]:
    near, far = stream_pair()
    server, events = Server(far), list[Event]()
    qmp = Qmp(near, events.append)
    await qmp.open()
    yield qmp, server, events
    qmp.close()
    server.task.cancel()


Ends = tuple[Qmp, Server, list[Event]]


async def test_commands_are_answered_and_events_told(ends: Ends) -> None:
    qmp, server, events = ends
    server.responses["query-status"] = {"return": {"status": "running"}}
    await server.send({"event": "STOP", "data": {}})
    assert await qmp.execute("query-status", {"a": 1}) == {"status": "running"}
    assert server.commands[-1]["arguments"] == {"a": 1}
    assert [event["event"] for event in events] == ["STOP"]
    both = list(await asyncio.gather(qmp.execute("query-status"), qmp.execute("query-status")))
    assert both == [{"status": "running"}] * 2


async def test_a_refusal_has_the_reason(ends: Ends) -> None:
    qmp, server, _ = ends
    server.responses["cont"] = {"error": {"class": "GenericError", "desc": "no such thing"}}
    with pytest.raises(HostFailure) as failed:
        await qmp.execute("cont")
    assert failed.value.evidence == "no such thing"


async def test_a_descriptor_is_passed_with_its_command(ends: Ends) -> None:
    qmp, server, _ = ends
    server.responses["getfd"] = {"return": {}}
    await qmp.execute("getfd", {"fdname": "tap"}, descriptor=5)
    assert server.stream.descriptors == [5]


async def test_silence_has_a_limit(ends: Ends) -> None:
    with pytest.raises(TimedOut):
        await ends[0].execute("query-status", timeout=0.05)


async def test_the_end_is_told_to_all_who_wait(ends: Ends) -> None:
    qmp, server, _ = ends
    waiting = asyncio.gather(qmp.execute("stop"), qmp.execute("cont"), return_exceptions=True)
    await asyncio.sleep(0.01)
    server.stream.close()
    assert [type(error) for error in await waiting] == [WrongState, WrongState]
    with pytest.raises(WrongState):
        await qmp.execute("stop")


@pytest.mark.parametrize(
    "data",
    [
        b"not json\n",
        b"[]\n",
        b'"text"\n',
        b'{"id": {}}\n',
        b'{"id": []}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (3 << 20),
        b"\xff\xfe\n",
    ],
)
async def test_what_is_not_of_the_protocol_ends_the_connection(ends: Ends, data: bytes) -> None:
    qmp, server, _ = ends
    waiting = asyncio.ensure_future(qmp.execute("stop"))
    await asyncio.sleep(0.01)
    await server.stream.write(data)
    with pytest.raises(WrongState):
        await waiting


@pytest.mark.parametrize("answer", [None, 5, "%%%", {"a": 1}])
async def test_a_ring_buffer_that_is_none_is_refused(ends: Ends, answer: object) -> None:
    qmp, server, _ = ends
    server.responses["ringbuf-read"] = {"return": answer}
    with pytest.raises(HostFailure):
        await qmp.ring("status")
    server.responses["ringbuf-read"] = {"return": "ZXhpdCA3Cg=="}
    assert await qmp.ring("status") == b"exit 7\n"


async def test_without_a_greeting_it_is_not_opened() -> None:
    near, far = stream_pair()
    qmp = Qmp(near, lambda event: None)
    with pytest.raises(TimedOut):
        await qmp.open(0.05)
    far.close()
    with pytest.raises(WrongState):
        await qmp.open(1)
    qmp.close()
