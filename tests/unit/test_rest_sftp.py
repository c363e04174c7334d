"""Files over SFTP, at the REST door of a daemon in memory."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import stat
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncssh import SFTPAttrs, SFTPError, SFTPFailure, SFTPNoSuchFile, SFTPOpUnsupported, SFTPServer
from channels import eventually
from heard import lifecycle
from https_peer import client_context, der_of, free_port, pair
from rest_door import Stand, standing
from sftp_client import connected, upgraded

from isola.doors.rest.sftp.files import InstanceFiles
from isola.doors.rest.sftp.serving import HANDLES
from isola.model.event import EventKind


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        await open_door.create("web1", start=True)
        yield open_door


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[Any]:
    async with connected(stand.path, "web1") as found:
        yield found


async def names(client: Any, path: str) -> set[str]:
    return set(await client.listdir(path)) - {".", ".."}


def test_all_methods_that_access_the_host_are_overridden() -> None:
    about_us = {"channel", "connection", "env", "logger", "convert_attrs", "_to_sftpname", "format_longname", "exit"}
    own = {"lock", "unlock"}  # refuse
    inherited = {
        name
        for name, _ in inspect.getmembers(SFTPServer)
        if not name.startswith("__") and getattr(InstanceFiles, name) is getattr(SFTPServer, name)
    }
    assert inherited <= about_us | own


async def test_files_are_written_read_and_stated(client: Any) -> None:
    async with client.open("/etc/motd", "wb") as file:
        await file.write(b"hello")
        await file.seek(100_000)
        await file.write(b"end")
        await file.fsync()
        assert (await file.stat()).size == 100_003
        assert (await file.statvfs()).bsize > 0
    async with client.open("/etc/motd", "ab") as file:
        await file.write(b"!")
    async with client.open("etc/motd", "rb") as file:
        data = await file.read()
    assert data == b"hello" + bytes(99_995) + b"end!"
    found = await client.stat("/etc/motd")
    assert (found.uid, found.gid, stat.S_IMODE(found.permissions), stat.S_ISREG(found.permissions)) == (0, 0, 0o644, 1)
    with pytest.raises(SFTPFailure):
        await client.open("/etc/motd", "xb")
    with pytest.raises(SFTPNoSuchFile, match="does not exist"):
        await client.open("/none", "rb")
    directory = await client.open("/etc", "rb")
    assert stat.S_ISDIR((await directory.stat()).permissions)
    with pytest.raises(SFTPFailure, match="directory"):
        await directory.read(10)
    with pytest.raises(SFTPFailure, match="directory"):
        await client.open("/etc", "wb")


async def test_attributes_are_set(client: Any) -> None:
    async with client.open("/f", "wb") as file:
        await file.write(b"0123456789")
        await file.setstat(SFTPAttrs(uid=7, gid=8))
    await client.setstat("/f", SFTPAttrs(size=4, permissions=0o4711, atime=5, mtime=6))
    found = await client.stat("/f")
    assert (found.uid, found.gid, found.size, found.permissions & 0o7777, found.atime, found.mtime) == (
        7, 8, 4, 0o4711, 5, 6,
    )  # fmt: skip
    await client.setstat("/f", SFTPAttrs(uid=2**32 - 1, gid=9))
    found = await client.stat("/f")
    assert (found.uid, found.gid) == (7, 9)


async def test_directories_links_and_names(client: Any) -> None:
    await client.mkdir("/d", SFTPAttrs(permissions=0o750))
    with pytest.raises(SFTPFailure, match="exists"):
        await client.mkdir("/d")
    assert stat.S_IMODE((await client.stat("/d")).permissions) == 0o750
    await client.symlink("../etc/hostname", "/d/l")
    assert await client.readlink("/d/l") == "../etc/hostname"
    assert stat.S_ISLNK((await client.lstat("/d/l")).permissions)
    assert stat.S_ISREG((await client.stat("/d/l")).permissions)
    await client.setstat("/d/l", SFTPAttrs(uid=5, gid=5), follow_symlinks=False)
    assert ((await client.lstat("/d/l")).uid, (await client.stat("/d/l")).uid) == (5, 0)
    await client.link("/etc/hostname", "/d/h")
    assert await names(client, "/d") == {"l", "h"}
    [longname] = [each.longname async for each in client.scandir("/d") if each.filename == "h"]
    assert longname.split()[1:3] == ["0", "0"], "numbers: the host's user names do not apply to the instance"
    with pytest.raises(SFTPFailure, match="exists"):
        await client.rename("/d/h", "/d/l")
    await client.posix_rename("/d/h", "/d/l")
    assert await names(client, "/d") == {"l"}
    with pytest.raises(SFTPError):
        await client.rmdir("/d")
    with pytest.raises(SFTPError):
        await client.rmdir("/d/l")
    with pytest.raises(SFTPError):
        await client.remove("/d")
    await client.remove("/d/l")
    await client.rmdir("/d")
    assert "d" not in await names(client, "/")
    assert await client.realpath("a/./b/../c//d") == "/a/c/d"
    assert await client.realpath("../..") == "/"
    assert (await client.statvfs("/")).blocks > 0


async def test_links_are_followed_inside_only(stand: Stand, client: Any) -> None:
    await stand.world.host.files.write(stand.world.context.directory / "secret", b"outside")
    await client.symlink("../../../../../..", "/up")
    await client.symlink(str(stand.world.context.directory), "/abs")
    for path in ("/up/secret", "/abs/secret", "/../../secret"):
        with pytest.raises(SFTPError):
            await client.open(path, "rb")
    async with client.open("/up/inside", "wb") as file:
        await file.write(b"inside")
    assert "inside" in await names(client, "/")


async def test_a_directory_of_many_names(stand: Stand, client: Any) -> None:
    inside = await stand.inside("web1")
    model = inside.children["etc"].children["hostname"]
    for number in range(1000):
        inside.children["etc"].children[f"n{number}"] = model
    assert len(await names(client, "/etc")) >= 1000


async def test_names_with_invalid_utf8(client: Any) -> None:
    async with client.open(b"/\xff\xfe", "wb") as file:
        await file.write(b"x")
    assert b"\xff\xfe" in await client.listdir(b"/")


async def test_file_operations_publish_events(stand: Stand) -> None:
    events = stand.services.events.follow([EventKind.LIFECYCLE])
    async with connected(stand.path, "web1") as client:
        async with client.open("/f", "wb") as file:
            await file.write(b"x")
            await file.write(b"y")
        async with client.open("/f", "rb") as file:
            await file.read()
        await client.stat("/f")
        await client.remove("/f")
        await client.mkdir("/d")
    events.close()
    told = [(lifecycle(event).action, lifecycle(event).context) async for event in events]
    assert told == [
        ("instance-file-pushed", {"path": "/f"}),
        ("instance-file-retrieved", {"path": "/f"}),
        ("instance-file-deleted", {"path": "/f"}),
        ("instance-file-pushed", {"path": "/d"}),
    ]


async def test_open_files_are_limited(client: Any) -> None:
    opened = [await client.open("/etc/hostname", "rb") for _ in range(HANDLES)]
    for refused in (client.open("/etc/hostname", "rb"), client.listdir("/etc"), client.open("/new", "wb")):
        with pytest.raises(SFTPFailure, match="open"):
            await refused
    assert "new" not in [name for name in await names_after(client, opened)]
    assert client.limits.max_read_len == client.limits.max_write_len == 255 * 1024


async def names_after(client: Any, opened: list[Any]) -> set[str]:
    for file in opened:
        await file.close()
    return await names(client, "/")


async def test_without_the_upgrade_it_is_refused_in_json(stand: Stand) -> None:
    status, body = await stand.ask("GET", "/1.0/instances/web1/sftp")
    assert (status, body["metadata"]["field"]) == (400, "Upgrade")
    for instance, upgrade, status in (("web1", "websocket", 400), ("none", "sftp", 404)):
        head, _, writer = await upgraded(stand.path, instance, upgrade=upgrade)
        assert head.startswith(f"HTTP/1.1 {status} ")
        writer.close()
    async with stand.session.get("http://isola/1.0/instances/web1/sftp", headers={"Upgrade": "sftp"}) as answer:
        assert (answer.status, answer.headers["Upgrade"]) == (101, "sftp")


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff\xff\xff\xff",
        struct.pack(">I", 256 * 1024 + 1),
        struct.pack(">IB", 1, 1),
        struct.pack(">IBI", 5, 3, 3),
        struct.pack(">I", 0),
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ],
)
async def test_malformed_packets_end_the_session_only(stand: Stand, junk: bytes) -> None:
    _, reader, writer = await upgraded(stand.path, "web1")
    writer.write(junk)
    if not junk:
        writer.write_eof()
    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()
    await eventually(lambda: not stand.world.context.file_sessions)
    assert (await stand.get("/1.0/instances/web1"))["name"] == "web1"


@pytest.mark.parametrize("kind", [*range(3, 25), 200, 255])
async def test_truncated_requests_are_answered_or_end_the_session(stand: Stand, kind: int) -> None:
    _, reader, writer = await upgraded(stand.path, "web1")
    writer.write(struct.pack(">IBI", 5, 1, 3))
    await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    for rest in (b"", b"\xff\xff\xff\xff", struct.pack(">I", 4) + b"\0\0\0\0", struct.pack(">I", 3) + b"/\0x"):
        writer.write(struct.pack(">IBI", 5 + len(rest), kind, 9) + rest)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        assert answer[0] in (101, 102, 104, 105) and answer[1:5] == struct.pack(">I", 9)
    writer.close()


async def test_a_client_that_does_not_read_is_not_read_from(stand: Stand, client: Any) -> None:
    async with client.open("/big", "wb") as file:
        await file.write(bytes(256 * 1024))
    writer = (await upgraded(stand.path, "web1"))[2]
    transport: Any = writer.transport
    transport.pause_reading()
    writer.write(struct.pack(">IBI", 5, 1, 3))
    path = b"/big"
    writer.write(struct.pack(">IBII", 17 + len(path), 3, 1, len(path)) + path + struct.pack(">II", 1, 0))
    read = struct.pack(">IBII", 25, 5, 2, 4) + b"\0\0\0\0" + struct.pack(">QI", 0, 200_000)
    for _ in range(20_000):
        writer.write(read)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await writer.drain()
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
    writer.close()


async def test_a_session_ends_when_the_instance_stops_and_does_not_delay_a_start(stand: Stand) -> None:
    async with connected(stand.path, "web1") as client:
        assert "etc" in await names(client, "/")
        ended = await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "stop"})
        assert ended["status"] == "Success", ended
        with pytest.raises((SFTPError, ConnectionError)):
            await client.listdir("/")
    await eventually(lambda: not stand.world.context.file_sessions)
    async with connected(stand.path, "web1") as client:
        async with client.open("/etc/stopped", "wb") as file:
            await file.write(b"x")
        ended = await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "start"})
        assert ended["status"] == "Success", ended
        with pytest.raises((SFTPError, ConnectionError)):
            await client.listdir("/")
    async with connected(stand.path, "web1") as client:
        assert "stopped" in await names(client, "/etc")
    await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "stop"})
    async with connected(stand.path, "web1") as client:
        status, answer = await stand.ask("DELETE", "/1.0/instances/web1")
        ended = await stand.get(f"{answer['operation']}/wait")
        assert (status, ended["status"]) == (202, "Success"), ended
    assert not stand.world.context.file_sessions


async def other_project(stand: Stand) -> None:
    config = {"features.images": "false", "features.profiles": "false"}
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue", "config": config}))[0] == 201
    body = {"name": "web2", "source": {"type": "image", "alias": "tiny"}}
    assert (await stand.finish("POST", "/1.0/instances?project=blue", body))["status"] == "Success"


async def test_sessions_are_not_logged(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        head, _, writer = await upgraded(stand.path, "web1")
        assert head.startswith("HTTP/1.1 101")
        await eventually(lambda: bool(stand.world.context.file_sessions))
        writer.close()
        await eventually(lambda: not stand.world.context.file_sessions)
    assert [each.getMessage() for each in caplog.records if each.name.startswith("asyncssh")] == []


async def test_sessions_are_limited(stand: Stand) -> None:
    ends = [await upgraded(stand.path, "web1") for _ in range(64)]
    assert all(head.startswith("HTTP/1.1 101") for head, _, _ in ends)
    head, reader, writer = await upgraded(stand.path, "web1")
    assert head.startswith("HTTP/1.1 409")
    length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    assert "64 clients" in json.loads(await reader.readexactly(length))["error"]
    await other_project(stand)
    ends.append(await upgraded(stand.path, "web2", project="blue"))
    assert ends[-1][0].startswith("HTTP/1.1 101"), "other projects have room"
    for _, _, each in [*ends, ("", reader, writer)]:
        each.close()
    await eventually(lambda: not stand.world.context.file_sessions)


async def test_unsupported_requests_are_refused(client: Any) -> None:
    with pytest.raises(SFTPOpUnsupported):
        await client.remote_copy("/etc/hostname", "/copied")


async def test_the_door_closes_with_sessions_open(stand: Stand) -> None:
    async with connected(stand.path, "web1") as client:
        async with asyncio.timeout(60):
            await stand.doors.close()
        with pytest.raises((SFTPError, ConnectionError)):
            await client.listdir("/")


async def test_files_over_tls(stand: Stand) -> None:
    port = free_port()
    status, body = await stand.ask("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    assert status == 200, body
    shown = pair("reader")
    head = (await upgraded(port, "web1", tls=client_context(shown)))[0]
    assert head.startswith("HTTP/1.1 403"), "not before the certificate is trusted"
    status, body = await stand.ask("POST", "/1.0/certificates", {"type": "client", "certificate": der_of(shown)})
    assert status == 201, body
    data = bytes(range(256)) * 4096
    async with connected(port, "web1", tls=client_context(shown)) as client:
        async with client.open("/large", "wb") as file:
            await file.write(data)
        async with client.open("/large", "rb") as file:
            assert await file.read() == data
