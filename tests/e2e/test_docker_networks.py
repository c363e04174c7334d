"""Networks by the unmodified ``docker`` command: what containers reach, by which names, and over which ports."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon
from docker_client import DockerClient
from echoes import ask
from lxc_client import Lxc
from waiting import until

SERVE = ("app", "httpd", "-f", "-p", "80", "-h", "/srv")
ATTEMPTS = 15
SLEEP = ("app", "sleep", "1000")


@pytest.fixture
def docker(daemon: Daemon, app: str, tmp_path: Path) -> Iterator[DockerClient]:
    """Containers and networks end with the test."""
    made = DockerClient(daemon, tmp_path)
    yield made
    if found := made("ps", "-aq").split():
        made("rm", "-f", *found)
    made("network", "prune", "-f")


def reaches(docker: DockerClient, container: str, address: str) -> bool:
    """Whether a container gets an answer from an address, soon: a busy host loses the first packets."""
    argv = ["docker", "exec", container, "busybox", "ping", "-c", "1", "-W", "1", address]
    for _ in range(ATTEMPTS):
        if subprocess.run(argv, env=docker.environment, capture_output=True, check=False).returncode == 0:
            return True
    return False


def never_reaches(docker: DockerClient, container: str, address: str) -> bool:
    """Whether it gets none, although others do."""
    argv = ["docker", "exec", container, "busybox", "ping", "-c", "1", "-W", "2", address]
    return subprocess.run(argv, env=docker.environment, capture_output=True, check=False).returncode != 0


def knows(docker: DockerClient, container: str, name: str) -> str:
    """What a container's name server answers, as text."""
    argv = ["docker", "exec", container, "busybox", "nslookup", name]
    return subprocess.run(argv, env=docker.environment, capture_output=True, check=False).stdout.decode()


def test_links_tell_address_ports_and_variables(docker: DockerClient) -> None:
    docker("run", "-d", "--name", "db", "--expose", "5432", "-e", "POSTGRES_DB=shop", "-h", "store", *SLEEP)
    docker("run", "-d", "--name", "web", "--link", "db:data-base", "-e", "DATA_BASE_ENV_OWN=1", *SLEEP)
    address = docker.inspect("inspect", "db")["NetworkSettings"]["IPAddress"]
    own = set(docker("exec", "web", "busybox", "cat", "/proc/1/environ").split("\0"))
    assert {
        "DATA_BASE_NAME=/web/data-base",
        f"DATA_BASE_PORT=tcp://{address}:5432",
        f"DATA_BASE_PORT_5432_TCP_ADDR={address}",
        "DATA_BASE_ENV_POSTGRES_DB=shop",
        "DATA_BASE_ENV_OWN=1",
    } <= own
    assert f"DATA_BASE_PORT_5432_TCP_ADDR={address}" in docker("exec", "web", "busybox", "env").splitlines()
    assert f"{address}\tdata-base store db\n" in docker("exec", "web", "busybox", "cat", "/etc/hosts")


def test_link_local_addresses_are_set(docker: DockerClient) -> None:
    docker("network", "create", "near")
    one, two = ("--network", "near", "--link-local-ip"), "169.254.8.9"
    docker("run", "-d", "--name", "one", *one, "169.254.8.8", "--link-local-ip", "fe80::8", *SLEEP)
    docker("run", "-d", "--name", "two", *one, two, *SLEEP)
    shown = docker("exec", "one", "busybox", "ip", "address")
    assert "inet 169.254.8.8/16" in shown and "inet6 fe80::8/64" in shown
    assert reaches(docker, "one", two) and reaches(docker, "one", "two")


def test_parameters_of_an_endpoint_are_set(docker: DockerClient) -> None:
    sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2"
    files = [f"/proc/sys/net/{name}" for name in ("ipv4/conf/eth0/log_martians", "ipv6/conf/eth0/accept_ra")]
    given = ("run", "--rm", "--network", f'name=bridge,"driver-opt={sysctls}"')
    assert docker(*given, "app", "busybox", "cat", *files).split() == ["1", "2"]
    wrong = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.nosuch=1"
    docker(*given[:3], f"name=bridge,driver-opt={wrong}", "app", "true", status=125)


def test_the_usual_networks_and_those_of_other_doors(docker: DockerClient, daemon: Daemon, lxc: Lxc) -> None:
    listed = docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
    assert {"bridge bridge local", "host host local", "none null local"} <= set(listed)
    docker("run", "-d", "--name", "web", *SLEEP)
    daemon.launch("native")
    try:
        shown = docker.inspect("network", "inspect", "bridge")
        assert {each["Name"] for each in shown["Containers"].values()} == {"web", "native"}
    finally:
        daemon.run("DELETE", "/1.0/instances/native?force=1")
    id = docker("network", "create", "my_project_default")
    assert len(id) == 64 and docker.inspect("network", "inspect", id[:10])["Name"] == "my_project_default"
    assert "my_project_default" in lxc("network", "list")
    docker("network", "rm", "my_project_default")
    assert "network my_project_default not found" in docker("network", "inspect", "my_project_default", status=1)


def test_containers_find_each_other_by_name_alias_and_id(docker: DockerClient) -> None:
    docker("network", "create", "app_net")
    docker("run", "-d", "--name", "db_1", "--network", "app_net", "--network-alias", "db", *SERVE)
    docker("run", "-d", "--name", "web", "--network", "app_net", *SLEEP)
    docker("run", "-d", "--name", "other", *SLEEP)
    id = docker.inspect("inspect", "db_1")["Id"][:12]
    address = docker.inspect("inspect", "db_1")["NetworkSettings"]["Networks"]["app_net"]["IPAddress"]
    for name in ("db_1", "db", id):
        assert f"Address: {address}" in knows(docker, "web", name), name
        assert address not in knows(docker, "other", name)
    assert reaches(docker, "web", address) and never_reaches(docker, "other", address)
    docker("network", "connect", "--alias", "late", "app_net", "other")
    assert reaches(docker, "other", address)
    docker("network", "disconnect", "app_net", "other")
    assert never_reaches(docker, "other", address)


def test_addresses_that_are_asked_for(docker: DockerClient) -> None:
    subnet = ("--subnet", "10.98.0.0/24", "--gateway", "10.98.0.254", "--ip-range", "10.98.0.128/25")
    docker("network", "create", *subnet, "--aux-address", "x=10.98.0.128", "--label", "a=b", "lab")
    docker("run", "-d", "--name", "any", "--network", "lab", *SLEEP)
    own = docker.inspect("inspect", "any")["NetworkSettings"]["Networks"]["lab"]
    assert own["IPAddress"] == "10.98.0.129" and own["Gateway"] == "10.98.0.254"
    fixed = ("--ip", "10.98.0.7", "--mac-address", "02:42:0a:62:00:07")
    docker("run", "-d", "--name", "fixed", "--network", "lab", *fixed, *SLEEP)
    assert "10.98.0.7/24" in docker("exec", "fixed", "busybox", "ip", "addr")
    assert "02:42:0a:62:00:07" in docker("exec", "fixed", "busybox", "ip", "link")
    assert "Pool overlaps" in docker("network", "create", "--subnet", "10.98.0.0/16", "other", status=1)
    assert "has active endpoints" in docker("network", "rm", "lab", status=1)


def test_a_container_has_an_address_while_it_runs(docker: DockerClient, daemon: Daemon) -> None:
    def address(name: str) -> str:
        return str(docker.inspect("inspect", name)["NetworkSettings"]["Networks"]["small"]["IPAddress"])

    id = docker("network", "create", "--subnet", "10.97.0.0/29", "small")
    names = [f"small{number}" for number in range(8)]
    for name in names:
        docker("create", "--name", name, "--network", "small", "-p", "80", *SERVE)
    docker("start", *names[:5])
    assert {address(name) for name in names} == {*(f"10.97.0.{number}" for number in range(2, 7)), ""}
    full = f"no available IPv4 addresses on this network's address pools: small ({id})"
    assert full in docker("start", names[5], status=1)
    freed = address(names[1])
    docker("stop", "-t", "0", names[1])
    assert address(names[1]) == "" and names[1] not in docker("network", "inspect", "small")
    docker("start", names[6])
    assert address(names[6]) == freed and reaches(docker, names[0], freed)
    assert f"Address: {freed}" in knows(docker, names[0], names[6])
    assert freed not in knows(docker, names[0], names[1])
    host = ["nsenter", f"--net=/run/netns/{daemon.netns}"]
    port = docker("port", names[6], "80").split()[0].rpartition(":")[2]
    assert "404" in ask(host, "GET / HTTP/1.0\r\n\r\n", "tcp", "127.0.0.1", port)
    kept = address(names[0])
    docker("restart", "-t", "0", names[0])
    assert address(names[0]) == kept
    assert full in docker("start", names[1], status=1)
    docker("network", "disconnect", "-f", "small", names[6])
    docker("start", names[1])
    assert address(names[1]) == freed


def test_an_internal_network_and_none_lead_nowhere(docker: DockerClient) -> None:
    docker("network", "create", "--internal", "inner")
    docker("run", "-d", "--name", "web", *SERVE)
    docker("run", "-d", "--name", "peer", "--network", "inner", *SERVE)
    docker("run", "-d", "--name", "inside", "--network", "inner", *SLEEP)
    docker("run", "-d", "--name", "alone", "--network", "none", *SLEEP)
    outside = docker.inspect("inspect", "web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    near = docker.inspect("inspect", "peer")["NetworkSettings"]["Networks"]["inner"]["IPAddress"]
    assert f"Address: {near}" in knows(docker, "inside", "peer")
    assert reaches(docker, "inside", near) and never_reaches(docker, "inside", outside)
    assert "default" not in docker("exec", "inside", "busybox", "ip", "route")
    assert "eth0" not in docker("exec", "alone", "busybox", "ip", "link")


def test_ports_are_published_and_stay_while_the_daemon_is_down(docker: DockerClient, daemon: Daemon) -> None:
    docker("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1::80", *SERVE)
    ports = docker("port", "web").splitlines()
    assert {"80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"} <= set(ports) and len(ports) == 3
    assert "0.0.0.0:8080->80/tcp" in docker("ps", "--format", "{{.Ports}}")
    host = ["nsenter", f"--net=/run/netns/{daemon.netns}"]

    def answers(port: str) -> bool:
        return "404" in ask(host, "GET / HTTP/1.0\r\n\r\n", "tcp", "127.0.0.1", port)

    chosen = next(line.rpartition(":")[2] for line in ports if "127.0.0.1" in line)
    assert answers("8080") and answers(chosen)
    said = docker("run", "-d", "--name", "late", "-p", "8080:80", *SERVE, status=125)
    assert "port is already allocated" in said
    daemon.kill()
    assert answers("8080")
    daemon.start()
    docker("restart", "-t", "0", "web")
    until(lambda: answers("8080"), 60)
    docker("rm", "-f", "web")
    assert not answers("8080")


def test_names_of_several_networks_also_while_the_daemon_is_down(docker: DockerClient, daemon: Daemon) -> None:
    for network in ("front", "back", "other"):
        docker("network", "create", network)
        docker("run", "-d", "--name", f"in_{network}", "--network", network, "--network-alias", "db", *SLEEP)
    docker("run", "-d", "--name", "web", "--network", "front", "--network", "back", *SLEEP)

    def address(network: str) -> str:
        return str(docker.inspect("inspect", f"in_{network}")["NetworkSettings"]["Networks"][network]["IPAddress"])

    known = {network: address(network) for network in ("front", "back", "other")}
    for network in ("front", "back"):
        assert f"Address: {known[network]}" in knows(docker, "web", f"in_{network}")
    assert known["other"] not in knows(docker, "web", "in_other")
    assert known["front"] in (said := knows(docker, "web", "db")) and known["back"] in said
    assert known["back"] not in knows(docker, "in_front", "in_back")
    pid, gateway = daemon.pid("web"), docker("exec", "web", "cat", "/etc/resolv.conf").split()[1]
    daemon.kill()
    inside = ["nsenter", "-t", str(pid), "-n", "busybox", "nslookup", "in_back.isola", gateway]
    assert known["back"] in subprocess.run(inside, capture_output=True, check=True).stdout.decode()
    daemon.start()
    docker("rm", "-f", "in_back")
    until(lambda: known["back"] not in knows(docker, "web", "in_back"), 60)
    docker("network", "disconnect", "back", "web")
    assert f"Address: {known['front']}" in knows(docker, "web", "in_front")


def test_several_networks_and_the_way_out(docker: DockerClient) -> None:
    docker("network", "create", "first")
    docker("network", "create", "second")
    docker("run", "-d", "--name", "web", "--network", "first", "--network", "name=second,gw-priority=1", *SLEEP)
    gateway = docker.inspect("network", "inspect", "second")["IPAM"]["Config"][0]["Gateway"]
    assert f"default via {gateway}" in docker("exec", "web", "busybox", "ip", "route").splitlines()[0]
    assert set(docker.inspect("inspect", "web")["NetworkSettings"]["Networks"]) == {"first", "second"}
    docker("network", "disconnect", "second", "web")
    assert gateway not in docker("exec", "web", "busybox", "ip", "route")


@pytest.fixture
def lans(daemon: Daemon) -> Iterator[tuple[str, str]]:
    """Links with neighbours, 192.168.50.1 and 192.168.51.1."""
    names = (f"lan{uuid.uuid4().hex[:6]}", f"lan{uuid.uuid4().hex[:6]}")
    try:
        for number, name in enumerate(names):
            daemon.inside("ip", "link", "add", name, "up", "type", "veth", "peer", "name", f"{name}far")
            daemon.inside("ip", "address", "add", f"192.168.5{number}.1/24", "dev", f"{name}far")
            daemon.inside("ip", "link", "set", f"{name}far", "up")
        yield names
    finally:
        for name in names:
            daemon.inside("ip", "link", "delete", name, check=False)


@pytest.fixture
def docker_on_lans(lans: tuple[str, str], docker: DockerClient) -> DockerClient:
    """Its containers end before the links."""
    return docker


def test_macvlans_have_addresses_on_the_networks_of_their_parents(
    lans: tuple[str, str], docker_on_lans: DockerClient
) -> None:
    docker = docker_on_lans
    pools = ("--ip-range=192.168.50.128/26", "--gateway=192.168.50.1", "--subnet=192.168.50.0/24")
    docker("network", "create", "-d", "macvlan", "-o", f"parent={lans[0]}", *pools, "mac0")
    docker("network", "create", "-d", "macvlan", "-o", f"parent={lans[1]}", "--subnet=192.168.51.0/24", "mac1")
    docker("run", "-d", "--name", "one", "--network", "mac0", *SLEEP)
    fixed = ("--network", "mac0", "--ip=192.168.50.9")
    docker("run", "-d", "--name", "two", *fixed, "tiny", "/bin/busybox", "sleep", "1000")
    shown = docker.inspect("inspect", "one")["NetworkSettings"]["Networks"]["mac0"]
    assert shown["IPAddress"] == "192.168.50.128" and shown["Gateway"] == "192.168.50.1"
    assert reaches(docker, "one", "192.168.50.9") and reaches(docker, "one", "192.168.50.1")
    docker("network", "connect", "mac1", "one")
    assert reaches(docker, "one", "192.168.51.1")
    docker("network", "disconnect", "mac1", "one")
    assert "192.168.51." not in docker("exec", "one", "busybox", "ip", "address")
    docker("restart", "-t", "0", "one")
    assert reaches(docker, "one", "192.168.50.9")
