"""Networks through the Docker door, over a daemon in memory: requests, texts of errors, and what is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.answers import NO_MANAGER
from isola.doors.docker.networks.creation import new_network
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, Unsupported
from isola.model.reference import Ref


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


async def create(docker: DockerStand, name: str, **more: Any) -> str:
    status, body = await docker.ask("POST", "/networks/create", {"Name": name, "CheckDuplicate": True, **more})
    assert status == 201, body
    return str(body["Id"])


async def container(docker: DockerStand, name: str, network: str = "", **more: Any) -> None:
    host = {"NetworkMode": network or "default"}
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "HostConfig": host, **more}
    status, said = await docker.ask("POST", f"/containers/create?name={name}", body)
    assert status == 201, said
    assert (await docker.ask("POST", f"/containers/{name}/start"))[0] == 204


async def test_the_usual_three_are_there(docker: DockerStand) -> None:
    listed = {each["Name"]: each for each in await docker.get("/networks")}
    assert [(name, listed[name]["Driver"]) for name in ("bridge", "host", "none")] == [
        ("bridge", "bridge"),
        ("host", "host"),
        ("none", "null"),
    ]
    await container(docker, "web1")
    shown = await docker.get("/networks/bridge")
    own = (await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]["bridge"]
    (on_it,) = shown["Containers"].values()
    assert (on_it["Name"], on_it["EndpointID"], on_it["MacAddress"]) == ("web1", own["EndpointID"], own["MacAddress"])
    assert on_it["IPv4Address"].partition("/")[0] == own["IPAddress"] and own["NetworkID"] == shown["Id"]
    for name in ("bridge", "host", "none"):
        status, said = await docker.ask("DELETE", f"/networks/{name}")
        assert (status, said["message"]) == (403, f"{name} is a pre-defined network and cannot be removed")


async def test_a_network_has_the_addresses_and_labels_that_are_asked_for(docker: DockerStand) -> None:
    pool = {
        "Subnet": "10.99.0.0/16",
        "IPRange": "10.99.5.0/24",
        "Gateway": "10.99.5.254",
        "AuxiliaryAddresses": {"router": "10.99.5.1"},
    }
    options = {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false"}
    id = await create(
        docker,
        "my_project_default",
        IPAM={"Config": [pool, {"Subnet": "fd99::/64"}]},
        EnableIPv6=True,
        Labels={"a": "b", "bare": ""},
        Options=options,
    )
    native = docker.services.networks.get(Ref.default("my_project_default"))
    assert id.startswith(native.identity) and len(id) == 64
    assert native.config["ipv4.dhcp.ranges"] == "10.99.5.0-10.99.5.0,10.99.5.2-10.99.5.253,10.99.5.255-10.99.5.255"
    assert native.config["security.port_isolation"] == "true" and native.config["bridge.mtu"] == "1400"
    for name in (id, id[:12], "my_project_default"):
        shown = await docker.get(f"/networks/{name}")
        assert shown["Id"] == id and shown["Labels"] == {"a": "b", "bare": ""} and shown["Options"] == options
        assert shown["IPAM"]["Config"] == [pool, {"Subnet": "fd99::/64", "Gateway": "fd99::1"}]
        assert shown["EnableIPv6"] and not shown["Internal"]
    await container(docker, "web1", "my_project_default")
    own = (await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]
    assert list(own) == ["my_project_default"] and own["my_project_default"]["IPAddress"] == "10.99.5.0"


async def test_an_internal_network_has_no_way_out(docker: DockerStand) -> None:
    await create(docker, "inner", Internal=True)
    assert (await docker.get("/networks/inner"))["Internal"]
    config = docker.services.networks.get(Ref.default("inner")).config
    assert (config["ipv4.routing"], config["ipv6.routing"], config["dns.forward"]) == ("false", "false", "false")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": ""}, 400, "invalid name: name is empty"),
        ({"Name": "default"}, 403, "operation is not permitted on predefined default network"),
        ({"Name": "new", "Driver": "overlay"}, 503, NO_MANAGER),
        ({"Name": "new", "Scope": "swarm"}, 403, "cannot create a swarm scoped network when swarm is not active"),
        ({"Name": "new", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        (
            {"Name": "new", "IPAM": {"Config": [{"Subnet": "10.97.0.9/24"}]}},
            400,
            "invalid network config:\ninvalid subnet 10.97.0.9/24: it should be 10.97.0.0/24",
        ),
        (
            {"Name": "new", "IPAM": {"Config": [{"Subnet": "10.97.0.0/24", "Gateway": "10.97.0.0"}]}},
            403,
            "failed to allocate gateway (10.97.0.0): Address already in use",
        ),
        (
            {"Name": "new", "Options": {"com.docker.network.driver.mtu": "x"}},
            400,
            'failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)',
        ),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
        ({"Name": "lab"}, 409, "network with name lab already exists"),
        ({"Name": "new", "Driver": "token"}, 404, 'plugin "token" not found'),
        ({"Name": "new", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        (
            {"Name": "new", "IPAM": {"Config": [{"Subnet": "10.98.0.0/24"}]}},
            403,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            {"Name": "new", "IPAM": {"Config": [{"Subnet": "x"}]}},
            400,
            "invalid network config:\ninvalid subnet x: invalid CIDR block notation",
        ),
        (
            {"Name": "new", "IPAM": {"Config": [{"Subnet": "10.97.0.0/24", "Gateway": "10.96.0.1"}]}},
            400,
            "invalid network config: no matching subnet for gateway 10.96.0.1",
        ),
    ],
)
async def test_requests_are_refused(docker: DockerStand, body: dict[str, Any], status: int, message: str) -> None:
    await create(docker, "lab", IPAM={"Config": [{"Subnet": "10.98.0.0/24"}]})
    found, said = await docker.ask("POST", "/networks/create", body)
    assert (found, said["message"]) == (status, message)


async def test_a_running_container_is_connected_and_disconnected(docker: DockerStand) -> None:
    await create(docker, "lab", IPAM={"Config": [{"Subnet": "10.98.0.0/24"}]})
    await container(docker, "web1")
    endpoint = {"IPAMConfig": {"IPv4Address": "10.98.0.9"}, "Aliases": ["db", "cache"], "GwPriority": 7}
    body = {"Container": "web1", "EndpointConfig": endpoint}
    assert (await docker.ask("POST", "/networks/lab/connect", body))[0] == 200
    own = (await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]
    assert set(own) == {"bridge", "lab"} and own["lab"]["IPAddress"] == "10.98.0.9"
    assert own["lab"]["Aliases"] == ["db", "cache"] and own["lab"]["GwPriority"] == 7
    status, said = await docker.ask("POST", "/networks/lab/connect", body)
    assert (status, said["message"]) == (403, "endpoint with name web1 already exists in network lab")
    status, said = await docker.ask("DELETE", "/networks/lab")
    assert status == 403 and said["message"].startswith(
        'error while removing network: network lab has active endpoints (name:"web1" id:"'
    )
    for name in ("lab", "bridge"):
        assert (await docker.ask("POST", f"/networks/{name}/disconnect", {"Container": "web1"}))[0] == 200
    assert list((await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]) == ["none"]
    status, said = await docker.ask("POST", "/networks/lab/disconnect", {"Container": "web1"})
    id = (await docker.get("/containers/web1/json"))["Id"]
    assert (status, said["message"]) == (403, f"container {id} is not connected to network lab")
    assert (await docker.ask("DELETE", "/networks/lab"))[0] == 204
    status, said = await docker.ask("GET", "/networks/lab")
    assert (status, said["message"]) == (404, "network lab not found")


async def test_names_may_have_any_characters(docker: DockerStand) -> None:
    id = await create(docker, "my lab/1")
    assert (await docker.get("/networks/my%20lab%2F1"))["Id"] == id
    assert (await docker.ask("POST", "/networks/create", {"Name": "my lab/1"}))[0] == 409
    await container(docker, "web1", "my lab/1")
    assert list((await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]) == ["my lab/1"]
    assert (await docker.ask("DELETE", "/containers/web1?force=1"))[0] == 204
    assert await docker.get_after("POST", "/networks/prune") == {"NetworksDeleted": ["my lab/1"]}


async def test_what_an_endpoint_was_given_is_repeated(docker: DockerStand) -> None:
    await create(docker, "lab", IPAM={"Options": {"a": "b"}, "Config": [{"Subnet": "10.98.0.0/24"}]})
    assert (await docker.get("/networks/lab"))["IPAM"]["Options"] == {"a": "b"}
    body = {"Image": "tiny", "Cmd": ["sleep", "100"]}
    assert (await docker.ask("POST", "/containers/create?name=web1", body))[0] == 201
    endpoint = {
        "DriverOpts": {"com.example": "on"},
        "MacAddress": "02:42:ac:11:00:02",
        "IPAMConfig": {"IPv6Address": "2001:389::f00d"},
    }
    asked = {"Container": "web1", "EndpointConfig": endpoint}
    assert (await docker.ask("POST", "/networks/lab/connect", asked))[0] == 200
    shown = (await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]["lab"]
    assert {key: shown[key] for key in endpoint} == endpoint


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.98.0.300", "invalid IPv4 address: 10.98.0.300"),
        ("10.1.0.3", "no configured subnet or ip-range contain the IP address 10.1.0.3"),
    ],
)
async def test_addresses_outside_of_the_subnet_are_refused(docker: DockerStand, address: str, why: str) -> None:
    await create(docker, "lab", IPAM={"Config": [{"Subnet": "10.98.0.0/24"}]})
    await container(docker, "web1")
    asked = {"Container": "web1", "EndpointConfig": {"IPAMConfig": {"IPv4Address": address}}}
    status, said = await docker.ask("POST", "/networks/lab/connect", asked)
    assert (status, said["message"]) == (400, f"invalid endpoint settings:\n{why}")


async def test_the_network_none_can_be_left(docker: DockerStand) -> None:
    await create(docker, "lab")
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "HostConfig": {"NetworkMode": "none"}}
    assert (await docker.ask("POST", "/containers/create?name=web1", body))[0] == 201
    asked = {"Container": "web1"}
    status, said = await docker.ask("POST", "/networks/lab/connect", asked)
    assert status == 400 and "private (none) mode" in said["message"]
    assert (await docker.ask("POST", "/networks/none/disconnect", asked))[0] == 200
    assert (await docker.ask("POST", "/networks/lab/connect", asked))[0] == 200
    assert list((await docker.get("/containers/web1/json"))["NetworkSettings"]["Networks"]) == ["lab"]


async def test_a_missing_network_is_not_taken_for_a_missing_image(docker: DockerStand) -> None:
    body = {"Image": "tiny", "HostConfig": {"NetworkMode": "nope"}}
    status, said = await docker.ask("POST", "/containers/create?name=web1", body)
    assert (status, said["message"]) == (400, "failed to set up container networking: network nope not found")


async def test_filters_and_prune(docker: DockerStand) -> None:
    await create(docker, "used", Labels={"tier": "front"})
    await create(docker, "idle", Labels={"tier": "back"})
    await container(docker, "web1", "used")

    async def listed(filters: str) -> list[str]:
        return sorted(each["Name"] for each in await docker.get(f"/networks?filters={filters}"))

    assert await listed('{"label":["tier=front"]}') == ["used"]
    assert await listed('{"type":{"custom":true}}') == ["idle", "used"]
    assert await listed('{"dangling":["true"]}') == ["idle"]
    assert await listed('{"driver":["host"]}') == ["host"]
    assert await listed('{"name":["dle"]}') == ["idle"]
    assert await listed('{"name":["^idle$"]}') == ["idle"]
    assert await listed('{"name":["^dle"]}') == []
    assert (await docker.ask("GET", '/networks?filters={"wrong":["x"]}'))[0] == 400
    assert await docker.get_after("POST", "/networks/prune") == {"NetworksDeleted": ["idle"]}
    assert await listed('{"type":["custom"]}') == ["used"]


async def test_published_ports_are_proxies_that_the_kernel_serves(docker: DockerStand) -> None:
    bindings = {"80/tcp": [{"HostPort": "8080"}], "53/udp": [{"HostIp": "127.0.0.1"}]}
    host = {"PortBindings": bindings}
    body = {"Image": "tiny", "Cmd": ["sleep", "100"], "HostConfig": host}
    assert (await docker.ask("POST", "/containers/create?name=web1", body))[0] == 201
    assert (await docker.ask("POST", "/containers/web1/start"))[0] == 204
    shown = await docker.get("/containers/web1/json")
    ports = shown["NetworkSettings"]["Ports"]
    assert ports["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    (one,) = ports["53/udp"]
    assert one["HostIp"] == "127.0.0.1" and int(one["HostPort"]) > 1023
    assert shown["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
    }
    device = docker.services.instances.get(Ref.default("web1")).devices["port-tcp-80-0"]
    assert device == {"type": "proxy", "nat": "true", "listen": "tcp:[::]:8080", "connect": "tcp:0.0.0.0:80"}
    assert (await docker.ask("POST", "/containers/create?name=web2", body | {"HostConfig": {**host}}))[0] == 201
    status, said = await docker.ask("POST", "/containers/web2/start")
    assert status == 500 and "port is already allocated" in said["message"]


def test_networks_of_macvlans_are_translated() -> None:
    pool = {"Subnet": "192.0.2.0/24", "Gateway": "192.0.2.1", "IPRange": "192.0.2.128/26"}
    options = {"parent": "eth0", "macvlan_mode": "private", "com.docker.network.driver.mtu": "1400"}
    asked = {"Name": "lan", "Driver": "macvlan", "Options": options, "IPAM": {"Config": [pool]}, "Internal": True}
    made = new_network(Fields(asked | {"Labels": {"a": "b"}}), "default")
    assert made.driver == "macvlan"
    assert made.config == {
        "parent": "eth0",
        "mode": "private",
        "mtu": "1400",
        "ipv4.address": "192.0.2.1/24",
        "ipv4.dhcp.ranges": "192.0.2.128-192.0.2.191",
        "ipv4.routing": "false",
        "ipv6.address": "none",
        "ipv6.routing": "false",
        "user.a": "b",
    }
    for wrong, error in (
        ({"Driver": "ipvlan"}, Unsupported),
        ({"Options": {}}, InvalidInput),
        ({"Options": {"parent": "eth0", "macvlan_mode": "loud"}}, InvalidInput),
        ({"Options": {"parent": "eth0", "com.docker.network.driver.mtu": "x"}}, InvalidInput),
    ):
        with pytest.raises(error):
            new_network(Fields(asked | wrong), "default")


async def test_containers_are_linked_on_networks_before_they_are_there(docker: DockerStand) -> None:
    await create(docker, "lab")
    endpoints = {"EndpointsConfig": {"lab": {"Links": ["later:db"]}}}
    await container(docker, "web1", "lab", NetworkingConfig=endpoints)
    shown = await docker.get("/containers/web1/json")
    assert shown["HostConfig"]["Links"] == ["/later:/web1/db"]
    assert shown["NetworkSettings"]["Networks"]["lab"]["Links"] == ["later:db"]
    await container(docker, "web2")
    body = {"Container": "web2", "EndpointConfig": {"Links": ["later:cache"]}}
    assert (await docker.ask("POST", "/networks/lab/connect", body))[0] == 200
    body = {"Image": "tiny", "Cmd": ["x"], "HostConfig": {"Links": ["later:db"]}}
    status, said = await docker.ask("POST", "/containers/create", body)
    assert (status, said["message"]) == (400, "could not get container for later: No such container: later")


async def test_links_on_the_default_network_say_what_the_other_serves(docker: DockerStand) -> None:
    await container(docker, "db", ExposedPorts={"5432/tcp": {}})
    await container(docker, "plain")
    await container(docker, "web1", HostConfig={"Links": ["db:database", "plain"]})
    config = docker.services.instances.get(Ref.default("web1")).config
    assert {key: value for key, value in config.items() if key.startswith("isola.links.")} == {
        "isola.links.database": "5432/tcp",
        "isola.links.plain": "none",
    }
    assert (await docker.ask("DELETE", "/containers/web1/database?link=1"))[0] == 204
    assert "isola.links.database" not in docker.services.instances.get(Ref.default("web1")).config
    await create(docker, "lab")
    await container(docker, "web2", HostConfig={"Links": ["db:database"], "NetworkMode": "lab"})
    assert not [key for key in docker.services.instances.get(Ref.default("web2")).config if "links" in key]


async def test_link_local_addresses_are_further_ones_of_the_nic(docker: DockerStand) -> None:
    endpoints = {"EndpointsConfig": {"bridge": {"IPAMConfig": {"LinkLocalIPs": ["169.254.8.8", "fe80::8"]}}}}
    await container(docker, "web1", NetworkingConfig=endpoints)
    shown = await docker.get("/containers/web1/json")
    (endpoint,) = shown["NetworkSettings"]["Networks"].values()
    assert endpoint["IPAMConfig"] == {"LinkLocalIPs": ["169.254.8.8", "fe80::8"]}
    (device,) = docker.services.instances.get(Ref.default("web1")).devices.values()
    assert device["link_local.addresses"] == "169.254.8.8,fe80::8"
    for wrong in ("x", "10.0.0.1", "169.254.169.254", "2001:db8::1"):
        endpoints = {"EndpointsConfig": {"bridge": {"IPAMConfig": {"LinkLocalIPs": [wrong]}}}}
        body = {"Image": "tiny", "Cmd": ["x"], "NetworkingConfig": endpoints}
        status, said = await docker.ask("POST", "/containers/create", body)
        assert (status, said["message"]) == (
            400,
            f"invalid endpoint settings:\ninvalid link-local IP address: {wrong}",
        )


SYSCTLS = "com.docker.network.endpoint.sysctls"


def with_parameters(text: str) -> dict[str, Any]:
    return {"EndpointsConfig": {"bridge": {"DriverOpts": {SYSCTLS: text}}}}


async def test_parameters_of_endpoints_are_those_of_the_nic(docker: DockerStand) -> None:
    wanted = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2"
    await container(docker, "web1", NetworkingConfig=with_parameters(wanted))
    (device,) = docker.services.instances.get(Ref.default("web1")).devices.values()
    assert device["sysctls"] == wanted.replace("ifname", "IFNAME")
    shown = await docker.get("/containers/web1/json")
    (endpoint,) = shown["NetworkSettings"]["Networks"].values()
    assert endpoint["DriverOpts"] == {SYSCTLS: wanted}
    parameters = docker.rest.world.host.namespaces.parameters
    found = {name: value for (_, name), value in parameters.items()}
    assert found == {"ipv4/conf/eth0/log_martians": "1", "ipv6/conf/eth0/accept_ra": "2"}
    await create(docker, "lab")
    options = {"DriverOpts": {SYSCTLS: "net.mpls.conf.IFNAME.input=1"}}
    assert (await docker.ask("POST", "/networks/lab/connect", {"Container": "web1", "EndpointConfig": options}))[
        0
    ] == 200
    assert [value for (_, name), value in parameters.items() if name == "mpls/conf/eth1/input"] == ["1"]


async def test_a_parameter_that_the_kernel_does_not_have_is_told_at_the_start(docker: DockerStand) -> None:
    body = {"Image": "tiny", "Cmd": ["x"], "NetworkingConfig": with_parameters("net.ipv4.conf.IFNAME.none=1")}
    assert (await docker.ask("POST", "/containers/create?name=web1", body))[0] == 201
    status, said = await docker.ask("POST", "/containers/web1/start")
    assert status == 400 and "/proc/sys/net/ipv4/conf/eth0/none is not a sysctl file" in said["message"]
    assert not (await docker.get("/containers/web1/json"))["State"]["Running"]


@pytest.mark.parametrize(
    "wrong",
    [
        "net.ipv4.conf.eth0.x=1", "net.ipv4.conf.all.x=1", "net.core.conf.IFNAME.x=1", "kernel.ipv4.conf.IFNAME.x=1",
        "net.ipv4.conf.IFNAME.x", "net.ipv4.conf.IFNAME.x=", "net.ipv4.conf.IFNAME.x.y=1", "net.ipv4...IFNAME.x=1",
        "net.ipv4.conf.IFNAME.../x=1", "net.ipv4.conf.IFNAME.x=1\n", "net.ipv4.conf.IFNAME.x=1 2", "x",
    ],
)  # fmt: skip
async def test_other_parameters_are_refused(docker: DockerStand, wrong: str) -> None:
    text = f"net.ipv4.conf.IFNAME.ok=1,{wrong}"
    body = {"Image": "tiny", "Cmd": ["x"], "NetworkingConfig": with_parameters(text)}
    status, said = await docker.ask("POST", "/containers/create", body)
    reason = f"invalid endpoint settings:\nunrecognised network interface sysctl {wrong!r};"
    assert (status, said["message"].partition(" represent")[0]) == (400, reason.replace("\\n'", "\n'"))


OPERATORS = "configuration network can only contain network specific fields"
OWN = "user specified configurations are not supported if the network depends on a configuration network"
POOL = {"Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25"}


async def test_a_configuration_holds_settings_for_other_networks(docker: DockerStand) -> None:
    labels, options = {"a": "b", "bare": ""}, {"com.docker.network.driver.mtu": "1400"}
    await create(
        docker, "a b", ConfigOnly=True, IPAM={"Config": [POOL]}, Labels=labels, Options=options, Driver="bridge"
    )
    conf = await docker.get("/networks/a%20b")
    assert (conf["ConfigOnly"], conf["Driver"], conf["Scope"], conf["ConfigFrom"]) == (
        True,
        "null",
        "local",
        {"Network": ""},
    )
    assert (conf["EnableIPv4"], conf["EnableIPv6"], conf["IPAM"]["Config"]) == (True, False, [POOL])
    assert (conf["Labels"], conf["Options"]) == (labels, options)
    await create(docker, "lan", ConfigFrom={"Network": "a b"}, Internal=True)
    lan = await docker.get("/networks/lan")
    assert (lan["ConfigFrom"], lan["ConfigOnly"], lan["Driver"]) == ({"Network": "a b"}, False, "bridge")
    assert (lan["Labels"], lan["Options"], lan["Internal"]) == (labels, options, True)
    assert lan["IPAM"]["Config"] == [POOL | {"Gateway": "10.77.0.1"}]
    assert {each["Name"] for each in await docker.get('/networks?filters={"driver":["null"]}')} == {"none", "a b"}
    in_use = (403, {"message": 'error while removing network: configuration network "a b" is in use'})
    assert await docker.ask("DELETE", "/networks/a%20b") == in_use
    assert await docker.get_after("POST", "/networks/prune") == {"NetworksDeleted": ["lan"]}
    assert (await docker.ask("DELETE", "/networks/a%20b"))[0] == 204


async def test_a_configuration_gives_the_protocols(docker: DockerStand) -> None:
    pool = {"Subnet": "fd99::/64", "Gateway": "fd99::5"}
    await create(docker, "six", ConfigOnly=True, EnableIPv4=False, EnableIPv6=True, IPAM={"Config": [pool]})
    await create(docker, "lan", ConfigFrom={"Network": "six"})
    for name in ("six", "lan"):
        shown = await docker.get(f"/networks/{name}")
        assert (shown["EnableIPv4"], shown["EnableIPv6"], shown["IPAM"]["Config"]) == (False, True, [pool])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"ConfigOnly": True, "Internal": True}, 403, OPERATORS),
        ({"ConfigOnly": True, "Attachable": True}, 403, OPERATORS),
        ({"ConfigOnly": True, "Ingress": True}, 403, OPERATORS),
        ({"ConfigOnly": True, "Scope": "local"}, 403, OPERATORS),
        ({"ConfigOnly": True, "ConfigFrom": {"Network": "conf"}}, 403, "a configuration network cannot depend on"),
        ({"ConfigOnly": True, "IPAM": {"Config": [{"Subnet": "10.1.2.3/24"}]}}, 400, "it should be 10.1.2.0/24"),
        ({"ConfigFrom": {"Network": "conf"}, "Labels": {"x": "y"}}, 403, OWN),
        ({"ConfigFrom": {"Network": "conf"}, "EnableIPv6": True}, 403, OWN),
        ({"ConfigFrom": {"Network": "conf"}, "EnableIPv4": False}, 403, OWN),
        ({"ConfigFrom": {"Network": "conf"}, "IPAM": {"Config": [POOL]}}, 403, OWN),
        ({"ConfigFrom": {"Network": "conf"}, "IPAM": {"Options": {"a": "b"}}}, 403, OWN),
        ({"ConfigFrom": {"Network": "conf"}, "IPAM": {"Driver": "other"}}, 403, OWN),
        ({"ConfigFrom": {"Network": "conf"}, "Options": {"a": "b"}}, 403, "network driver options are not supported"),
        ({"ConfigFrom": {"Network": "nope"}}, 404, 'configuration network "nope" does not exist'),
        ({"ConfigFrom": {"Network": "bridge"}}, 404, 'configuration network "bridge" does not exist'),
        ({"ConfigFrom": {"Network": "conf"}, "Name": "conf"}, 409, "network with name conf already exists"),
        ({"Ingress": True}, 403, "Ingress network can only be global scope network"),
    ],
)
async def test_what_belongs_to_a_configuration_alone(
    docker: DockerStand, body: dict[str, Any], status: int, message: str
) -> None:
    await create(docker, "conf", ConfigOnly=True)
    said = await docker.ask("POST", "/networks/create", {"Name": "other"} | body)
    assert (said[0], message in said[1]["message"]) == (status, True), said


async def test_no_container_can_be_on_a_configuration(docker: DockerStand) -> None:
    await create(docker, "conf", ConfigOnly=True)
    await container(docker, "web1")
    refused = (403, {"message": "cannot create endpoint on configuration-only network"})
    assert await docker.ask("POST", "/networks/conf/connect", {"Container": "web1"}) == refused
    body = {"Image": "tiny", "HostConfig": {"NetworkMode": "conf"}}
    assert await docker.ask("POST", "/containers/create?name=web2", body) == refused
    with pytest.raises(InvalidInput, match="settings for other networks"):
        await docker.rest.create("web3", devices={"eth9": {"type": "nic", "network": "conf"}})
