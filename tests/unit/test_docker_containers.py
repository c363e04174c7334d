"""Containers through the Docker door, over a daemon in memory: requests, texts of errors, and what is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.model.caller import DAEMON
from isola.model.image import Alias
from isola.model.instance import Instance, InstanceUpdate, Status
from isola.model.reference import Ref

SLEEP: dict[str, Any] = {"Image": "tiny", "Cmd": ["sleep", "100"]}


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


MEMORY = {"Type": "tmpfs", "Target": "/m"}


async def create(docker: DockerStand, name: str = "web1", **more: Any) -> str:
    status, body = await docker.ask("POST", f"/containers/create?name={name}", SLEEP | more)
    assert status == 201, body
    assert len(body["Id"]) == 64 and body["Warnings"] == []
    return str(body["Id"])


async def does(docker: DockerStand, method: str, path: str, body: object = None) -> int:
    return (await docker.ask(method, path, body))[0]


async def test_a_container_is_an_instance_with_its_life(docker: DockerStand) -> None:
    id = await create(docker)
    instance = docker.services.instances.get(Ref.default("web1"))
    assert id.startswith(instance.id) and instance.start.command == ("sleep", "100")
    assert (await docker.get("/containers/web1/json"))["State"]["Status"] == "created"
    assert await does(docker, "POST", f"/containers/{id}/start") == 204
    assert await does(docker, "POST", f"/containers/{id[:12]}/start") == 304
    shown = await docker.get(f"/containers/{id[:5]}/json")
    assert shown["State"]["Running"] and shown["Id"] == id and shown["Name"] == "/web1"
    assert (shown["Path"], shown["Args"]) == ("sleep", ["100"])
    assert await does(docker, "POST", "/containers/web1/pause") == 204
    assert await does(docker, "POST", "/containers/web1/unpause") == 204
    assert await does(docker, "POST", "/containers/web1/stop?t=0") == 204
    assert await does(docker, "POST", "/containers/web1/stop") == 304
    assert (await docker.get("/containers/web1/json"))["State"]["Status"] == "exited"
    assert await does(docker, "POST", "/containers/web1/restart?t=0") == 204
    assert await does(docker, "DELETE", "/containers/web1?force=1") == 204
    assert not list(docker.services.instances)


@pytest.mark.parametrize(
    ("asked", "body", "status", "message"),
    [
        ("GET /containers/gone/json", None, 404, "No such container: gone"),
        ("POST /containers/gone/start", None, 404, "No such container: gone"),
        ("POST /containers/create", {"Image": "gone"}, 404, "No such image: gone:latest"),
        (
            "POST /containers/create?name=-x",
            SLEEP,
            400,
            "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        ("POST /containers/gone/wait?condition=never", None, 400, 'invalid condition: "never"'),
        ('GET /containers/json?filters={"nonsense":["x"]}', None, 400, "invalid filter 'nonsense'"),
        (
            'GET /containers/json?filters={"status":["x"]}',
            None,
            400,
            "invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, "
            "restarting, removing, exited, dead",
        ),
        *(
            ("POST /containers/create", {"Image": "tiny", "HostConfig": host}, 400, message)
            for host, message in (
                ({"PidMode": "container:gone"}, "No such container: gone"),
                ({"CgroupnsMode": "mine"}, "invalid cgroup namespace mode: mine"),
                (
                    {"NetworkMode": "container:gone"},
                    "joining network namespace of container: No such container: gone",
                ),
                ({"VolumesFrom": ["gone"]}, "No such container: gone"),
                ({"Runtime": "gone"}, "unknown or invalid runtime name: gone"),
                ({"CapAdd": ["NOPE"]}, 'invalid CapAdd: unknown capability: "CAP_NOPE"'),
                ({"Memory": 1}, "Minimum memory limit allowed is 6MB"),
                ({"OomScoreAdj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
                ({"IpcMode": "x"}, "invalid IPC mode: x"),
                ({"Isolation": "hyperv"}, "invalid isolation (hyperv): linux only supports 'default'"),
                (
                    {"DeviceRequests": [{"Capabilities": [["gpu"]]}]},
                    'could not select device driver "" with capabilities: [[gpu]]',
                ),
                (
                    {"VolumeDriver": "foo", "Binds": ["data:/data"]},
                    'error looking up volume plugin foo: plugin "foo" not found',
                ),
                ({"LogConfig": {"Type": "foo"}}, 'error looking up logging plugin foo: plugin "foo" not found'),
                ({"LogConfig": {"Config": {"mode": "x"}}}, "logger: logging mode not supported: x"),
            )
        ),
        ("POST /containers/gone/kill", None, 404, "cannot kill container: gone: No such container: gone"),
        ("POST /containers/gone/kill?signal=0", None, 400, "cannot kill container: gone: invalid signal: 0"),
        ("POST /containers/gone/kill?signal=NO", None, 400, "cannot kill container: gone: invalid signal: NO"),
        ("GET /containers/json?limit=x", None, 400, "invalid value for limit: 'x' is not an integer"),
    ],
)
async def test_errors_are_those_of_docker(
    docker: DockerStand, asked: str, body: Any, status: int, message: str
) -> None:
    assert await docker.ask(asked.partition(" ")[0], asked.partition(" ")[2], body) == (status, {"message": message})


async def test_conflicts_name_the_container(docker: DockerStand) -> None:
    id = await create(docker)
    status, body = await docker.ask("POST", "/containers/create?name=web1", SLEEP)
    assert (status, body["message"]) == (
        409,
        f'Conflict. The container name "/web1" is already in use by container "{id}". You have to remove (or rename) '
        "that container to be able to reuse that name.",
    )
    status, body = await docker.ask("POST", "/containers/web1/kill")
    assert (status, body["message"]) == (409, f"cannot kill container: web1: container {id} is not running")
    await does(docker, "POST", "/containers/web1/start")
    status, body = await docker.ask("DELETE", "/containers/web1")
    assert (status, body["message"]) == (
        409,
        'cannot remove container "web1": container is running: stop the container before removing or force remove',
    )
    status, body = await docker.ask("POST", "/containers/web1/unpause")
    assert (status, body["message"]) == (409, f"Container {id} is not paused")


async def test_fields_become_keys_and_devices_and_are_shown_again(docker: DockerStand) -> None:
    host = {
        "Memory": 64 * 2**20,
        "CapAdd": ["CAP_NET_ADMIN"],
        "CapDrop": ["ALL"],
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        "Sysctls": {"net.core.somaxconn": "77"},
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "Tmpfs": {"/scratch": "size=1m,mode=700"},
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
        "ShmSize": 0,
        "AutoRemove": True,
    }
    labels = {"a.b": "c", "bare": ""}
    await create(docker, HostConfig=host, Labels=labels, Env=["A=1", "B="], Hostname="box", ExposedPorts={"53/udp": {}})
    instance = docker.services.instances.get(Ref.default("web1"))
    config = instance.config
    assert config["limits.memory"] == str(64 * 2**20) and config["user.a.b"] == "c"
    assert (config["isola.capabilities.add"], config["isola.capabilities.drop"]) == ("NET_ADMIN", "ALL")
    assert (config["limits.kernel.nofile"], config["linux.sysctl.net.core.somaxconn"]) == ("10:20", "77")
    assert (config["isola.no_new_privileges"], config["isola.init"], config["isola.hostname"]) == (
        "true",
        "true",
        "box",
    )
    assert config["environment.A"] == "1" and config["isola.shm.size"] == str(64 * 2**20) and instance.ephemeral
    (tmpfs,) = (device for device in instance.devices.values() if device["type"] == "disk")
    assert (tmpfs["path"], tmpfs["size"], tmpfs["mode"]) == ("/scratch", str(2**20), "700")
    assert tmpfs["raw.mount.options"] == "noexec"
    shown = await docker.get("/containers/web1/json")
    for name in ("Memory", "CapAdd", "CapDrop", "Ulimits", "Sysctls", "Init", "PortBindings", "AutoRemove"):
        assert shown["HostConfig"][name] == host[name], name
    assert shown["Config"]["Labels"] == labels and shown["Config"]["ExposedPorts"] == {"53/udp": {}}
    assert shown["Config"]["Image"] == "tiny" and "A=1" in shown["Config"]["Env"]


@pytest.mark.parametrize(
    "host",
    [
        {"PidMode": "nonsense"},
        {"UsernsMode": "mine"},
        {"DeviceRequests": [{"Count": -1}]},
        {"Binds": ["/a:relative"]},
        {"Binds": ["/a:/"]},
        {"Binds": ["a/b:/x"]},
        {"PortBindings": {"80/x": [{}]}},
        {"Mounts": [{"Type": "npipe", "Target": "/x"}]},
        {"SecurityOpt": ["apparmor=mine"]},
        {"Memory": 1000},
        {"Memory": "64m"},
    ],
)
async def test_what_is_not_offered_or_wrong_is_refused_and_leaves_nothing(docker: DockerStand, host: Any) -> None:
    status, body = await docker.ask("POST", "/containers/create?name=web1", SLEEP | {"HostConfig": host})
    assert status == 400 and body["message"]
    assert not list(docker.services.instances) and not list(docker.services.volumes)


async def test_links_are_further_names_in_the_hosts_file(docker: DockerStand) -> None:
    other = docker.services.instances.get
    await create(docker, "db")
    networks = {"EndpointsConfig": {"bridge": {"Links": ["/db", "db:database"]}}}
    host = {"Links": ["db:database"], "ExtraHosts": ["x:192.0.2.7"]}
    await create(docker, HostConfig=host, NetworkingConfig=networks)
    db = other(Ref.default("db"))
    assert other(Ref.default("web1")).config["isola.hosts"] == (
        f"x=192.0.2.7,database=container:{db.id},db=container:{db.id}"
    )
    shown = (await docker.get("/containers/web1/json"))["HostConfig"]
    assert shown["Links"] == ["/db:/web1/database", "/db:/web1/db"] and shown["ExtraHosts"] == ["x:192.0.2.7"]
    for link, message in (
        ("gone:x", "could not get container for gone: No such container: gone"),
        ("a/b", "invalid link: a/b"),
    ):
        body = SLEEP | {"HostConfig": {"Links": [link]}}
        status, answer = await docker.ask("POST", "/containers/create", body)
        assert (status, answer["message"]) == (400, message)


async def test_a_container_with_a_link_is_started_after_the_other(docker: DockerStand) -> None:
    await create(docker, "db")
    await create(docker, HostConfig={"Links": ["/db:/web1/database"]})
    status, answer = await docker.ask("POST", "/containers/web1/start")
    said = "Cannot link to a non running container: /db AS /web1/database"
    assert (status, answer["message"]) == (500, said)
    await create(docker, "alone", HostConfig={"Links": ["db:database"], "NetworkMode": "none"})
    for name in ("alone", "db", "web1"):
        assert await does(docker, "POST", f"/containers/{name}/start") == 204


@pytest.mark.parametrize(
    ("host", "key"), [({"Privileged": True}, "isola.privileged"), ({"UsernsMode": "host"}, "security.privileged")]
)
async def test_privileges_need_permission_of_the_server(docker: DockerStand, host: Any, key: str) -> None:
    status, body = await docker.ask("POST", "/containers/create?name=web1", SLEEP | {"HostConfig": host})
    assert status == 403 and "gives access to the host" in body["message"]
    await docker.services.server.update(lambda config: {**config, "security.privileged": "true"})
    await create(docker, HostConfig=host)
    assert docker.services.instances.get(Ref.default("web1")).config[key] == "true"
    shown = await docker.get("/containers/web1/json")
    assert {name: shown["HostConfig"][name] for name in host} == host and shown["HostConfig"]["CapAdd"] is None
    bare = key == "isola.privileged"
    assert all((shown["HostConfig"][name] is None) == bare for name in ("MaskedPaths", "ReadonlyPaths"))


async def test_a_missing_source_is_not_a_missing_image(docker: DockerStand) -> None:
    mount = {"Type": "bind", "Source": "/no/such", "Target": "/data"}
    status, body = await docker.ask("POST", "/containers/create", SLEEP | {"HostConfig": {"Mounts": [mount]}})
    text = 'invalid mount config for type "bind": bind source path does not exist: /no/such'
    assert (status, body["message"].partition(" (")[0]) == (400, text)


async def test_volumes_are_created_with_the_container_and_own_ones_removed(docker: DockerStand) -> None:
    await create(docker, HostConfig={"Binds": ["data:/data:ro"]}, Volumes={"/own": {}})
    names = {record.name for record in docker.services.volumes}
    assert "data" in names and len(names) == 2
    shown = await docker.get("/containers/web1/json")
    assert {(each["Destination"], each["RW"]) for each in shown["Mounts"]} == {("/data", False), ("/own", True)}
    assert await does(docker, "DELETE", "/containers/web1?v=1") == 204
    assert [record.name for record in docker.services.volumes] == ["data"]


async def test_lists_are_filtered(docker: DockerStand) -> None:
    await create(docker, "web1", Labels={"tier": "front"})
    await create(docker, "web2")
    await does(docker, "POST", "/containers/web2/start")

    async def names(query: str) -> list[str]:
        return [each["Names"][0] for each in await docker.get(f"/containers/json{query}")]

    assert await names("") == ["/web2"]
    assert sorted(await names("?all=1")) == ["/web1", "/web2"]
    for filters, expected in {
        '{"label":["tier=front"]}': ["/web1"],
        '{"label":{"tier":true}}': ["/web1"],
        '{"label":["tier=back"]}': [],
        '{"name":["^/web2$"]}': ["/web2"],
        '{"name":["eb"]}': ["/web1", "/web2"],
        '{"status":["created"]}': ["/web1"],
        '{"status":["running","created"]}': ["/web1", "/web2"],
        '{"ancestor":["tiny"]}': ["/web1", "/web2"],
        '{"ancestor":["other"]}': [],
        '{"before":["web2"]}': [],
        '{"is-task":["true"]}': [],
        '{"health":["none"]}': ["/web1", "/web2"],
        '{"exited":["0"]}': [],
    }.items():
        assert sorted(await names(f"?all=1&filters={filters}")) == expected, filters


async def test_containers_of_other_doors_are_shown_too(docker: DockerStand) -> None:
    await docker.rest.create("plain", start=True)
    [line] = await docker.get("/containers/json")
    assert (line["Names"], line["Image"], line["State"]) == (["/plain"], "tiny:latest", "running")
    shown = await docker.get("/containers/plain/json")
    assert shown["Config"]["Image"] == "tiny:latest" and shown["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert docker.services.instances.status(docker.services.instances.get(Ref.default("plain"))) is Status.RUNNING


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"NanoCpus": 10**12}, 400, "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        ({"NanoCpus": -1}, 400, "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, 400, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"NanoCpus": 10**9, "CpuPeriod": 5000}, 400, "Conflicting options: Nano CPUs and CPU Period cannot both be"),
        ({"CpuQuota": 10}, 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (
            {"CpuPeriod": 10},
            400,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"CpuShares": -1}, 400, "invalid CPU shares (-1): value must be a positive integer"),
        ({"CpusetCpus": "0-9"}, 400, "Requested CPUs are not available - requested 0-9, available: 0-3"),
        ({"CpusetCpus": "x"}, 400, "Invalid value x for cpuset cpus"),
        ({"CpusetMems": "x"}, 400, "Invalid value x for cpuset mems"),
        ({"BlkioWeight": 5}, 400, "Range of blkio weight is from 10 to 1000"),
        ({"MemorySwappiness": 101}, 400, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ({"Memory": -1}, 400, "Minimum memory limit allowed is 6MB"),
        ({"CpusetMems": "9"}, 400, "Requested memory nodes are not available - requested 9, available: 0"),
        ({"MemoryReservation": 5}, 400, "Minimum memory reservation allowed is 6MB"),
        ({"Memory": 2**23, "MemoryReservation": 2**24}, 400, "Minimum memory limit can not be less than memory res"),
        ({"Memory": 2**24, "MemorySwap": 2**23}, 400, "Minimum memoryswap limit should be larger than memory limit"),
    ],
)
async def test_resources_that_cannot_be_given_are_refused_as_docker_does(
    docker: DockerStand, asked: dict[str, Any], status: int, said: str
) -> None:
    found, body = await docker.ask("POST", "/containers/create", {"Image": "tiny", "Cmd": ["x"], "HostConfig": asked})
    assert (found, body["message"][: len(said)]) == (status, said)
    await create(docker)
    found, body = await docker.ask("POST", "/containers/web1/update", asked)
    assert (found, body["message"][: len(said)]) == (status, said)


async def test_updates_of_memory_and_swap_fit_together(docker: DockerStand) -> None:
    await create(docker, HostConfig={"Memory": 2**26, "MemorySwap": 2**27})

    async def update(**asked: int) -> tuple[int, str]:
        status, body = await docker.ask("POST", "/containers/web1/update", asked)
        return status, body.get("message", "")

    async def limits() -> tuple[int, int]:
        host = (await docker.get("/containers/web1/json"))["HostConfig"]
        return host["Memory"], host["MemorySwap"]

    status, said = await update(Memory=2**28)
    assert status == 409 and said.endswith(
        ": Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    )
    assert said.startswith("Cannot update container ") and await limits() == (2**26, 2**27)
    assert (await update(MemorySwap=2**25))[0] == 400 and await limits() == (2**26, 2**27)
    assert (await update(Memory=2**25))[0] == 200 and await limits() == (2**25, 2**27)
    assert (await update(MemorySwap=2**28))[0] == 200 and await limits() == (2**25, 2**28)
    assert (await update(Memory=2**26, MemorySwap=2**26))[0] == 200 and await limits() == (2**26, 2**26)
    assert (await update(MemorySwap=-1))[0] == 200 and await limits() == (2**26, -1)


async def test_updates_of_cpu_time_keep_its_other_half(docker: DockerStand) -> None:
    await create(docker, HostConfig={"CpuQuota": 20_000, "CpuPeriod": 50_000})

    async def update(**asked: int) -> tuple[int, str]:
        status, body = await docker.ask("POST", "/containers/web1/update", asked)
        return status, body.get("message", "")

    async def times() -> tuple[int, int, int]:
        host = (await docker.get("/containers/web1/json"))["HostConfig"]
        return host["NanoCpus"], host["CpuQuota"], host["CpuPeriod"]

    assert await times() == (0, 20_000, 50_000)
    assert (await update(CpuQuota=30_000))[0] == 200 and await times() == (0, 30_000, 50_000)
    assert (await update(CpuPeriod=100_000))[0] == 200 and await times() == (0, 30_000, 100_000)
    status, said = await update(NanoCpus=10**9)
    assert status == 409 and "Nano CPUs cannot be updated as CPU Period has already been set" in said
    assert (await update(CpuQuota=-1))[0] == 200 and (await times())[:2] == (0, 0)
    assert (await update(NanoCpus=10**9))[0] == 200 and (await times())[:2] == (10**9, 0)
    status, said = await update(CpuQuota=5000)
    assert status == 409 and "CPU Quota cannot be updated as NanoCPUs has already been set" in said


async def test_file_systems_in_memory_are_as_large_as_the_kernel_makes_them(docker: DockerStand) -> None:
    sizes = {"/a": "", "/b": "size=5k", "/c": "size=25%", "/d": "size=0", "/e": "size=3m,mode=700"}
    least = {"Type": "tmpfs", "Target": "/n", "TmpfsOptions": {"SizeBytes": 1}}
    await create(docker, HostConfig={"Tmpfs": sizes, "Mounts": [MEMORY, least]})
    devices = docker.services.instances.get(Ref.default("web1")).devices.values()
    found = {each["path"]: int(each["size"]) for each in devices if each.get("source") == "tmpfs:"}
    host = docker.services.host.system.memory()["MemTotal"]
    assert found == {
        "/a": host // 2, "/b": 2**16, "/c": host // 4, "/d": host, "/e": 3 * 2**20, "/m": host // 2, "/n": 2**16
    }  # fmt: skip


async def test_a_console_has_the_size_of_the_client_s_terminal(docker: DockerStand) -> None:
    await create(docker, Tty=True, HostConfig={"ConsoleSize": [57, 123]})
    await docker.ask("POST", "/containers/web1/start")
    assert docker.rest.world.on_host("web1").spec.console == (123, 57)
    assert (await docker.get("/containers/web1/json"))["HostConfig"]["ConsoleSize"] == [57, 123]
    for unknown in ([0, 0], [57], []):
        await create(docker, name := f"web{len(unknown) + 5}", Tty=True, HostConfig={"ConsoleSize": unknown})
        assert "isola.terminal.size" not in docker.services.instances.get(Ref.default(name)).config


async def test_working_directories_are_shown_in_their_shortest_form(docker: DockerStand) -> None:
    await create(docker, WorkingDir="/tmp/./a/../")
    assert (await docker.get("/containers/web1/json"))["Config"]["WorkingDir"] == "/tmp"


async def test_programs_in_memory_are_executed_only_if_that_is_asked_for(docker: DockerStand) -> None:
    await create(docker, HostConfig={"Tmpfs": {"/a": "", "/b": "exec", "/c": "ro"}, "Mounts": [MEMORY]})
    devices = docker.services.instances.get(Ref.default("web1")).devices.values()
    options = {each["path"]: each["raw.mount.options"] for each in devices if each.get("source") == "tmpfs:"}
    assert options == {"/a": "noexec", "/b": "exec", "/c": "ro,noexec", "/m": "noexec"}
    for wrong, said in (
        ({"Source": "/x"}, 'invalid mount config for type "tmpfs": field Source must not be specified'),
        (
            {"Target": "m"},
            "invalid mount config for type \"tmpfs\": invalid mount path: 'm' mount path must be absolute",
        ),
    ):
        body = SLEEP | {"HostConfig": {"Mounts": [MEMORY | wrong]}}
        assert await docker.ask("POST", "/containers/create", body) == (400, {"message": said})


async def test_inspect_shows_what_was_asked_for_in_its_order(docker: DockerStand) -> None:
    check = {"Test": ["CMD", "true"], "Interval": 5 * 10**9}
    wanted = {
        "Binds": ["vol2:/z", "vol1:/b"],
        "Tmpfs": {"/run": ""},
        "Mounts": [{"Type": "tmpfs", "Target": "/m"}, {"Type": "volume", "Source": "vol3", "Target": "/q"}],
        "PublishAllPorts": True,
        "PidsLimit": 0,
        "MemorySwappiness": -1,
        "Memory": 2**26,
    }
    await create(
        docker,
        HostConfig=wanted,
        Volumes={"/own": {}},
        ExposedPorts={"90/tcp": {}},
        Healthcheck=check,
        StopSignal="SIGTERM",
    )
    shown = await docker.get("/containers/web1/json")
    host_config = shown["HostConfig"]
    assert host_config["Binds"] == ["vol2:/z", "vol1:/b"]
    assert host_config["PortBindings"] == {} and host_config["MemorySwap"] == 2**26
    assert host_config["PidsLimit"] is None and host_config["MemorySwappiness"] is None
    assert (shown["Config"]["Healthcheck"], shown["Config"]["StopSignal"]) == (check, "SIGTERM")
    mounts = {each["Destination"]: each for each in shown["Mounts"]}
    assert sorted(mounts) == ["/b", "/m", "/own", "/q", "/z"]
    assert mounts["/b"]["Source"] == (await docker.get("/volumes/vol1"))["Mountpoint"] and mounts["/m"]["Source"] == ""


async def test_limits_are_changed_and_containers_renamed(docker: DockerStand) -> None:
    await create(docker)
    assert await does(docker, "POST", "/containers/web1/update", {"Memory": 2**27}) == 200
    assert (await docker.get("/containers/web1/json"))["HostConfig"]["Memory"] == 2**27
    assert await does(docker, "POST", "/containers/web1/rename?name=web2") == 204
    assert await does(docker, "GET", "/containers/web2/json") == 200
    id = (await docker.get("/containers/web2/json"))["Id"]
    pruned = await docker.get_after("POST", "/containers/prune")
    assert pruned["ContainersDeleted"] == [id] and not list(docker.services.instances)


async def test_rates_of_disks_are_keys_and_shown_again(docker: DockerStand) -> None:
    asked = {
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 2**20}, {"Path": "/dev/sdb", "Rate": 7}],
        "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 100}],
        "BlkioWeight": 300,
    }
    await create(docker, HostConfig=asked)
    config = docker.services.instances.get(Ref.default("web1")).config
    assert config["isola.limits.disk.read_bps"] == "/dev/sda:1048576,/dev/sdb:7"
    assert (config["isola.limits.disk.write_iops"], config["isola.limits.disk.weight"]) == ("/dev/sda:100", "300")
    shown = (await docker.get("/containers/web1/json"))["HostConfig"]
    assert {name: shown[name] for name in asked} == asked and shown["BlkioDeviceWriteBps"] is None
    for wrong in (
        {"Path": "sda", "Rate": 5},
        {"Path": "/dev/../x", "Rate": 5},
        {"Path": "/dev/sda", "Rate": 0},
        {"Path": "/etc/x", "Rate": 5},
    ):
        body = {"Image": "tiny", "Cmd": ["x"], "HostConfig": {"BlkioDeviceReadBps": [wrong]}}
        assert (await docker.ask("POST", "/containers/create", body))[0] == 400


async def test_short_names_mean_aliases_only_where_the_server_says_so(docker: DockerStand) -> None:
    (image,) = docker.services.images
    await docker.services.images.add_alias(Alias("debian/12", image.fingerprint))
    body = {"Image": "debian:12", "Cmd": ["x"]}
    status, said = await docker.ask("POST", "/containers/create", body)
    assert (status, said["message"]) == (404, "No such image: debian:12")
    await docker.services.server.update(lambda config: {**config, "images.short_names": "aliases"})
    assert (await docker.ask("POST", "/containers/create?name=short", body))[0] == 201
    assert docker.services.instances.get(Ref.default("short")).image == image.fingerprint
    for other in ("debian:13", "team/debian:12", "debian"):
        assert (await docker.ask("POST", "/containers/create", body | {"Image": other}))[0] == 404


async def test_links_are_removed_alone(docker: DockerStand) -> None:
    await create(docker, "db")
    await create(docker, HostConfig={"Links": ["db:database", "db:cache"], "ExtraHosts": ["x:192.0.2.1"]})
    assert (await docker.ask("DELETE", "/containers/web1/cache"))[0] == 404
    assert (await docker.ask("DELETE", "/containers/web1/nosuch?link=1"))[0] == 404
    assert (await docker.ask("DELETE", "/containers/web1/cache?link=1"))[0] == 204
    shown = (await docker.get("/containers/web1/json"))["HostConfig"]
    assert shown["Links"] == ["/db:/web1/database"] and shown["ExtraHosts"] == ["x:192.0.2.1"]
    assert (await docker.ask("GET", "/containers/db/json"))[0] == 200


async def test_sizes_of_roots_need_a_pool_with_quotas(docker: DockerStand) -> None:
    for options, said in (
        ({"foo": "1"}, "Unknown option foo"),
        ({"size": "much"}, "invalid size: 'much'"),
        ({"size": "1.5G"}, "--storage-opt is supported only for pools with quotas: "),
    ):
        body = {"Image": "tiny", "Cmd": ["x"], "HostConfig": {"StorageOpt": options, "ReadonlyRootfs": True}}
        status, answer = await docker.ask("POST", "/containers/create", body)
        assert status == 400 and answer["message"].startswith(said)
    assert not list(docker.services.instances)


async def test_binds_and_init_are_shown_as_the_client_said_them(docker: DockerStand) -> None:
    binds = ["data:/data:rw", "kept:/kept/:ro,nocopy"]
    await create(docker, HostConfig={"Binds": binds, "Init": False})
    shown = (await docker.get("/containers/web1/json"))["HostConfig"]
    assert (shown["Binds"], shown["Init"]) == (binds, False)
    await create(docker, "web2", HostConfig={"Binds": None})
    assert "Init" not in (await docker.get("/containers/web2/json"))["HostConfig"]


async def test_what_was_changed_since_is_shown_as_it_is(docker: DockerStand) -> None:
    await create(docker, HostConfig={"Binds": ["data:/data:rw"]})
    ref = Ref.default("web1")

    def without_writing(instance: Instance) -> InstanceUpdate:
        devices = {
            name: {**device, "readonly": "true"} if device.get("path") == "/data" else device
            for name, device in instance.devices.items()
        }
        return InstanceUpdate(
            config={**instance.config, "isola.init": "true"},
            devices=devices,
            profiles=instance.profiles,
            description="",
            ephemeral=False,
            architecture=instance.architecture,
        )

    await docker.services.operations.finish(docker.services.instances.update(ref, without_writing, caller=DAEMON))
    shown = (await docker.get("/containers/web1/json"))["HostConfig"]
    assert (shown["Binds"], shown["Init"]) == (["data:/data:ro"], True)


async def test_lists_have_names_by_links_and_modes_are_as_they_were_given(docker: DockerStand) -> None:
    await create(docker)
    binds = ["data:/a:Z", "data:/b:ro", "data:/c", "data:/d:z,ro"]
    await create(docker, "web2", HostConfig={"Links": ["web1:db"], "Binds": binds})
    listed = {each["Names"][0]: each for each in await docker.get("/containers/json?all=1")}
    assert (listed["/web1"]["Names"], listed["/web2"]["Names"]) == (["/web1", "/web2/db"], ["/web2"])
    modes = {each["Destination"]: each["Mode"] for each in listed["/web2"]["Mounts"]}
    assert modes == {"/a": "Z", "/b": "ro", "/c": "z", "/d": "z,ro"}


async def test_lists_have_the_id_of_an_image_whose_name_is_gone(docker: DockerStand) -> None:
    await create(docker)
    [before] = await docker.get("/containers/json?all=1")
    name = before["Image"]
    assert (await docker.ask("POST", f"/images/{name}/tag?repo=other&tag=1"))[0] == 201
    assert (await docker.ask("DELETE", f"/images/{name}"))[0] == 200
    [after] = await docker.get("/containers/json?all=1")
    assert after["Image"] == after["ImageID"] == before["ImageID"]
