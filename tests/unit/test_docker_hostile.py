"""Values of wrong kinds, huge and malformed ones, in every key of bodies and queries: no internal error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

import pytest
from docker_door import DockerStand, docker_standing

VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\0", "a\nb", "é" * 50, "x" * 70_000, [], [None], [1], ["x"], [[]],
    [{}], {}, {"x": None}, {"x": 1}, {"x": "y"}, {"x": []}, {"x": {}}, {"": ""}, ["\0"], ["a=b\nc"], {"a\0": "b"},
    {"x": [{"HostPort": -1}]}, {"80/tcp": [{"HostPort": "99999999999999999999"}]}, {"Driver": 1}, {"Config": [1]},
    {"Config": [{"Subnet": "::/0"}]},
]  # fmt: skip
TEXTS = [
    "-1", "0", "99999999999999999999999", "1e400", "abc", "", "\0", "\n", "true", "nan", "-inf", "0x10", "１", "[]",
    '{"a":', '{"label":1}', '{"label":{"a":1}}', '{"status":["x"]}', '{"a":' * 2000, "x" * 7000, "../../etc",
]  # fmt: skip
CONFIG = (
    "Hostname Domainname User ExposedPorts Tty OpenStdin StdinOnce Env Cmd Healthcheck Image Volumes WorkingDir "
    "Entrypoint NetworkDisabled MacAddress OnBuild Labels StopSignal StopTimeout Shell HostConfig NetworkingConfig"
)
HOST_CONFIG = (
    "CpuShares Memory CgroupParent BlkioWeight BlkioWeightDevice CpuPeriod CpuQuota CpuRealtimePeriod CpusetCpus "
    "CpusetMems Devices DeviceCgroupRules DeviceRequests KernelMemory MemoryReservation MemorySwap MemorySwappiness "
    "NanoCpus OomKillDisable Init PidsLimit Ulimits Binds LogConfig NetworkMode PortBindings RestartPolicy AutoRemove "
    "VolumeDriver VolumesFrom Mounts ConsoleSize Annotations CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch "
    "ExtraHosts GroupAdd IpcMode Links OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt "
    "StorageOpt Tmpfs UTSMode UsernsMode ShmSize Sysctls Runtime Isolation MaskedPaths ReadonlyPaths"
)
BODIES = {
    "/containers/web1/exec": "User Tty Privileged AttachStdin DetachKeys ConsoleSize Env WorkingDir Cmd",
    "/containers/web1/update": "CpuShares Memory CpuQuota CpusetCpus NanoCpus PidsLimit RestartPolicy Ulimits",
    "/networks/create": "Name Driver Scope Internal Attachable Ingress ConfigFrom IPAM EnableIPv6 Options Labels",
    "/networks/bridge/connect": "Container EndpointConfig",
    "/networks/bridge/disconnect": "Container Force",
    "/volumes/create": "Name Driver DriverOpts Labels ClusterVolumeSpec",
    "/commit?container=web1": "Config Hostname Env Labels Cmd ExposedPorts Volumes OnBuild Healthcheck",
}
QUERIES = {
    "GET /containers/json": "all limit size filters",
    "GET /containers/web1/logs?stdout=1": "since until tail timestamps details",
    "GET /containers/web1/json": "size",
    "GET /containers/web1/top": "ps_args",
    "GET /containers/web1/archive": "path",
    "POST /containers/web1/resize": "h w",
    "POST /containers/web1/rename": "name",
    "POST /containers/gone/kill": "signal",
    "POST /containers/gone/stop": "t signal",
    "POST /containers/gone/wait": "condition",
    "GET /events?until=1": "since filters",
    "GET /images/json": "all filters digests shared-size",
    "GET /images/get": "names platform",
    "POST /images/tiny/tag": "repo tag",
    "POST /images/create": "fromSrc",
    "POST /build": (
        "t dockerfile remote q nocache rm memory memswap cpushares cpusetcpus cpuperiod cpuquota buildargs shmsize "
        "labels networkmode platform target outputs version"
    ),
    "GET /networks": "filters",
    "GET /volumes": "filters",
    "GET /system/df": "type",
}


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        assert (await made.ask("POST", "/containers/create?name=web1", {"Image": "tiny"}))[0] == 201
        yield made


async def refused_or_done(docker: DockerStand, method: str, path: str, body: object = None) -> Any:
    status, answer = await docker.ask(method, path, body)
    assert status < 500 or status in (501, 503), f"{method} {path[:200]} {str(body)[:200]}: {status} {answer}"
    return answer if status == 201 else None


async def remove_all(docker: DockerStand, before: Iterable[str]) -> None:
    """Whatever could be created can be shown and removed."""
    for each in await docker.get("/containers/json?all=1"):
        if each["Id"] not in before:
            await docker.get(f"/containers/{each['Id']}/json")
            assert (await docker.ask("DELETE", f"/containers/{each['Id']}?v=1"))[0] == 204
    for volume in (await docker.get("/volumes"))["Volumes"] or ():
        assert (await docker.ask("DELETE", f"/volumes/{volume['Name']}"))[0] == 204


@pytest.mark.parametrize("key", [*CONFIG.split(), *(f"HostConfig.{key}" for key in HOST_CONFIG.split())])
async def test_keys_of_a_container(docker: DockerStand, key: str) -> None:
    before = {each["Id"] for each in await docker.get("/containers/json?all=1")}
    for value in VALUES:
        outer, _, inner = key.partition(".")
        given = {outer: {inner: value} if inner else value}
        await refused_or_done(docker, "POST", "/containers/create", {"Image": "tiny", "Cmd": ["true"], **given})
    await remove_all(docker, before)


@pytest.mark.parametrize("path", BODIES)
async def test_keys_of_other_bodies(docker: DockerStand, path: str) -> None:
    usual = {"Name": "made", "Cmd": ["true"], "Container": "web1"}
    for key in BODIES[path].split():
        for value in VALUES:
            made = await refused_or_done(docker, "POST", path, {**usual, key: value})
            if made and path == "/networks/create":
                assert (await docker.ask("DELETE", f"/networks/{made['Id']}"))[0] == 204


@pytest.mark.parametrize("asked", QUERIES)
async def test_values_of_a_query(docker: DockerStand, asked: str) -> None:
    method, path = asked.split(" ")
    for key in QUERIES[asked].split():
        for text in TEXTS:
            joint = "&" if "?" in path else "?"
            await refused_or_done(docker, method, f"{path}{joint}{key}={quote(text)}")


@pytest.mark.parametrize("path", ["/containers/create", *BODIES, "/auth"])
async def test_bodies_that_are_no_objects(docker: DockerStand, path: str) -> None:
    bodies = [
        b"", b"null", b"1", b'"x"', b"[]", b"{", b'{"a":' * 100_000, b"[" * 1_000_000, b"\xff\xfe", b'{"a":"\xff"}',
        b'{"a":"\\ud800"}', b"NaN", b'{"x":1e999}', b" " * 3_000_000,
        json.dumps({"Labels": {f"k{number}": "v" for number in range(50_000)}}).encode(),
        json.dumps({"Env": [f"k{number}=v" for number in range(50_000)]}).encode(),
    ]  # fmt: skip
    for body in bodies if path != "/auth" else bodies[5:-2]:
        headers = {"Content-Type": "application/json"}
        status, answer = await docker.ask("POST", path, data=body, headers=headers)
        assert 200 <= status < 500, f"{body[:50]!r}: {status} {answer}"
