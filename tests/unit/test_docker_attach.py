"""Streams of the Docker door over a daemon in memory: hijacked connections, WebSockets, and clients that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.containers.streams import frame
from isola.model.reference import Ref


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


@pytest.fixture
async def box(docker: DockerStand) -> str:
    """A running container with input and without a terminal."""
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "OpenStdin": True, "StdinOnce": True}
    status, made = await docker.ask("POST", "/containers/create?name=box", body)
    assert status == 201, made
    assert (await docker.ask("POST", "/containers/box/start"))[0] == 204
    return str(made["Id"])


def socket_of(docker: DockerStand) -> Path:
    return docker.rest.path.with_name("docker.sock")


def lasting(docker: DockerStand) -> int:
    return len(docker.rest.doors.docker._lasting)


async def gone(docker: DockerStand) -> None:
    for _ in range(1200):
        if not lasting(docker):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a stream outlasts its client")


async def hijacked(docker: DockerStand, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """The connection after the head of the response."""
    reader, writer = await asyncio.open_unix_connection(socket_of(docker))
    writer.write(request.encode())
    return reader, writer, await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)


UPGRADE = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"


async def test_an_upgrade_is_answered_as_docker_does(docker: DockerStand, box: str) -> None:
    target = "POST /v1.50/containers/box/attach?stream=1&stdout=1 HTTP/1.1\r\n"
    _, writer, head = await hijacked(docker, f"{target}{UPGRADE}Content-Length: 0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert b"Content-Type: application/vnd.docker.multiplexed-stream" in head and b"Upgrade: tcp" in head
    writer.close()
    await gone(docker)
    _, writer, head = await hijacked(docker, f"{target.replace('1.50', '1.30')}Host: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"chunked" not in head
    assert b"Content-Type: application/vnd.docker.raw-stream" in head
    writer.close()
    await gone(docker)


async def test_a_command_outlasts_the_end_of_its_clients_input(docker: DockerStand, box: str) -> None:
    given = {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
    _, made = await docker.ask("POST", "/containers/box/exec", given)
    body = "{}"
    head = f"POST /v1.50/exec/{made['Id']}/start HTTP/1.1\r\n{UPGRADE}Content-Type: application/json\r\n"
    reader, writer, _ = await hijacked(docker, f"{head}Content-Length: {len(body)}\r\n\r\n{body}")
    writer.write(b"data")
    await writer.drain()
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 60) == frame(1, b"data")
    shown = await docker.get(f"/exec/{made['Id']}/json")
    assert (shown["Running"], shown["ExitCode"], shown["ProcessConfig"]["entrypoint"]) == (False, 7, "cat")
    status, again = await docker.ask("POST", f"/exec/{made['Id']}/start", {})
    assert status == 409 and "has already run" in again["message"]
    writer.close()


async def test_attaching_by_a_websocket(docker: DockerStand, box: str) -> None:
    attached = docker.session.ws_connect("http://docker/v1.50/containers/box/attach/ws?stream=1&stdout=1&stdin=1")
    async with attached as socket:
        await socket.send_bytes(b"typed")
        assert lasting(docker) == 1
    await gone(docker)
    status, body = await docker.ask("GET", "/containers/box/attach/ws?stream=1")
    assert (status, body["message"]) == (400, "websocket: the client is not using the websocket protocol")


async def test_older_websockets_have_all_streams(docker: DockerStand, box: str) -> None:
    world = docker.rest.world
    id = docker.services.instances.get(Ref.default("box")).id
    url = "http://docker/v{}/containers/box/attach/ws?stream=1&stdout={}"
    async with (
        docker.session.ws_connect(url.format("1.41", 0)) as older,
        docker.session.ws_connect(url.format("1.42", 0)) as newer,
    ):
        world.runtime.show(id, b"said")
        assert (await asyncio.wait_for(older.receive_bytes(), 60)) == b"said"
        await docker.ask("POST", "/containers/box/kill")
        assert (await asyncio.wait_for(newer.receive(), 60)).type is aiohttp.WSMsgType.CLOSE
    await gone(docker)


@pytest.mark.parametrize("path", ["/events", "/containers/box/logs?follow=1&stdout=1", "/containers/box/stats"])
async def test_streams_end_soon_after_their_client(docker: DockerStand, box: str, path: str) -> None:
    _, writer, head = await hijacked(docker, f"GET /v1.50{path} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and lasting(docker) == 1
    writer.close()
    await gone(docker)


async def test_waiting_begins_before_the_start_and_ends_with_the_run(docker: DockerStand, box: str) -> None:
    assert (await docker.ask("POST", "/containers/box/kill"))[0] == 204
    reader, writer, head = await hijacked(
        docker, "POST /v1.50/containers/box/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert (await docker.ask("POST", "/containers/box/start"))[0] == 204
    assert (await docker.ask("POST", "/containers/box/kill"))[0] == 204
    assert b'{"StatusCode":137}' in await asyncio.wait_for(reader.readuntil(b"}\n"), 60)
    writer.close()


async def test_events_are_those_of_docker_for_all_doors(docker: DockerStand) -> None:
    async with docker.session.get('http://docker/v1.50/events?filters={"type":["container"]}') as answer:
        await docker.rest.create("plain", start=True)
        instance = docker.services.instances.get(Ref.default("plain"))
        operation = docker.services.instances.delete(instance.ref, force=True)
        await docker.services.operations.finish(operation)
        lines = [await asyncio.wait_for(answer.content.readline(), 5) for _ in range(5)]
    assert [line.split(b'"Action":"')[1].split(b'"')[0] for line in lines] == [
        b"create",
        b"start",
        b"kill",
        b"die",
        b"destroy",
    ]
