"""Volumes through the Docker door, over a daemon in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.model.volume import VolumeRef


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


async def create(docker: DockerStand, **body: Any) -> dict[str, Any]:
    status, made = await docker.ask("POST", "/volumes/create", body)
    assert status == 201, made
    return dict(made)


async def test_a_volume_is_a_custom_volume(docker: DockerStand) -> None:
    made = await create(docker, Name="data_1", Driver="local", Labels={"a": "b"})
    assert (made["Name"], made["Driver"], made["Scope"], made["Labels"]) == ("data_1", "local", "local", {"a": "b"})
    assert docker.services.volumes.get(VolumeRef.custom("default", "data_1")).config == {"user.a": "b"}
    assert await create(docker, Name="data_1") == made
    assert await docker.get("/volumes/data_1") == made
    assert (await docker.ask("DELETE", "/volumes/data_1"))[0] == 204
    status, said = await docker.ask("DELETE", "/volumes/data_1")
    assert (status, said["message"]) == (404, "get data_1: no such volume")
    assert (await docker.ask("DELETE", "/volumes/data_1?force=1"))[0] == 204


async def test_a_volume_without_a_name_has_64_digits(docker: DockerStand) -> None:
    made = await create(docker)
    assert len(made["Name"]) == 64 and made["Labels"] == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": "a/b"}, 400, 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ({"Driver": "nfs"}, 404, 'error looking up volume plugin nfs: plugin "nfs" not found'),
        ({"Name": "n", "DriverOpts": {"type": "nfs"}}, 400, "Volumes have no option 'type' here"),
        ({"Name": "n", "ClusterVolumeSpec": {}}, 400, "Volumes of a cluster are not offered"),
    ],
)
async def test_requests_are_refused(docker: DockerStand, body: dict[str, Any], status: int, message: str) -> None:
    found, said = await docker.ask("POST", "/volumes/create", body)
    assert found == status and said["message"].startswith(message), said


async def test_a_used_volume_is_kept_by_remove_and_prune(docker: DockerStand) -> None:
    for name in ("used", "idle"):
        await create(docker, Name=name, Labels={"tier": name})
    anonymous = (await create(docker))["Name"]
    host = {"Binds": ["used:/data"]}
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "HostConfig": host}
    status, made = await docker.ask("POST", "/containers/create?name=web1", body)
    assert status == 201, made
    status, said = await docker.ask("DELETE", "/volumes/used")
    assert (status, said["message"]) == (409, f"remove used: volume is in use - [{made['Id']}]")

    async def listed(filters: str) -> list[str]:
        found = await docker.get(f"/volumes?filters={filters}")
        return sorted(each["Name"] for each in found["Volumes"])

    assert await listed('{"dangling":["true"]}') == sorted(["idle", anonymous])
    assert await listed('{"dangling":{"0":true}}') == ["used"]
    assert await listed('{"label":["tier=idle"]}') == ["idle"]
    assert await listed('{"name":["dl"]}') == ["idle"]
    assert (await docker.ask("GET", '/volumes?filters={"wrong":["x"]}'))[0] == 400
    assert (await docker.get_after("POST", "/volumes/prune"))["VolumesDeleted"] == [anonymous]
    kept = '{"all":["1"],"label!":["tier=idle"]}'
    assert (await docker.get_after("POST", f"/volumes/prune?filters={kept}"))["VolumesDeleted"] is None
    assert (await docker.get_after("POST", '/volumes/prune?filters={"all":["true"]}'))["VolumesDeleted"] == ["idle"]
    assert await listed("{}") == ["used"]
