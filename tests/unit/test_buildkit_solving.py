"""What clients of BuildKit ask to be solved: what is refused at once, and which Dockerfile is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from buildkit_client import CONTROL, Builder, Files, builder, files_of, session
from docker_door import docker_standing

from isola.doors.docker.buildkit.calls import Failure
from isola.doors.docker.buildkit.solving import definition, failure
from isola.doors.docker.buildkit.wire import message
from isola.errors import InvalidInput, ProgramFailed


@pytest.fixture
async def client() -> AsyncIterator[Builder]:
    async with docker_standing() as docker, builder(docker.rest.path.with_name("docker.sock"), Files({})) as made:
        yield made


@pytest.mark.parametrize("definition", [b"", message({1: b"x"})], ids=["empty", "other"])
async def test_low_level_definitions_are_refused_at_once(client: Builder, definition: bytes) -> None:
    """An empty one is that of ``scratch``: without a frontend nothing else would come, and both sides would wait."""
    with pytest.raises(Failure, match="LLB"):
        async with asyncio.timeout(60):
            await client.ask(f"{CONTROL}Solve", message({1: "ref", 2: definition}))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ProgramFailed("The command ...", 4, command='/bin/sh -c echo "ä"\nexit 4'),
            r'process "/bin/sh -c echo \"ä\"\nexit 4" did not complete successfully: exit code: 4',
        ),
        (ProgramFailed("It is not healthy", 1), "It is not healthy"),
        (asyncio.CancelledError(), "the build was cancelled"),
    ],
)
def test_failures_are_told_as_by_buildkit(error: BaseException, text: str) -> None:
    assert failure(error) == text


async def test_an_empty_definition_does_not_matter_beside_a_frontend(client: Builder) -> None:
    with pytest.raises(Failure, match=r"The frontend gateway\.v0 is not offered"):
        await client.ask(f"{CONTROL}Solve", message({1: "ref", 2: b"", 6: "gateway.v0"}))


@pytest.mark.parametrize(
    ("there", "name", "found"),
    [
        ({"Dockerfile": "upper", "dockerfile": "lower"}, "Dockerfile", b"upper"),
        ({"dockerfile": "lower", "dockerfile.dockerignore": "a"}, "Dockerfile", b"lower"),
        ({"d__dockerfile": "lower"}, "d/Dockerfile", b"lower"),
        ({"app": "app"}, "app", b"app"),
    ],
)
async def test_a_dockerfile_may_be_written_small(there: Mapping[str, str], name: str, found: bytes) -> None:
    files = Files({"dockerfile": files_of(**there), "context": []})
    async with session(files.methods) as made:
        data, ignored = await definition(made, name)
    assert data == found and ignored == (("a",) if "dockerfile.dockerignore" in there else ())


@pytest.mark.parametrize("name", ["App", "Dockerfile"])
async def test_other_names_are_as_they_are_written(name: str) -> None:
    files = Files({"dockerfile": files_of(app="app"), "context": []})
    async with session(files.methods) as made:
        with pytest.raises(InvalidInput, match=f"open {name}: no such file"):
            await definition(made, name)
