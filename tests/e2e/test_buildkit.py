"""Builds by the protocol of BuildKit, as ``docker build`` asks for them where buildx is installed."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_image import import_application
from buildkit_client import CONTROL, Files, builder, file_stat, files_of, tar_of, upgraded
from daemon import Daemon
from docker_command import Docker
from waiting import until

from isola.doors.docker.buildkit.calls import Code, Failure
from isola.doors.docker.buildkit.wire import Message, message

DOCKERFILE = """
FROM app AS base
ARG WHO=none
RUN --mount=type=secret,id=token cat /run/secrets/token; echo $WHO >&2
FROM base
COPY . /context
RUN ls -A /context
"""


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


def door(daemon: Daemon) -> Path:
    return daemon.directory / "docker.sock"


def shown(responses: list[Message]) -> tuple[list[str], str, list[str]]:
    """Names of the steps in their order, all output, and errors of steps."""
    steps = [each for response in responses for each in response.messages(1)]
    output = b"".join(log.blob(4) for response in responses for log in response.messages(3))
    names = list(dict.fromkeys(step.text(3) for step in steps))
    return names, output.decode(), [step.text(7) for step in steps if step.text(7)]


async def test_a_build_with_all_that_a_client_is_asked_for(image: Daemon, docker: Docker) -> None:
    files = Files(
        {
            "dockerfile": files_of(Dockerfile=DOCKERFILE),
            "context": [*files_of(**{".dockerignore": "# c\n\n/log\n!log/keep\n"}), *files_of(kept="1")],
        },
        secrets={"token": b"s3cret\n", "other": b"x"},
    )
    async with builder(door(image), files) as client:
        names = "one:v1,registry.example/two"
        done = await client.build(names, {"build-arg:WHO": "me", "label:of": "test", "no-cache": ""})
        steps, output, errors = shown(await client.told(1))
    assert done["image.name"] == "docker.io/library/one:v1,registry.example/two:latest"
    assert docker("images", "-q", "--no-trunc", "one:v1").strip() == done["containerimage.config.digest"]
    assert steps[:3] == ["[internal] load build definition from Dockerfile", "[internal] load build context",
                         "[base 1/2] FROM docker.io/library/app:latest"]  # fmt: skip
    assert steps[-1] == "exporting to image" and not errors
    assert output == "s3cret\nme\n.dockerignore\nkept\n", "the Dockerfile is not in the context of this client"
    assert files.asked[-1]["exclude-patterns"] == ["log", "!log/keep"]


async def test_further_contexts(image: Daemon, docker: Docker) -> None:
    text = "FROM other\nCOPY --from=lib . /lib\nRUN --mount=from=lib,target=/m cat /m/b /lib/b; ls /lib /m\n"
    files = Files(
        {
            "dockerfile": files_of(Dockerfile=text),
            "context": files_of(kept="1"),
            "lib": [*files_of(**{".dockerignore": "secret\n", "b": "of lib\n"}),
                    (file_stat("c", link="b", mode=1 << 27 | 0o777), b"")],
        },
    )  # fmt: skip
    async with builder(door(image), files) as client:
        contexts = {"context:lib": "local:lib", "context:other": "docker-image://app"}
        await client.build("six", {**contexts, "label:of": "test", "no-cache": ""})
        output = shown(await client.told(1))[1]
    assert output == "of lib\nof lib\n/lib:\nb\nc\n\n/m:\nb\nc\n"
    assert (files.asked[-1]["dir-name"], files.asked[-1]["exclude-patterns"]) == (["lib"], ["secret"])


async def test_a_failure_names_its_step(image: Daemon) -> None:
    files = Files({"dockerfile": files_of(Dockerfile="FROM app\nRUN exit 3\n"), "context": []})
    async with builder(door(image), files) as client:
        with pytest.raises(Failure, match=r'^process "/bin/sh -c exit 3" did not complete successfully: exit code: 3$'):
            await client.build()
        steps, _, errors = shown(await client.told(1))
        assert steps[-1] == "[2/2] RUN exit 3" and len(errors) == 1
        with pytest.raises(Failure, match=r"open missing: no such file"):
            await client.build(options={"filename": "missing"})
        with pytest.raises(Failure, match="output zip"):
            await client.build(exporter="zip")


async def test_an_archive_from_standard_input(image: Daemon, docker: Docker) -> None:
    files = Files({}, upload=tar_of(Dockerfile="FROM app\nCOPY x /x\nRUN cat /x\n", x="from a tar\n"))
    async with builder(door(image), files) as client:
        await client.build("three", {"context": "http://buildkit-session/id", "label:of": "test"})
        assert "from a tar" in shown(await client.told(1))[1]


async def test_files_of_the_result_go_to_the_client(image: Daemon, docker: Docker, tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    dockerfile = (
        "FROM app AS made\nRUN mkdir /d && echo one > /d/a && touch /d/b\nFROM scratch\nCOPY --from=made /d /d\n"
    )
    files = Files({"dockerfile": files_of(Dockerfile=dockerfile), "context": []})
    before = docker("images", "-aq")
    async with builder(door(image), files) as client:
        await client.build(exporter="local")
        assert files.received == {"d": b"", "d/a": b"one\n", "d/b": b""}
        await client.build(exporter="tar")
        with tarfile.open(fileobj=io.BytesIO(files.received.pop(""))) as archive:
            assert [each.name.strip("./") for each in archive] == ["", "d", "d/a", "d/b"]
        assert docker("images", "-aq") == before, "the result is no image"
        await client.build("five:v1", exporter="docker")
        saved.write_bytes(files.received.pop(""))
        assert "five:v1" in docker("load", "-i", str(saved))
        files.refuses = "cannot write: read-only file system"
        with pytest.raises(Failure, match="cannot take the result: cannot write: read-only"):
            await client.build(exporter="local")
    docker("rmi", "five:v1")


async def test_a_client_that_goes_ends_its_build(image: Daemon) -> None:
    files = Files({"dockerfile": files_of(Dockerfile="FROM app\nRUN echo begun && sleep 1000\n"), "context": []})
    async with builder(door(image), files) as client:
        building = asyncio.ensure_future(client.build())
        watching = asyncio.ensure_future(client.told(1))
        await asyncio.to_thread(until, lambda: image.get("/1.0/instances"), 60)
        building.cancel()
        watching.cancel()
        await asyncio.gather(building, watching, return_exceptions=True)
    await asyncio.to_thread(until, lambda: image.get("/1.0/instances") == [])


async def test_a_session_that_ends_ends_its_build(image: Daemon) -> None:
    """The call is answered: the connection on which it was made is still there."""
    files = Files({"dockerfile": files_of(Dockerfile="FROM app\nRUN echo begun && sleep 1001\n"), "context": []})
    async with builder(door(image), files) as client:
        building = asyncio.ensure_future(client.build())
        await asyncio.to_thread(until, lambda: image.get("/1.0/instances"), 60)
        client.back.close()
        with pytest.raises(Failure, match="closed its session"):
            await building
    await asyncio.to_thread(until, lambda: image.get("/1.0/instances") == [])


async def test_kept_results_are_counted_and_dropped(image: Daemon) -> None:
    files = Files({"dockerfile": files_of(Dockerfile="FROM app\nRUN echo 1 > /kept\n"), "context": []})
    async with builder(door(image), files) as client:
        await client.build()
        await client.build()
        assert any(each.number(4) for response in await client.told(2) for each in response.messages(1)), "cached"
        used = Message(await client.ask(f"{CONTROL}DiskUsage", b"")).messages(1)
        assert [each.text(9) for each in used if "/kept" in each.text(9)] == ["RUN /bin/sh -c echo 1 > /kept"]
        await client.ask(f"{CONTROL}Prune", b"")
        assert not Message(await client.ask(f"{CONTROL}DiskUsage", b"")).messages(1)
        with pytest.raises(Failure, match="has a builder of its own") as failed:
            await client.ask(f"{CONTROL}Unheard", message({}))
        assert failed.value.code == Code.UNIMPLEMENTED


async def test_mistakes_of_a_dockerfile_are_asked_for(image: Daemon) -> None:
    files = Files({"dockerfile": files_of(Dockerfile="FROM app AS Base\nCMD run\n"), "context": []})
    async with builder(door(image), files) as client:
        found = await client.ask_frontend({"requestid": "frontend.lint"})
        warnings = json.loads(found["result.json"])["warnings"]
        assert [each["ruleName"] for each in warnings] == ["StageNameCasing", "JSONArgsRecommended"]
        assert warnings[1]["location"]["ranges"][0]["start"]["line"] == 2 and found["result.statuscode"] == b"1"
        with pytest.raises(Failure, match="check, outline or targets"):
            await client.ask_frontend({"requestid": "frontend.unheard"})
        found = await client.ask_frontend({"requestid": "frontend.outline", "target": "Base"})
        assert json.loads(found["result.json"])["name"] == "base"
        found = await client.ask_frontend({"requestid": "frontend.targets"})
        assert [each["base"] for each in json.loads(found["result.json"])["targets"]] == ["app"]
        skipping = {"requestid": "frontend.lint", "build-arg:BUILDKIT_DOCKERFILE_CHECK": "skip=all"}
        assert (await client.ask_frontend(skipping))["result.statuscode"] == b"0"
        await client.build(options={"label:of": "test"})
        told = [each.blob(3).decode() for response in await client.told(6) for each in response.messages(4)]
        assert any("JSONArgsRecommended" in text for text in told), "a build warns"


async def test_a_session_is_one_clients(image: Daemon) -> None:
    files = Files({"dockerfile": files_of(Dockerfile="FROM scratch\n"), "context": []})
    async with builder(door(image), files, "mine"):
        with pytest.raises(AssertionError, match="400 Bad Request"):
            async with upgraded(door(image), "/v1.50/session", **{"X-Docker-Expose-Session-Uuid": ["mine"]}):
                pass
