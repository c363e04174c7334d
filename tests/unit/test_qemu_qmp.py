"""The client of QEMU's control protocol against a server that a guest may have taken over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from isola.errors import HostFailure, TimedOut, WrongState
from isola.runtimes.qemu.qmp import Event, Qmp
from isola.testing.sockets import FakeStream, stream_pair

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}


class Server:
    """Answers by a function from the command to the response."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self.commands: list[dict[str, Any]] = []
        self.responses: dict[str, object] = {"qmp_capabilities": {"return": {}}}
        self.task = asyncio.get_running_loop().create_task(self.run())

    async def send(self, *messages: object) -> None:
        for message in messages:
            await self.stream.write(json.dumps(message).encode() + b"\r\n")

    async def run(self) -> None:
        await self.send(GREETING)
        pending = b""
        while block := await self.stream.read():
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                command = json.loads(line)
                self.commands.append(command)
                response = self.responses.get(command["execute"])
                if isinstance(response, dict):
                    await self.send(response | {"id": command["id"]})


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
        await ends[0].execute("query-status", patience=0.05)


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
