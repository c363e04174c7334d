"""The door: its socket, its errors, its limits."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rest_door import Stand

from isola.doors.http.unix import UnixServer, serve_unix
from isola.doors.rest.answers import status_of
from isola.doors.rest.dispatch import Dispatcher
from isola.doors.rest.shapes.events import event_json
from isola.errors import AlreadyExists, HostFailure, InUse, TimedOut, Unsupported, WrongState
from isola.model.caller import UNTRUSTED
from isola.model.event import EventKind


async def served(stand: Stand, path: Path) -> UnixServer:
    """Another server of the door."""
    return await serve_unix(Dispatcher(stand.services), path)


async def _raw(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_the_socket_is_for_root_and_the_group(stand: Stand) -> None:
    assert stat.S_IMODE(os.stat(stand.path).st_mode) == 0o660


async def test_a_stale_socket_is_replaced(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    door = await served(stand, path)
    assert b"200 OK" in await _raw(path, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await door.close()
    assert not path.exists()


async def test_the_socket_of_a_running_daemon_is_left_alone(stand: Stand) -> None:
    with pytest.raises(HostFailure, match="Another daemon"):
        await served(stand, stand.path)
    assert await stand.get("/") == ["/1.0"]


async def test_other_files_are_left_alone(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    path.write_text("precious")
    with pytest.raises(HostFailure, match="not a socket"):
        await served(stand, path)
    assert path.read_text() == "precious"


async def test_closing_leaves_another_daemons_socket(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    first = await served(stand, path)
    path.unlink()
    second = await served(stand, path)
    await first.close()
    assert path.exists()
    await second.close()


async def test_closing_ends_requests_that_wait(stand: Stand) -> None:
    operation = stand.services.operations.start("Wait", lambda op: asyncio.sleep(60))
    head = f"GET /1.0/operations/{operation.id}/wait HTTP/1.1\r\nHost: x\r\n\r\n"
    waiting = asyncio.ensure_future(_raw(stand.path, head.encode()))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(stand.doors.close(), 60)
    assert await waiting == b""
    operation.cancel()
    await operation.wait()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/2.0", 404, "not_found"),
        ("GET", "/1.0/nothing", 404, "not_found"),
        ("POST", "/1.0/operations", 501, "unsupported"),
        ("DELETE", "/1.0", 501, "unsupported"),
        ("PROPFIND", "/1.0", 405, "method_not_allowed"),
        ("GET", "/1.0/instances?project=other", 404, "not_found"),
        ("GET", "/1.0/instances?recursion=9", 400, "invalid"),
        ("GET", "/1.0/instances?recursion=x", 400, "invalid"),
        ("GET", "/1.0/instances?filter=name", 400, "invalid"),
        ("GET", "/1.0/instances/a%ff", 400, "invalid"),
        ("GET", "/1.0/events", 400, "invalid"),
        ("GET", "/1.0/events?type=gossip", 400, "invalid"),
        ("GET", "/1.0/projects/other", 404, "not_found"),
        ("POST", "/1.0/projects", 400, "invalid"),
        ("GET", "/1.0/warnings/x", 404, "not_found"),
        ("GET", "/1.0/operations/x", 404, "not_found"),
        ("PUT", "/1.0/cluster", 501, "unsupported"),
    ],
)
async def test_errors_are_json_with_a_code(stand: Stand, method: str, path: str, status: int, code: str) -> None:
    found, body = await stand.ask(method, path)
    assert (found, body["type"], body["error_code"], body["metadata"]["code"]) == (status, "error", status, code)
    assert body["error"]


async def test_the_server_describes_itself_for_a_project_that_does_not_exist_yet(stand: Stand) -> None:
    assert (await stand.get("/1.0?project=other"))["environment"]["project"] == "other"


@pytest.mark.parametrize("path", ["/1.0", "/1.0/instances", "/nothing"])
async def test_a_preflight_request_is_answered_without_a_body(stand: Stand, path: str) -> None:
    async with stand.session.options(f"http://isola{path}") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_what_is_not_http_is_answered_in_json(stand: Stand) -> None:
    answer = await _raw(stand.path, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 400") or answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid"' in answer
    answer = await _raw(stand.path, b"GET /1.0/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]


async def test_unexpected_errors_are_logged_and_not_shown(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    stand.world.host.system.hardware = None  # type: ignore[assignment]  # what no driver would answer
    with caplog.at_level(logging.ERROR):
        status, body = await stand.ask("GET", "/1.0/resources")
    assert status == 500
    assert "NoneType" not in str(body)
    number = body["error"].partition("id ")[2][:8]
    assert number in caplog.text
    assert "NoneType" in caplog.text


async def test_json_bodies_have_a_limit(stand: Stand) -> None:
    status, body = await stand.ask("POST", "/1.0/profiles", data=b'{"name": "' + b"a" * (3 << 20))
    assert (status, body["metadata"]["code"]) == (413, "too_large")
    status, body = await stand.ask("POST", "/1.0/profiles", data=b"{}", headers={"Content-Encoding": "gzip"})
    assert (status, body["metadata"]["field"]) == (400, "name")


async def test_expect_100_continue_is_answered(stand: Stand) -> None:
    reader, writer = await asyncio.open_unix_connection(stand.path)
    body = b'{"name": "p1"}'
    head = f"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    writer.write(head.encode())
    assert b"100 Continue" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.write(body)
    assert b"201 Created" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()


async def test_server_configuration_with_etags(stand: Stand) -> None:
    async with stand.session.get("http://isola/1.0") as answer:
        tag = answer.headers["ETag"]
        shown = (await answer.json())["metadata"]
    assert (shown["auth"], shown["config"], shown["environment"]["server"]) == ("trusted", {}, "isola")
    config = {"config": {"user.a": "b"}}
    assert (await stand.ask("PUT", "/1.0", config, headers={"If-Match": tag}))[0] == 200
    status, body = await stand.ask("PUT", "/1.0", config, headers={"If-Match": tag})
    assert (status, body["metadata"]["code"]) == (412, "precondition_failed")
    assert (await stand.ask("PATCH", "/1.0", {"config": {"user.c": "d"}}))[0] == 200
    assert (await stand.get("/1.0"))["config"] == {"user.a": "b", "user.c": "d"}
    status, body = await stand.ask("PATCH", "/1.0", {"config": {"core.nonsense": "1"}})
    assert (status, body["metadata"]["field"]) == (400, "config.core.nonsense")


async def test_a_change_of_the_configuration_publishes_an_event(stand: Stand) -> None:
    events = stand.services.events.follow([EventKind.LIFECYCLE])
    assert (await stand.ask("PATCH", "/1.0", {"config": {"user.a": "b"}}))[0] == 200
    assert (await stand.ask("PATCH", "/1.0", {"config": {"core.nonsense": "1"}}))[0] == 400
    events.close()
    told: list[Any] = [event_json(event)["metadata"] async for event in events]
    assert [(each["action"], each["source"]) for each in told] == [("config-updated", "/1.0")]


async def test_the_environment_names_the_project_of_the_request(stand: Stand) -> None:
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue"}))[0] == 201
    assert (await stand.get("/1.0?project=blue"))["environment"]["project"] == "blue"
    assert (await stand.get("/1.0"))["environment"]["project"] == "default"


async def test_untrusted_callers_see_only_public_data(stand: Stand) -> None:
    dispatcher = Dispatcher(stand.services)

    class Http:
        method = "GET"
        headers: ClassVar[dict[str, str]] = {}

        def __init__(self, path: str) -> None:
            self.raw_path = path

    async def ask(path: str) -> int:
        return (await dispatcher.answer(Http(path), UNTRUSTED)).status  # type: ignore[arg-type]

    assert await ask("/1.0") == 200
    for path in ("/1.0/instances", "/1.0/profiles", "/1.0/operations", "/1.0/resources", "/1.0/instances/x/files"):
        assert await ask(path) == 403


def test_errors_with_a_field_have_status_400() -> None:
    assert status_of(Unsupported("x", field="type")) == 400
    assert status_of(Unsupported("x")) == 501
    assert (status_of(InUse("x")), status_of(WrongState("x")), status_of(AlreadyExists("x"))) == (400, 400, 409)
    assert status_of(TimedOut("x")) == 504


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """The process has no free descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        with suppress(OSError):
            while True:
                held.callback(os.close, os.dup(0))
        yield


async def test_a_door_without_descriptors_waits_instead_of_spinning(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with no_descriptors_left():
            client.connect(str(stand.path))
            await asyncio.sleep(0.3)
            complaints = len(caplog.records)
        assert 1 <= complaints <= 3
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(loop.sock_recv(client, 4096), 60)


async def test_many_connections_at_once(stand: Stand) -> None:
    """The event loop is blocked meanwhile, so that all connections are in the socket's backlog."""
    with ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(str(stand.path))  # BlockingIOError: the backlog is full
