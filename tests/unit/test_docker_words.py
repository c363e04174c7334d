"""What Docker's own tests ask for by its texts: JSON, sizes of terminals, ports to be chosen, kept events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.building import credentials_in
from isola.doors.docker.containers.host_devices import host_devices
from isola.doors.docker.json_body import decoded
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.model.reference import Ref

SLEEP = {"Image": "tiny", "Cmd": ["sleep"]}
TYPE = {"Content-Type": "application/json"}


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


async def create(docker: DockerStand, name: str = "web1", **more: Any) -> None:
    status, body = await docker.ask("POST", f"/containers/create?name={name}", SLEEP | more)
    assert status == 201, body


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{invalid json", "invalid JSON: invalid character 'i' looking for beginning of object key string"),
        (b'{"a":x}', "invalid JSON: invalid character 'x' looking for beginning of value"),
        (b'{"a" 1}', "invalid JSON: invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid JSON: invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid JSON: invalid character '2' after array element"),
        (b"{} more", "unexpected content after JSON"),
        (b"{", "invalid JSON: unexpected EOF"),
        (b'{"a":01}', "invalid JSON: number with leading zero is not allowed: line 1 column 6 (char 5)"),
        (b"\xff", "invalid JSON: str is not valid UTF-8: surrogates not allowed: line 1 column 1 (char 0)"),
    ],
)
def test_wrong_json(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decoded(data)
    assert caught.value.message == said


@pytest.mark.parametrize(
    "path", ["/commit", "/exec/gone/start", "/containers/create", "/containers/gone/update", "/networks/create"]
)
async def test_a_body_is_read_before_what_it_is_for_is_sought(docker: DockerStand, path: str) -> None:
    for data, type_, said in (
        (b"{x", TYPE["Content-Type"], "invalid JSON: invalid character 'x'"),
        (b"[]", TYPE["Content-Type"], "an object is expected"),
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
    ):
        if path == "/commit" and data == b"[]":
            continue  # some clients send lists there
        async with docker.session.post(f"http://docker{path}", data=data, headers={"Content-Type": type_}) as answer:
            assert (answer.status, said in (await answer.json())["message"]) == (400, True), path


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("w=1", 'invalid resize height "": invalid syntax'),
        ("h=1&w=x", 'invalid resize width "x": invalid syntax'),
        ("h=-1&w=1", 'invalid resize height "-1": value out of range'),
        ("h=1&w=4294967296", 'invalid resize width "4294967296": value out of range'),
    ],
)
async def test_sizes_of_terminals(docker: DockerStand, query: str, said: str) -> None:
    for path in ("/containers/gone/resize", "/exec/gone/resize"):
        assert await docker.ask("POST", f"{path}?{query}") == (400, {"message": said})
    assert (await docker.ask("POST", "/exec/gone/resize?h=0&w=65535"))[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "config cannot be empty in order to create a container"),
        ({"HostConfig": {}}, 400, "config cannot be empty in order to create a container"),
        ({"Image": "", "Tty": False}, 400, "no command specified"),
        ({"Cmd": ["true"]}, 400, "no image specified"),
        (SLEEP | {"HostConfig": {"Annotations": {"": "x"}}}, 400, "invalid Annotations: the empty string is not"),
        (SLEEP | {"HostConfig": {"NetworkMode": "container"}}, 400, "invalid container format container:<name|id>"),
        (
            SLEEP | {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "aa80"}]}}},
            400,
            'invalid port specification: "aa80"',
        ),
        (
            SLEEP | {"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -2}}},
            400,
            "maximum retry count cannot be negative",
        ),
        (
            SLEEP | {"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}},
            400,
            "Interval in Healthcheck cannot be less",
        ),
        (
            SLEEP
            | {
                "HostConfig": {
                    "Mounts": [
                        {"Type": "volume", "Target": "/d", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}},
                    ]
                }
            },
            404,
            'error looking up volume plugin nfs: plugin "nfs" not found',
        ),
    ],
)
async def test_containers_that_cannot_be(docker: DockerStand, body: dict[str, Any], status: int, said: str) -> None:
    answer, error = await docker.ask("POST", "/containers/create", body)
    assert (answer, said in error["message"]) == (status, True), error


async def test_several_ports_may_be_chosen_by_the_server(docker: DockerStand) -> None:
    ports: dict[str, list[dict[str, str]]] = {"80/tcp": [{}], "443/tcp": [{"HostPort": ""}], "53/udp": [{}, {}]}
    await create(docker, HostConfig={"PortBindings": ports})
    assert (await docker.ask("POST", "/containers/web1/start"))[0] == 204
    shown = (await docker.get("/containers/web1/json"))["NetworkSettings"]["Ports"]
    numbers = {(port, each["HostPort"]) for port, all_ in shown.items() for each in all_}
    assert {port for port, _ in numbers} == set(ports) and "0" not in {number for _, number in numbers}


async def test_an_end_without_a_beginning_asks_for_all_events_that_are_kept(docker: DockerStand) -> None:
    await docker.get("/containers/json")
    await create(docker)
    until = docker.services.host.clock.now().timestamp()
    for query in (f"until={until}", f"since=0&until={until}"):
        async with docker.session.get(f"http://docker/v1.50/events?{query}") as answer:
            lines = [json.loads(line) for line in (await answer.read()).splitlines()]
        assert "create" in [line["Action"] for line in lines if line["Type"] == "container"], query


async def test_a_container_that_is_removed_after_its_run_can_be_restarted(docker: DockerStand) -> None:
    await create(docker, HostConfig={"AutoRemove": True})
    assert (await docker.ask("POST", "/containers/web1/start"))[0] == 204
    before = (await docker.get("/containers/web1/json"))["State"]["StartedAt"]
    assert (await docker.ask("POST", "/containers/web1/restart?t=0"))[0] == 204
    state = (await docker.get("/containers/web1/json"))["State"]
    assert state["Running"] and state["StartedAt"] >= before


async def test_only_states_ask_for_containers_that_do_not_run(docker: DockerStand) -> None:
    for name in ("one", "two"):
        await create(docker, name)
    for filters in ('{"since":["one"]}', '{"before":["two"]}', '{"exited":["0"]}'):
        assert await docker.get(f"/containers/json?filters={filters}") == [], filters
    found = await docker.get('/containers/json?filters={"name":["two"],"status":["created"]}')
    assert [each["Names"] for each in found] == [["/two"]]


async def test_images_until_several_times(docker: DockerStand) -> None:
    query = '{"until":["1","99999999999"]}'
    assert await docker.get(f"/images/json?filters={query}") == []
    assert len(await docker.get('/images/json?filters={"until":["99999999999","99999999998"]}')) == 1
    status, error = await docker.ask("POST", f"/images/prune?filters={query}")
    assert (status, error["message"]) == (400, "more than one until filter specified")


async def test_roots_and_volumes_that_are_read_only(docker: DockerStand) -> None:
    mounts: list[dict[str, Any]] = [{"Type": "volume", "Source": "data", "Target": "/data"}]
    mounts += [{"Type": "volume", "Source": "kept", "Target": "/data/kept", "ReadOnly": True}]
    await create(docker, HostConfig={"ReadonlyRootfs": True, "Mounts": mounts})
    for path, said in (
        ("/etc", "container rootfs is marked read-only"),
        ("/database", "container rootfs is marked read-only"),
        ("/data/../etc", "container rootfs is marked read-only"),
        ("/data/kept", "mounted volume is marked read-only"),
    ):
        asked = f"/containers/web1/archive?path={path}"
        async with docker.session.put(f"http://docker/v1.50{asked}", data=b"x") as answer:
            assert (answer.status, await answer.json()) == (403, {"message": said}), path
    async with docker.session.put("http://docker/v1.50/containers/web1/archive?path=/data") as answer:
        assert answer.status == 200, "an empty archive, in a volume that may be written to"


def test_build_clients_without_credentials_send_null() -> None:
    assert credentials_in("bnVsbA==") == {}
    with pytest.raises(InvalidInput):
        credentials_in("W10=")


async def test_volumes_of_others_come_before_new_ones(docker: DockerStand) -> None:
    await create(docker, "parent", HostConfig={"Binds": ["data:/test"]})
    await create(docker, "child", HostConfig={"VolumesFrom": ["parent"]}, Volumes={"/test/": {}, "/new": {}})
    mounts = {each["Destination"]: each.get("Name") for each in (await docker.get("/containers/child/json"))["Mounts"]}
    assert mounts["/test"] == "data" and set(mounts) == {"/test", "/new"}
    devices = docker.services.instances.get(Ref.default("child")).devices.values()
    copied = {each["path"] for each in devices if each.get("copy") == "true"}
    assert copied == {"/new"}, "a volume of another container is not filled from this image"


async def test_a_part_of_a_volume_is_not_filled(docker: DockerStand) -> None:
    mounts = [
        {"Type": "volume", "Source": "whole", "Target": "/a"},
        {"Type": "volume", "Source": "parts", "Target": "/b", "VolumeOptions": {"Subpath": "x/y"}},
    ]
    await create(docker, "web1", HostConfig={"Mounts": mounts})
    devices = docker.services.instances.get(Ref.default("web1")).devices.values()
    found = {each["path"]: (each.get("subpath"), each.get("copy")) for each in devices if each.get("pool")}
    assert found == {"/a": (None, "true"), "/b": ("x/y", None)}


async def test_containers_of_the_usual_networks(docker: DockerStand) -> None:
    await create(docker, "alone", HostConfig={"NetworkMode": "none"})
    await create(docker, "web1")

    async def names(*networks: str) -> set[str]:
        found = await docker.get(f"/containers/json?all=1&filters={json.dumps({'network': networks})}")
        return {name for each in found for name in each["Names"]}

    (none,) = [each["Id"] for each in await docker.get("/networks") if each["Name"] == "none"]
    assert await names("none") == await names(none) == {"/alone"} and await names("host") == set()
    assert await names("none", "bridge") == {"/alone", "/web1"}


async def test_parts_of_volumes_are_inside(docker: DockerStand) -> None:
    for subpath in ("/etc", "../x", "a/../../x"):
        mount = {"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": {"Subpath": subpath}}
        status, error = await docker.ask("POST", "/containers/create", SLEEP | {"HostConfig": {"Mounts": [mount]}})
        assert (status, error["message"]) == (400, "subpath must be a relative path within the volume"), subpath


def test_devices_by_links_and_by_directories(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")

    def devices(source: str, target: str) -> dict[str, tuple[str, str]]:
        host = Fields({"Devices": [{"PathOnHost": source, "PathInContainer": target}]})
        return {each["path"]: (each["type"], each["source"]) for each in host_devices(host).values()}

    assert devices(f"{tmp_path}/zero", "/dev/nothing") == {"/dev/nothing": ("unix-char", "/dev/zero")}
    assert devices("/dev/pts", "/dev/mine/")["/dev/mine/ptmx"] == ("unix-char", "/dev/pts/ptmx")
    for wrong, said in (
        ("/dev", "no such"),
        ("/dev/gone", "no such"),
        ("/etc", '"/etc": not a device node'),
        ("zero", "not"),
    ):
        with pytest.raises(InvalidInput, match=said):
            devices(wrong, "/dev/x")
