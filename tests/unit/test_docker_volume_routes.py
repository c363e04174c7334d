"""Volumes through the Docker door, over a daemon in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.answers import NO_MANAGER
from isola.host.guest_mounts import Graft
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
        ({"Name": "a"}, 400, "create a: volume name is too short"),
        ({"Driver": "nfs"}, 404, 'error looking up volume plugin nfs: plugin "nfs" not found'),
        ({"Name": "ab", "Driver": "nfs"}, 404, "create ab: error looking up volume plugin nfs"),
        ({"Name": "ab", "DriverOpts": {"foo": "x"}}, 400, 'create ab: invalid option: "foo"'),
        ({"Name": "ab", "DriverOpts": {"type": "tmpfs"}}, 400, 'create ab: missing required option: "device"'),
        ({"Name": "ab", "DriverOpts": {"device": "/x"}}, 400, 'create ab: missing required option: "type"'),
        ({"Name": "ab", "DriverOpts": {"size": "10m"}}, 400, "create ab: quota size requested"),
        (
            {"Name": "ab", "DriverOpts": {"type": "nfs", "device": ":/x", "o": "addr=192.0.2.1"}},
            400,
            "create ab: file systems of type 'nfs' are not mounted for volumes",
        ),
        (
            {"Name": "ab", "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "odd"}},
            400,
            "create ab: invalid mount: options out of ro,",
        ),
        (
            {"Name": "ab", "DriverOpts": {"type": "none", "device": "srv", "o": "bind"}},
            400,
            "create ab: invalid mount: an absolute path",
        ),
        ({"Name": "ab", "ClusterVolumeSpec": {}}, 503, NO_MANAGER),
    ],
)
async def test_requests_are_refused(docker: DockerStand, body: dict[str, Any], status: int, message: str) -> None:
    found, said = await docker.ask("POST", "/volumes/create", body)
    assert found == status and said["message"].startswith(message), said


async def test_labels_without_a_value_are_shown(docker: DockerStand) -> None:
    made = await create(docker, Name="data", Labels={"a": "b", "bare": ""})
    assert made["Labels"] == {"a": "b", "bare": ""}
    assert [each["Name"] for each in (await docker.get('/volumes?filters={"label":["bare"]}'))["Volumes"]] == ["data"]


async def started(docker: DockerStand, **host: Any) -> Graft:
    """What a container gets at its only mount point."""
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "HostConfig": host}
    status, said = await docker.ask("POST", "/containers/create?name=web1", body)
    assert status == 201, said
    status, said = await docker.ask("POST", "/containers/web1/start")
    assert status == 204, said
    return docker.rest.world.host.guest_mounts.grafts[-1]


async def test_a_volume_of_a_path_of_the_host(docker: DockerStand) -> None:
    await docker.rest.world.host.files.make_directory(Path("/srv/web"), mode=0o755)
    options = {"type": "none", "device": "/srv/web", "o": "bind,ro"}
    made = await create(docker, Name="site", DriverOpts=options)
    assert made["Options"] == options
    config = docker.services.volumes.get(VolumeRef.custom("default", "site")).config
    assert config == {"mount.source": "/srv/web", "mount.options": "bind,ro"}
    graft = await started(docker, Binds=["site:/data"])
    assert (graft.source, graft.read_only) == (Path("/srv/web"), True) and graft.idmap is not None
    assert (await docker.ask("DELETE", "/volumes/site"))[0] == 409
    assert (await docker.ask("DELETE", "/containers/web1?force=1"))[0] == 204
    assert (await docker.get_after("POST", '/volumes/prune?filters={"all":["1"]}'))["VolumesDeleted"] == []
    assert (await docker.ask("DELETE", "/volumes/site"))[0] == 204
    assert await docker.rest.world.host.files.exists(Path("/srv/web"))


async def test_a_volume_of_a_missing_path_stops_the_start(docker: DockerStand) -> None:
    await create(docker, Name="site", DriverOpts={"type": "none", "device": "/srv/none", "o": "bind"})
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "HostConfig": {"Binds": ["site:/data"]}}
    assert (await docker.ask("POST", "/containers/create?name=web1", body))[0] == 201
    status, said = await docker.ask("POST", "/containers/web1/start")
    assert status >= 400 and "/srv/none does not exist on the host" in said["message"]


async def test_a_volume_in_memory(docker: DockerStand) -> None:
    driver = {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,mode=0700"}}
    mount = {"Type": "volume", "Source": "scratch", "Target": "/m", "VolumeOptions": {"DriverConfig": driver}}
    graft = await started(docker, Mounts=[mount])
    assert graft.source is None
    assert (graft.size, graft.mode, graft.owner) == (1 << 20, 0o700, graft.group)
    assert graft.owner % 65536 == 1000
    assert (await docker.get("/volumes/scratch"))["Options"] == driver["Options"]


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
    assert await listed('{"name":["dl"]}') == await listed('{"name":["^id"]}') == ["idle"]
    assert await listed('{"name":["^dl"]}') == []
    assert (await docker.ask("GET", '/volumes?filters={"wrong":["x"]}'))[0] == 400
    assert (await docker.get_after("POST", "/volumes/prune"))["VolumesDeleted"] == [anonymous]
    kept = '{"all":["1"],"label!":["tier=idle"]}'
    assert (await docker.get_after("POST", f"/volumes/prune?filters={kept}"))["VolumesDeleted"] == []
    assert (await docker.get_after("POST", '/volumes/prune?filters={"all":["true"]}'))["VolumesDeleted"] == ["idle"]
    assert await listed("{}") == ["used"]
