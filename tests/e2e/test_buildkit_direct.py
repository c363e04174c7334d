"""Clients that speak to BuildKit itself, as buildx does with its driver ``remote``: one socket, one connection."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_image import import_application
from buildkit_client import CONTROL, Files, builder, direct, files_of
from daemon import Daemon
from debian_registry import PASSWORD, USER, DebianRegistry
from docker_command import Docker
from waiting import until

from isola.doors.docker.buildkit.calls import Code, Failure, calling, require_ok
from isola.doors.docker.buildkit.wire import Message, message


@pytest.fixture(scope="module")
def image(daemon: Daemon) -> Iterator[Daemon]:
    fingerprint = import_application(daemon, "app")
    yield daemon
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


@pytest.fixture
def docker(image: Daemon, tmp_path: Path) -> Iterator[Docker]:
    made = Docker(image, tmp_path)
    yield made
    if found := made("images", "-q", "--filter", "label=of=test").split():
        made("rmi", "-f", *dict.fromkeys(found))


@pytest.fixture(scope="module")
def registry(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    made = DebianRegistry(daemon, tmp_path_factory.mktemp("registry"))
    try:
        made.start()
        made.trust_in(daemon)
        yield made
    finally:
        made.end()


def socket_of(daemon: Daemon) -> Path:
    return daemon.directory / "buildkit.sock"


async def events(client: object, request: bytes) -> list[Message]:
    found = []
    async with calling(client.calls, f"{CONTROL}ListenBuildHistory") as call:  # type: ignore[attr-defined]
        await call.send(request)
        await call.stream.finish()
        while (data := await call.read()) is not None:
            found.append(Message(data))
    return found


def test_the_socket_is_as_closed_as_that_of_docker(daemon: Daemon) -> None:
    theirs, own = (os.stat(daemon.directory / name) for name in ("docker.sock", "buildkit.sock"))
    assert (own.st_mode, own.st_uid, own.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid)
    assert not own.st_mode & stat.S_IRWXO


async def test_a_build_with_several_outputs(image: Daemon, docker: Docker) -> None:
    text = "FROM app AS made\nRUN --mount=type=secret,id=t mkdir /d && cat /run/secrets/t > /d/a\nFROM scratch\n"
    files = Files(
        {"dockerfile": files_of(Dockerfile=f"{text}COPY --from=made /d /\n"), "context": []}, secrets={"t": b"s3cret"}
    )
    more = [("local", {}), ("image", {"name": "several:1"})]
    async with direct(socket_of(image), files) as client:
        done = await client.build("several:2", {"label:of": "test", "no-cache": ""}, "docker", more=more)
        assert files.received["a"] == b"s3cret" and len(files.received[""]) > 1024
        assert docker("images", "-q", "--no-trunc", "several:1").strip() == done["containerimage.digest"]
        assert not docker("images", "-q", "several:2"), "that name is only in the archive"
        before = docker("images", "-aq")
        assert await client.build(exporter="") == {}
        assert docker("images", "-aq") == before, "without an output nothing is recorded"


async def test_the_daemon_pushes_with_the_passwords_of_the_client(
    image: Daemon, docker: Docker, registry: DebianRegistry
) -> None:
    name = f"{registry.address}/built/app"
    files = Files({"dockerfile": files_of(Dockerfile="FROM app\nRUN echo 1 > /pushed\n"), "context": []})
    more = [("image", {"name": name, "push": "true"}), ("registry", {"name": name, "push-by-digest": "true"})]
    async with direct(socket_of(image), files) as client:
        with pytest.raises(Failure, match=registry.address):
            await client.build(options={"label:of": "test"}, exporter="", more=more)
        files.passwords = {registry.address: (USER, PASSWORD)}
        done = await client.build(options={"label:of": "test"}, exporter="", more=more)
    (tagged,) = registry.storage.glob("**/built/app/_manifests/tags/*/current/link")
    assert tagged.parent.parent.name == "latest" and tagged.read_text() == done["containerimage.digest"]
    assert "containerimage.descriptor" in done


async def test_a_build_begins_with_the_result_of_another_one(image: Daemon, docker: Docker) -> None:
    """As targets of ``docker buildx bake`` do; nothing of the first is left in the project."""
    base = "FROM app\nRUN cat /proc/sys/kernel/random/uuid > /base\nENV of=base\n"
    app = "FROM base\nRUN echo $of; cat /base\n"
    files = Files({"dockerfile": files_of(base=base, app=app), "context": []})
    options, linked = {"filename": "app", "label:of": "test"}, {"context:base": "input:context:base"}
    before = docker("images", "-aq")
    async with direct(socket_of(image), files) as client:

        async def then(result: Message) -> None:
            with pytest.raises(Failure, match="no input"):
                await client.build(options={**options, **linked}, exporter="")
            with pytest.raises(Failure, match="LLB"):
                await client.build(
                    options={**options, **linked}, exporter="", inputs={"context:base": message({1: b""})}
                )
            given = {"context:base": result.blob(2)}
            for _ in range(2):
                await client.build("linked", {**options, **linked}, "image", inputs=given)

        await client.build(options={"filename": "base", "no-cache": ""}, exporter="", returned=then)
        said = b"".join(log.blob(4) for each in await client.told(4) for log in each.messages(3))
        assert said.startswith(b"base\n") and len(said) == 42
        assert any(each.number(4) for one in await client.told(5) for each in one.messages(1)), "it is built once"
    docker("rmi", "linked")
    await asyncio.to_thread(until, lambda: docker("images", "-aq") == before)


async def test_builds_are_remembered(image: Daemon) -> None:
    """By both sockets, until a client removes them."""
    files = Files({"dockerfile": files_of(Dockerfile="FROM app\nRUN echo remembered; exit 4\n"), "context": []})
    async with direct(socket_of(image), files, "rem") as client:
        with pytest.raises(Failure):
            await client.build(exporter="")
        ref = client.ref(1)
    async with builder(image.directory / "docker.sock", files, "look") as client:
        (event,) = await events(client, message({2: ref, 3: True}))
        found = event.inside(2)
        assert event.number(1) == 1 and found.inside(5).number(1) == Code.UNKNOWN and found.number(16) >= 3
        async with calling(client.calls, f"{CONTROL}Status") as call:
            await call.send(message({1: ref}))
            await call.stream.finish()
            said = b""
            while (data := await call.read()) is not None:
                said += b"".join(log.blob(4) for log in Message(data).messages(3))
        assert said == b"remembered\n"
        await client.ask(f"{CONTROL}UpdateBuildHistory", message({1: ref, 3: True}))
        assert not await events(client, message({2: ref, 3: True}))
        with pytest.raises(Failure) as failed:
            await client.ask(f"{CONTROL}UpdateBuildHistory", message({1: ref, 3: True}))
        assert failed.value.code == Code.NOT_FOUND


async def test_sessions_that_are_none_end(daemon: Daemon) -> None:
    """Without an id, with one that is taken, with other bytes than HTTP/2; the connection stays."""
    files = Files({"dockerfile": files_of(Dockerfile="FROM scratch\n"), "context": []})
    async with direct(socket_of(daemon), files, "mine") as client:
        for headers in ({}, {"x-docker-expose-session-uuid": ["mine"]}):
            async with calling(client.calls, f"{CONTROL}Session", headers) as call:
                assert await call.read() is None
                with pytest.raises(Failure, match="no id or one that is taken"):
                    require_ok(call)
        for garbage in (message({1: b"\xff" * 100}), b"\xff\xff", message({1: b"\0\0\4\4\0\0\0\0\0abcd"})):
            async with calling(client.calls, f"{CONTROL}Session", {"x-docker-expose-session-uuid": ["bad"]}) as call:
                await call.send(garbage * 3)
                while await asyncio.wait_for(call.read(), 60) is not None:
                    pass
        assert Message(await client.ask(f"{CONTROL}ListWorkers", b"")).messages(1)
        assert await client.build(exporter="") == {}


async def test_what_is_no_client_of_buildkit_is_sent_away(daemon: Daemon) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket_of(daemon)))
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"this is not HTTP/2" in await asyncio.wait_for(reader.read(), 10)
    writer.close()
