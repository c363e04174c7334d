"""Fields, parameters and status codes of the Docker Engine API as its versions document them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.build_records import Record, chosen, expression
from isola.doors.docker.containers.refused import refuse
from isola.doors.docker.images.counting import shared_sizes
from isola.doors.docker.routes.build import bytes_kept
from isola.doors.docker.versions import NEWEST
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, Unsupported
from isola.model.reference import Ref

BODY: dict[str, Any] = {"Image": "tiny", "Cmd": ["sleep", "100"]}

WARNING = (
    "The requested image's platform (linux/amd64) does not match the detected host platform (linux/arm64) and no "
    "specific platform was requested"
)


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


async def at(docker: DockerStand, version: str, path: str) -> Any:
    async with docker.session.get(f"http://docker/v{version}{path}") as answer:
        assert answer.status == 200
        return await answer.json()


async def create(docker: DockerStand, **more: Any) -> None:
    status, body = await docker.ask("POST", "/containers/create?name=web1", BODY | more)
    assert status == 201, body


async def test_what_the_server_says_of_itself_follows_the_version(docker: DockerStand) -> None:
    new, middle, old = [await at(docker, version, "/info") for version in ("1.51", "1.49", "1.48")]
    assert new["FirewallBackend"] == {"Driver": "nftables"} and "FirewallBackend" not in old
    assert new["RuncCommit"] == {"ID": ""} and old["RuncCommit"] == {"ID": "", "Expected": ""}
    registries = old["RegistryConfig"].keys() - new["RegistryConfig"].keys()
    assert registries == {"AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"}
    assert middle["BridgeNfIptables"] and "BridgeNfIptables" not in new
    assert new["GenericResources"] is None
    assert (await at(docker, "1.51", "/version"))["Experimental"] is True


async def test_volumes_of_a_cluster_need_a_swarm(docker: DockerStand) -> None:
    status, body = await docker.ask("PUT", "/volumes/data?version=1", {})
    assert (status, "not a swarm manager" in body["message"]) == (503, True)


async def test_lists_of_images_count_the_containers(docker: DockerStand) -> None:
    await create(docker)
    counts = [(await at(docker, version, "/images/json"))[0]["Containers"] for version in ("1.51", "1.50")]
    assert counts == [1, -1]
    [shown] = await at(docker, "1.51", "/images/json?shared-size=1")
    assert (shown["Containers"], shown["SharedSize"]) == (1, 0)
    assert (await docker.get("/images/json"))[0]["SharedSize"] == -1
    assert (await docker.get("/system/df?type=image"))["Images"][0]["Containers"] == 1


async def test_layers_of_several_images_are_shared(docker: DockerStand) -> None:
    await create(docker)
    assert (await docker.ask("POST", "/commit?container=web1&repo=mine"))[0] == 201
    images = list(docker.services.images)
    base = docker.services.images.resolve(Ref.default("tiny"))
    assert base is not None and base.layers
    assert set(shared_sizes(images).values()) == {sum(layer.size for layer in base.layers)}
    assert set(shared_sizes(images[:1]).values()) == {0}


async def test_two_ways_to_choose_a_platform_conflict(docker: DockerStand) -> None:
    status, body = await docker.ask("GET", "/images/tiny/json", params={"manifests": "1", "platform": "{}"})
    assert status == 400
    assert body == {"message": "conflicting options: manifests and platform options cannot both be set"}


async def test_one_value_of_statistics_is_no_stream(docker: DockerStand) -> None:
    await create(docker)
    status, body = await docker.ask("GET", "/containers/web1/stats?one-shot=1")
    assert (status, body) == (400, {"message": "cannot have stream=true and one-shot=true"})
    assert (await docker.ask("GET", "/containers/web1/stats?stream=0&one-shot=1"))[0] == 200


async def test_a_program_without_a_terminal_can_be_resized(docker: DockerStand) -> None:
    await create(docker)
    await docker.ask("POST", "/containers/web1/start")
    assert (await docker.ask("POST", "/containers/web1/resize?h=10&w=20"))[0] == 200


async def test_containers_have_their_annotations_and_the_manifest_of_their_image(docker: DockerStand) -> None:
    await create(docker, HostConfig={"Annotations": {"org.example": "1"}})
    new, old = [await at(docker, version, "/containers/web1/json") for version in ("1.51", "1.47")]
    listed, before = [(await at(docker, version, "/containers/json?all=1"))[0] for version in ("1.51", "1.45")]
    image = await docker.get("/images/tiny/json")
    assert new["ImageManifestDescriptor"] == listed["ImageManifestDescriptor"] == image["Descriptor"]
    assert "ImageManifestDescriptor" not in {**old, **before}
    assert new["HostConfig"]["Annotations"] == listed["HostConfig"]["Annotations"] == {"org.example": "1"}
    assert "Annotations" not in before["HostConfig"] and image["GraphDriver"]["Data"] == {}


def test_limits_of_kernel_memory_have_no_meaning_any_more() -> None:
    asked = Fields({"KernelMemory": 5})
    refuse(asked, NEWEST)
    with pytest.raises(Unsupported, match="KernelMemory"):
        refuse(asked, (1, 41))


async def test_an_image_of_a_container_has_what_the_container_was_given(docker: DockerStand) -> None:
    check = {"Test": ["CMD", "true"], "Interval": 2 * 10**9, "Retries": 3}
    await create(docker, ExposedPorts={"80/tcp": {}}, Volumes={"/data": {}}, Healthcheck=check)
    assert (await docker.ask("POST", "/commit?container=web1&repo=mine"))[0] == 201
    found = (await docker.get("/images/mine/json"))["Config"]
    assert (found["ExposedPorts"], found["Volumes"], found["Healthcheck"]) == ({"80/tcp": {}}, {"/data": {}}, check)


async def test_an_image_of_a_container_has_what_the_request_says(docker: DockerStand) -> None:
    await create(docker)
    check = {"Test": ["CMD-SHELL", "a\n[ b ]"], "Timeout": 10**9, "StartPeriod": 3 * 10**6}
    body = {"ExposedPorts": {"53/udp": {}}, "Volumes": {"/a b": {}}, "OnBuild": ["RUN x"], "Healthcheck": check}
    assert (await docker.ask("POST", "/commit?container=web1&repo=mine", body))[0] == 201
    found = (await docker.get("/images/mine/json"))["Config"]
    assert (found["ExposedPorts"], found["Volumes"], found["OnBuild"]) == ({"53/udp": {}}, {"/a b": {}}, ["RUN x"])
    assert found["Healthcheck"] == check | {"Test": ["CMD", "/bin/sh", "-c", "a\n[ b ]"]}
    body = {"Healthcheck": {"Test": ["NONE"]}}
    assert (await docker.ask("POST", "/commit?container=web1&repo=mine", body))[0] == 201
    assert (await docker.get("/images/mine/json"))["Config"]["Healthcheck"] == {"Test": ["NONE"]}


async def test_an_image_of_a_container_was_not_pulled(docker: DockerStand) -> None:
    await create(docker)
    await docker.ask("POST", "/commit?container=web1&repo=mine")
    async with docker.session.get("http://docker/v1.50/events?since=1&until=9999999999") as answer:
        told = [json.loads(await answer.content.readline())["Action"] for _ in range(3)]
    assert sorted(told) == ["commit", "create", "tag"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, 0),
        ({"keep-storage": 7}, 7),
        ({"keep-storage": 7, "reserved-space": 8}, 8),
        ({"max-used-space": 30, "reserved-space": 8}, 30),
        ({"min-free-space": 50}, 100),
        ({"min-free-space": 90}, 60),
        ({"min-free-space": 90, "max-used-space": 30}, 30),
        ({"min-free-space": 90, "reserved-space": 70}, 70),
        ({"min-free-space": 999}, 1),
    ],
)
def test_the_space_of_kept_results(given: dict[str, int], kept: int) -> None:
    assert bytes_kept(given, size=100, free=50) == kept


MADE = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = [
    Record("ab1", "regular", "RUN a", 5, created_at=MADE, used_at=MADE, shared=True),
    Record("cd2", "regular", "RUN b", 7, parent="ab1", created_at=MADE, uses=3),
    Record("ef3", "exec.cachemount", "kept", 9, in_use=True),
]


def test_single_results_of_builds_have_records() -> None:
    new, old = KEPT[1].document((1, 51)), KEPT[1].document((1, 41))
    assert (new["Parents"], new["UsageCount"], new["LastUsedAt"]) == (["ab1"], 3, None) and "Parent" not in new
    assert old["Parent"] == "ab1" and "Parents" not in old and old["CreatedAt"].startswith("2026-01-01T")


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, None),
        ({"until": ["1h"]}, None),
        ({"id": ["b1"]}, {"ab1"}),
        ({"type": ["regular"]}, {"ab1", "cd2"}),
        ({"type": ["regular"], "private": []}, {"cd2"}),
        ({"shared": ["true"]}, {"ab1"}),
        ({"inuse": ["false"]}, {"ab1", "cd2"}),
        ({"parent": ["ab1"]}, {"cd2"}),
        ({"description": ["RUN b"]}, {"cd2"}),
        ({"label": ["a"]}, set()),
    ],
)
def test_filters_choose_single_results(filters: dict[str, list[str]], ids: set[str] | None) -> None:
    assert chosen(filters, KEPT) == ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", {"ab1", "cd2", "ef3"}),
        ("type==regular", {"ab1", "cd2"}),
        ("type!=regular,inuse", {"ef3"}),
        ("id~=b1", {"ab1"}),
        ('description~="RUN",private', {"cd2"}),
        ("id==ab", set()),
    ],
)
def test_expressions_of_buildkit_choose_single_results(text: str, ids: set[str]) -> None:
    assert {each.id for each in KEPT if expression(text)(each)} == ids


@pytest.mark.parametrize("text", ["age==1", "type=regular", "==x"])
def test_wrong_expressions_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not known"):
        expression(text)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ('{"foo":["x"]}', "invalid filter 'foo'"),
        ('{"id":["a","b"]}', "filters expect only one value"),
        ('{"until":["1h"],"unused-for":["2h"]}', 'conflicting filters: "until" and "unused-for"'),
        (
            '{"until":["x"]}',
            "\"until\" filter expects a duration (e.g., '24h') or a timestamp: "
            'failed to parse value as time or duration: "x"',
        ),
    ],
)
async def test_wrong_filters_of_results_are_refused(docker: DockerStand, filters: str, message: str) -> None:
    status, body = await docker.ask("POST", "/build/prune", params={"filters": filters})
    assert (status, body) == (400, {"message": f"failed to prune build cache: {message}"})


async def test_nothing_is_pruned_where_nothing_is_kept(docker: DockerStand) -> None:
    pruned = {"CachesDeleted": None, "SpaceReclaimed": 0}
    for query in ("all=1&max-used-space=5&min-free-space=5", 'filters={"unused-for":["1h"]}', 'filters={"private":[]}'):
        assert await docker.get_after("POST", f"/build/prune?{query}") == pruned


async def test_another_platform_is_neither_removed_nor_pushed(docker: DockerStand) -> None:
    arm, own = '{"os":"linux","architecture":"arm64"}', '{"os":"linux","architecture":"amd64"}'
    for method, path, name in (("DELETE", "/images/tiny", "platforms"), ("POST", "/images/tiny/push", "platform")):
        status, body = await docker.ask(method, path, params={name: arm})
        assert (status, "does not provide the specified platform (linux/arm64)" in body["message"]) == (404, True)
    assert (await docker.ask("DELETE", "/images/tiny", params={"platforms": own}))[0] == 200


async def test_ports_have_no_meaning_in_the_network_of_the_host(docker: DockerStand) -> None:
    await docker.services.server.update(lambda config: {**config, "security.privileged": "true"})
    host = {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}
    status, body = await docker.ask("POST", "/containers/create?name=web1", BODY | {"HostConfig": host})
    assert (status, body["Warnings"]) == (201, ["Published ports are discarded when using host network mode"])
    assert not any(name.startswith("port-") for name in docker.services.instances.get(Ref.default("web1")).devices)


async def test_limits_without_which_programs_could_take_all_are_warned_of(docker: DockerStand) -> None:
    body = BODY | {"HostConfig": {"OomKillDisable": True, "PidsLimit": -5}}
    status, body = await docker.ask("POST", "/containers/create?name=web1", body)
    (warning,) = body["Warnings"]
    assert status == 201 and warning.startswith("OOM killer is disabled for the container, but no memory limit is set")
    assert (await docker.get("/containers/web1/json"))["HostConfig"]["PidsLimit"] == 4_194_304
    body = BODY | {"HostConfig": {"OomKillDisable": True, "Memory": 2**26}}
    assert (await docker.ask("POST", "/containers/create", body))[1]["Warnings"] == []


async def test_another_architecture_is_warned_of_unless_it_is_asked_for(docker: DockerStand) -> None:
    system = docker.rest.world.host.system
    system.uname = replace(system.uname, architecture="aarch64")
    path = "/containers/create?name=web"
    status, body = await docker.ask("POST", f"{path}1", BODY)
    assert (status, body.get("Warnings")) == (201, [WARNING])
    assert (await docker.ask("POST", f"{path}2&platform=linux/amd64", BODY))[1]["Warnings"] == []


async def test_older_clients_are_told_that_an_image_has_no_name(docker: DockerStand) -> None:
    await create(docker)
    await docker.ask("POST", "/containers/web1/start")
    assert (await docker.ask("DELETE", "/images/tiny?force=1"))[0] == 200  # it runs: the image itself is kept
    [old], [new] = [await at(docker, version, "/images/json") for version in ("1.42", "1.43")]
    assert (old["RepoTags"], old["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    assert new["RepoTags"] == new["RepoDigests"] == []


async def test_older_clients_find_the_id_among_the_aliases(docker: DockerStand) -> None:
    assert (await docker.ask("POST", "/networks/create", {"Name": "lab"}))[0] == 201
    both = {"EndpointsConfig": {"lab": {"Aliases": ["db"]}, "bridge": {}}}
    await create(docker, NetworkingConfig=both)
    id = (await docker.get("/containers/web1/json"))["Id"][:12]
    for version, names in (("1.44", ["db", id]), ("1.45", ["db"])):
        networks = (await at(docker, version, "/containers/web1/json"))["NetworkSettings"]["Networks"]
        assert (networks["lab"]["Aliases"], networks["bridge"]["Aliases"]) == (names, None)


async def test_images_have_no_fields_of_containers_any_more(docker: DockerStand) -> None:
    new, old = [(await at(docker, version, "/images/tiny/json"))["Config"] for version in ("1.50", "1.49")]
    gone = {"Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"}
    assert old.keys() - new.keys() == gone | {"StdinOnce", "ExposedPorts"} and new.items() <= old.items()


async def test_kinds_of_usage_that_are_not_asked_for_are_null(docker: DockerStand) -> None:
    found = await docker.get("/system/df?type=build-cache")
    assert found == {"Images": None, "Containers": None, "Volumes": None, "BuildCache": []}


async def test_the_address_of_a_container_is_that_of_the_default_network(docker: DockerStand) -> None:
    await docker.ask("POST", "/networks/create", {"Name": "lan"})
    for name, mode in (("on-lan", "lan"), ("by-default", "default")):
        await docker.ask("POST", f"/containers/create?name={name}", BODY | {"HostConfig": {"NetworkMode": mode}})
        assert (await docker.ask("POST", f"/containers/{name}/start"))[0] == 204
    lan, default = [
        (await docker.get(f"/containers/{name}/json"))["NetworkSettings"] for name in ("on-lan", "by-default")
    ]
    assert (lan["IPAddress"], lan["MacAddress"], lan["IPPrefixLen"]) == ("", "", 0) and lan["Networks"]["lan"][
        "IPAddress"
    ]
    assert default["IPAddress"] == default["Networks"]["bridge"]["IPAddress"] != ""


NEW: dict[str, Any] = {
    "User": "0",
    "Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 10**9},
    "HostConfig": {"Annotations": {"a": "b"}, "AutoRemove": True, "Mounts": [{"Type": "tmpfs", "Target": "/t"}]},
    "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:0a:5d:00:09", "GwPriority": 7}}},
}


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1.48", {"priority", "address", "interval", "annotations", "removal"}),
        ("1.47", {"address", "interval", "annotations", "removal"}),
        ("1.43", {"annotations", "removal"}),
        ("1.42", {"removal"}),
        ("1.24", set()),
    ],
)
async def test_what_a_version_does_not_know_has_no_effect(docker: DockerStand, version: str, known: set[str]) -> None:
    url = f"http://docker/v{version}/containers/create?name=web1"
    async with docker.session.post(url, json=BODY | NEW) as answer:
        assert answer.status == 201, await answer.text()
    shown = await at(docker, "1.51", "/containers/web1/json")
    endpoint, host = shown["NetworkSettings"]["Networks"]["bridge"], shown["HostConfig"]
    found = {
        "priority": endpoint["GwPriority"] == 7,
        "address": endpoint["MacAddress"] == "02:42:0a:5d:00:09",
        "interval": "StartInterval" in shown["Config"]["Healthcheck"],
        "annotations": host.get("Annotations") == {"a": "b"},
        "removal": host["AutoRemove"],
    }
    assert {name for name, has in found.items() if has} == known and shown["Config"]["User"] == "0"


@pytest.mark.parametrize(
    ("version", "body", "message"),
    [
        (
            "1.43",
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {}, "lan": {}}}},
            "Container cannot be created with multiple network endpoints: bridge, lan",
        ),
        (
            "1.43",
            {"HostConfig": {"Mounts": [{"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": True}}]}},
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
        (
            "1.44",
            {"HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"Subpath": "a"}}]}},
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        ("1.47", {"HostConfig": {"Mounts": [{"Type": "image"}]}}, 'Mount type "Image" needs API v1.48 or newer'),
        (
            "1.51",
            {
                "MacAddress": "02:42:0a:5d:00:08",
                "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:0a:5d:00:09"}}},
            },
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be "
            "left empty",
        ),
    ],
)
async def test_what_an_older_version_cannot_mean_is_refused(
    docker: DockerStand, version: str, body: dict[str, Any], message: str
) -> None:
    async with docker.session.post(f"http://docker/v{version}/containers/create", json=BODY | body) as answer:
        assert (answer.status, await answer.json()) == (400, {"message": message})


async def test_older_mounts_may_have_fields_of_other_types(docker: DockerStand) -> None:
    mount = {"Type": "tmpfs", "Target": "/t", "VolumeOptions": {"NoCopy": True}}
    for version, status in (("1.41", 201), ("1.42", 400)):
        url = f"http://docker/v{version}/containers/create"
        async with docker.session.post(url, json=BODY | {"HostConfig": {"Mounts": [mount]}}) as answer:
            assert answer.status == status


async def test_fields_without_effect_are_warned_of(docker: DockerStand) -> None:
    body = {"MacAddress": "02:42:0a:5d:00:08", "HostConfig": {"VolumeDriver": "local"}}
    body["HostConfig"]["Mounts"] = [{"Type": "volume", "Target": "/t"}]  # type: ignore[index]
    warned = []
    for version in ("1.51", "1.47", "1.43"):
        async with docker.session.post(f"http://docker/v{version}/containers/create", json=BODY | body) as answer:
            warned.append(" ".join((await answer.json())["Warnings"]))
    assert ["volume-driver" in each for each in warned] == [True, False, False]
    assert ["MacAddress" in each for each in warned] == [True, True, False]


async def test_containers_are_found_by_their_host_name(docker: DockerStand) -> None:
    await docker.ask("POST", "/networks/create", {"Name": "lan"})
    lan = {"Hostname": "db.example", "HostConfig": {"NetworkMode": "lan"}}
    await create(docker, **lan)
    await docker.ask("POST", "/containers/web1/start")
    shown, old = [await at(docker, version, "/containers/web1/json") for version in ("1.51", "1.44")]
    short = shown["Id"][:12]
    assert shown["NetworkSettings"]["Networks"]["lan"]["DNSNames"] == ["web1", short, "db.example"]
    assert old["NetworkSettings"]["Networks"]["lan"]["Aliases"] == [short, "db.example"]
    [nic] = docker.services.networks.nics(Ref.default("lan"))
    assert nic.names == ("web1", short, "db.example")


async def test_commands_have_the_further_groups_of_the_program(docker: DockerStand) -> None:
    await create(docker, User="5:6", HostConfig={"GroupAdd": ["7", "9"]})
    await docker.ask("POST", "/containers/web1/start")
    for user, expected in (("", (5, 6, (7, 9))), ("0", (0, 0, (7, 9))), ("8:3", (8, 3, (7, 9)))):
        made = await docker.ask("POST", "/containers/web1/exec", {"Cmd": ["true"], "User": user})
        assert (await docker.ask("POST", f"/exec/{made[1]['Id']}/start", {"Detach": True}))[0] == 200
        spec = docker.rest.world.on_host("web1").commands[-1].command.spec
        assert (spec.user, spec.group, spec.groups) == expected
