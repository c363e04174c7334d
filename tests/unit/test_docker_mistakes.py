"""Requests that cannot be served are refused by the Docker door with the texts of Docker, which scripts read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

PEER = "container:web1"


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        await create(made, "web1")
        yield made


async def create(docker: DockerStand, name: str, **more: Any) -> None:
    status, body = await docker.ask("POST", f"/containers/create?name={name}", {"Image": "tiny", "Cmd": ["x"]} | more)
    assert status == 201, body


def mount(**fields: object) -> dict[str, object]:
    return {"HostConfig": {"Mounts": [fields]}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (mount(Type="bind", Source="/tmp"), 'invalid mount config for type "bind": field Target must not be empty'),
        (mount(Type="bind", Target="/x"), 'invalid mount config for type "bind": field Source must not be empty'),
        (
            mount(Type="bind", Source="/tmp", Target="/x", VolumeOptions={}),
            'invalid mount config for type "bind": field VolumeOptions must not be specified',
        ),
        (
            mount(Type="tmpfs", Source="/tmp", Target="/x"),
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        (
            mount(Type="tmpfs", Target="/"),
            "invalid mount config for type \"tmpfs\": invalid specification: destination can't be '/'",
        ),
        (mount(Type="other", Target="/x"), 'invalid mount config for type "other": mount type unknown'),
        (
            {"HostConfig": {"Binds": ["/tmp:x"]}},
            "invalid volume specification: '/tmp:x': invalid mount config for type \"bind\": invalid mount path: 'x' "
            "mount path must be absolute",
        ),
        (
            {"HostConfig": {"Binds": ["/"]}},
            "invalid volume specification: '/': invalid mount config for type \"volume\": invalid specification: "
            "destination can't be '/'",
        ),
        ({"HostConfig": {"Tmpfs": {"x": ""}}}, "invalid mount path: 'x' mount path must be absolute"),
        *(
            ({"HostConfig": {"Tmpfs": {"/x": options}}}, f"invalid tmpfs {message}")
            for options, message in (("odd=1", 'option "odd"'), ("size=½k", "size '½k'"), ("size=5x", "size '5x'"))
        ),
        *(
            ({"HostConfig": {"Binds": [f"/tmp:/x:{mode}"]}}, f"invalid mode: {mode}")
            for mode in ("ro,rw", "z,Z", "ro,ro", "rshared,private", "cached,delegated", "odd", "rw,")
        ),
        *(
            (
                {"HostConfig": {"Binds": [text]}},
                f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": field {field} must "
                "not be specified",
            )
            for text, kind, field in (
                ("/tmp:/x:nocopy", "bind", "VolumeOptions"),
                ("data:/x:ro,rshared", "volume", "BindOptions"),
            )
        ),
        ({"HostConfig": {"ShmSize": -1}}, "SHM size can not be less than 0"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Retries": -1}}, "Retries in Healthcheck cannot be negative"),
        (
            {"HostConfig": {"NetworkMode": "container:"}},
            "Invalid network mode: invalid container format container:<name|id>",
        ),
        ({"Hostname": "a", "HostConfig": {"UTSMode": "host"}}, "conflicting options: hostname and the UTS mode"),
        (
            {"HostConfig": {"NetworkMode": "host", "Links": ["web1"]}},
            "conflicting options: host type networking can't be used with links. This would result in undefined "
            "behavior",
        ),
        *(
            ({**more, "HostConfig": {"NetworkMode": PEER, **host}}, f"conflicting options: {message}")
            for more, host, message in (
                ({"Hostname": "a"}, {}, "hostname and the network mode"),
                ({"MacAddress": "02:00:00:00:00:01"}, {}, "mac-address and the network mode"),
                ({"ExposedPorts": {"80/tcp": {}}}, {}, "port exposing and the container type network mode"),
                ({}, {"PublishAllPorts": True}, "port publishing and the container type network mode"),
                ({}, {"PortBindings": {"80/tcp": [{}]}}, "port publishing and the container type network mode"),
                ({}, {"Dns": ["192.0.2.1"]}, "dns and the network mode"),
                ({}, {"ExtraHosts": ["a:192.0.2.1"]}, "custom host-to-IP mapping and the network mode"),
                (
                    {},
                    {"Links": ["web1"]},
                    "container type network can't be used with links. This would result in undefined behavior",
                ),
            )
        ),
    ],
)
async def test_containers_that_cannot_be(docker: DockerStand, body: dict[str, Any], message: str) -> None:
    status, said = await docker.ask("POST", "/containers/create", {"Image": "tiny", "Cmd": ["x"]} | body)
    assert (status, said["message"]) == (400, message)


async def test_a_container_cannot_join_its_own_network(docker: DockerStand) -> None:
    body = {"Image": "tiny", "HostConfig": {"NetworkMode": "container:self"}}
    status, said = await docker.ask("POST", "/containers/create?name=self", body)
    assert (status, said["message"]) == (400, "cannot join own network namespace")


async def test_an_image_has_a_name(docker: DockerStand) -> None:
    status, said = await docker.ask("DELETE", "/images/%20")
    assert (status, said["message"]) == (400, "image name cannot be blank")


async def test_what_does_not_conflict_is_accepted(docker: DockerStand) -> None:
    await create(docker, "other", HostConfig={"NetworkMode": PEER, "PortBindings": {}, "Dns": [], "Links": None})
    whole: list[dict[str, object]] = [
        {"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {}, "BindOptions": None, "VolumeOptions": None}
    ]
    await create(docker, "mounts", HostConfig={"Mounts": whole})
    await create(
        docker, "modes", HostConfig={"Binds": ["/tmp:/a:ro,z,cached,rshared", "/tmp:/b:", "data:/c:rw,nocopy"]}
    )


async def test_bodies_of_other_types_are_not_read(docker: DockerStand) -> None:
    for path in ("/containers/create", "/networks/create", "/volumes/create", "/containers/web1/update"):
        status, said = await docker.ask("POST", path, data=b"{}", headers={"Content-Type": "text/plain"})
        assert (status, said["message"]) == (
            400,
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        )
    status, said = await docker.ask("POST", "/containers/create")
    assert (status, said["message"]) == (400, "invalid JSON: got EOF while reading request body")
    named = {"Content-Type": "application/json; charset=utf-8"}
    assert (await docker.ask("POST", "/volumes/create", data=b'{"Name": "mine"}', headers=named))[0] == 201


async def test_the_name_of_a_container_is_no_link(docker: DockerStand) -> None:
    status, said = await docker.ask("DELETE", "/containers/web1?link=1")
    assert (status, said["message"]) == (409, "Conflict, cannot remove the default link name of the container")
    await docker.get("/containers/web1/json")


async def test_an_archive_that_is_none_is_told_in_the_stream(docker: DockerStand) -> None:
    status, line = await docker.ask("POST", "/images/load", data=b"garbage")
    assert status == 200 and "truncated" in line["error"] and line["errorDetail"] == {"message": line["error"]}


async def test_a_paused_container_is_not_attached_to(docker: DockerStand) -> None:
    assert (await docker.ask("POST", "/containers/web1/start"))[0] == 204
    assert (await docker.ask("POST", "/containers/web1/pause"))[0] == 204
    status, said = await docker.ask("POST", "/containers/web1/attach?stream=1&stdout=1")
    assert (status, said["message"]) == (409, "container web1 is paused, unpause the container before attach")


@pytest.mark.parametrize(
    "path", ["/containers/create?platform={}", "/build?platform={}", "/images/create?fromImage=tiny&platform={}"]
)
async def test_platforms_that_cannot_be(docker: DockerStand, path: str) -> None:
    for name, message in (
        ("vax", '"vax": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
    ):
        body = {"Image": "tiny", "Cmd": ["x"]} if "containers" in path else None
        status, said = await docker.ask("POST", path.format(name), body)
        assert (status, said["message"]) == (400, message)


async def test_a_pruning_without_effect_has_the_lists_of_docker(docker: DockerStand) -> None:
    assert await docker.get_after("POST", "/build/prune") == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert await docker.get_after("POST", "/volumes/prune") == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    assert await docker.get_after("POST", "/networks/prune") == {"NetworksDeleted": None}
