"""What the query of a build asks for, and the lines that its client prints."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from buildkit_client import tar_of
from docker_door import DockerStand, docker_standing

from isola.doors.docker.building import WAY_OUT, messages
from isola.model.build import BuildEvent, BuildEventKind


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("isolation=hyperv", 400, 'unsupported isolation: "hyperv"'),
        ("securityopt=%5B%22seccomp=unconfined%22%5D", 400, "security options are not supported on linux"),
        ("networkmode=nope", 404, "network nope not found"),
        ("networkmode=container:x", 400, "The network of a container is not offered to builds"),
        ("cachefrom=x", 400, "cachefrom is not a JSON list of images"),
        ("ulimits=x", 400, "error reading ulimit settings: a JSON list is expected"),
        ("squash=1", 400, "--squash is not supported"),
        ("cgroupparent=/test", 400, "--cgroup-parent is not supported"),
        ("version=2", 400, WAY_OUT),
    ],
)
async def test_requests_are_refused(docker: DockerStand, query: str, status: int, message: str) -> None:
    assert await docker.ask("POST", f"/build?{query}") == (status, {"message": message})


def test_lines_are_those_of_the_classic_builder() -> None:
    def printed(what: BuildEventKind, text: str = "", **more: object) -> str:
        return "".join(str(line["stream"]) for line in messages(BuildEvent(what, 0, text, **more)))  # type: ignore[arg-type]

    assert printed(BuildEventKind.STEP, "RUN x", number=2, total=3) == "Step 2/3 : RUN x\n"
    assert printed(BuildEventKind.RUNNING, "0123456789ab") == " ---> Running in 0123456789ab\n"
    assert printed(BuildEventKind.REMOVED, "0123456789ab") == " ---> Removed intermediate container 0123456789ab\n"
    assert printed(BuildEventKind.OUTPUT, data=b"out\n") == "out\n"
    assert printed(BuildEventKind.OUTPUT, data=b"err\n", stderr=True) == "\x1b[91merr\n\x1b[0m"


async def test_a_build_is_told_of_as_docker_does(docker: DockerStand) -> None:
    """A name that has belonged to another image is given again."""
    for label in ("1", "2"):
        context = tar_of(Dockerfile=f"FROM scratch\nLABEL of={label}\n")
        async with docker.session.post("http://docker/v1.50/build?t=made", data=context) as answer:
            assert b"Successfully" in await answer.read()
    async with docker.session.get("http://docker/v1.50/events?since=1&until=9999999999") as answer:
        lines = [json.loads(await answer.content.readline()) for _ in range(4)]
    first, _, second, _ = (line["Actor"]["ID"] for line in lines)
    told = [(line["Action"], line["Actor"]["ID"], line["Actor"]["Attributes"]["name"]) for line in lines]
    assert first != second and told == [
        ("create", first, first), ("tag", first, "made:latest"),
        ("create", second, second), ("tag", second, "made:latest"),
    ]  # fmt: skip
