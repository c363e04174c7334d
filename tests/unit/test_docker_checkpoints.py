"""Checkpoints through the Docker door, over a daemon in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from docker_door import DockerStand, docker_standing

from isola.access import Permission
from isola.doors.docker.routing import all_routes, needed
from isola.doors.rest.routing import all_routes as rest_routes
from isola.model.reference import Ref


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        status, body = await made.ask("POST", "/containers/create?name=web1", {"Image": "tiny", "Cmd": ["sleep", "9"]})
        assert status == 201, body
        assert (await made.ask("POST", "/containers/web1/start"))[0] == 204
        yield made


async def take(docker: DockerStand, name: str, **more: object) -> tuple[int, object]:
    return await docker.ask("POST", "/containers/web1/checkpoints", {"CheckpointID": name, **more})


async def runs(docker: DockerStand) -> bool:
    return bool((await docker.get("/containers/web1/json"))["State"]["Running"])


async def test_a_container_is_saved_and_continues_from_there(docker: DockerStand) -> None:
    assert await docker.get("/containers/web1/checkpoints") == []
    assert (await take(docker, "one"))[0] == 201 and await runs(docker)
    assert (await take(docker, "two", Exit=True))[0] == 201 and not await runs(docker)
    assert await docker.get("/containers/web1/checkpoints") == [{"Name": "one"}, {"Name": "two"}]
    assert (await docker.ask("POST", "/containers/web1/start?checkpoint=one"))[0] == 204
    assert await runs(docker)
    assert (await docker.ask("POST", "/containers/web1/start?checkpoint=two"))[0] == 304, "it runs"
    assert (await docker.ask("DELETE", "/containers/web1/checkpoints/one"))[0] == 204
    assert await docker.get("/containers/web1/checkpoints") == [{"Name": "two"}]


async def test_snapshots_without_memory_are_no_checkpoints(docker: DockerStand) -> None:
    instances = docker.services.instances
    await docker.services.operations.finish(instances.snapshots.create(Ref.default("web1"), "files"))
    assert await docker.get("/containers/web1/checkpoints") == []
    status, body = await docker.ask("DELETE", "/containers/web1/checkpoints/files")
    assert (status, body["message"]) == (404, "checkpoint files does not exist for container web1")
    assert [each.name for each in instances.snapshots.of(instances.get(Ref.default("web1")))] == ["files"]


async def test_errors_are_those_of_docker(docker: DockerStand) -> None:
    assert (await take(docker, "one"))[0] == 201
    for body, status, message in (
        ({"CheckpointID": "one"}, 409, "checkpoint with name one already exists for container web1"),
        ({"CheckpointID": "-x"}, 400, "Invalid checkpoint ID (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ({}, 400, "Invalid checkpoint ID (), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ({"CheckpointID": "y1", "CheckpointDir": "/tmp"}, 501, "custom checkpointdir is not supported"),
    ):
        found = await docker.ask("POST", "/containers/web1/checkpoints", body)
        assert (found[0], found[1]["message"].partition(" (leave")[0]) == (status, message)
    assert (await docker.ask("POST", "/containers/web1/stop?t=0"))[0] == 204
    for method, path, status, message in (
        ("POST", "/containers/web1/start?checkpoint=no", 404, "checkpoint no does not exist for container web1"),
        ("DELETE", "/containers/web1/checkpoints/no", 404, "checkpoint no does not exist for container web1"),
        ("GET", "/containers/gone/checkpoints", 404, "No such container: gone"),
    ):
        found = await docker.ask(method, path)
        assert (found[0], found[1]["message"]) == (status, message)
    found = await take(docker, "two")
    assert found[0] == 409 and "is not running" in str(found[1])
    assert not await runs(docker)


def test_to_start_from_one_needs_what_a_restore_needs() -> None:
    rest = {route[:2]: route[3] for route in rest_routes()}
    _, _, start, permission = next(each for each in all_routes() if each[1] == "/containers/{name}/start")
    assert needed(start, permission, {}) == needed(start, permission, {"checkpoint": ""}) == Permission.OPERATE
    assert needed(start, permission, {"checkpoint": "one"}) == rest["PUT", "/1.0/instances/{name}"] == Permission.EDIT
    _, _, stop, permission = next(each for each in all_routes() if each[1] == "/containers/{name}/stop")
    assert needed(stop, permission, {"checkpoint": "one"}) == permission
