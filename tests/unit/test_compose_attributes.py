"""Every attribute of compose files has an effect, is refused, or is known to have none."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from isola.compose.application import Application, load
from isola.compose.attributes import LIMITED, SILENT, WITHOUT_EFFECT, refuse, warnings
from isola.compose.instances import Server, design
from isola.compose.loading import Source
from isola.compose.networks import network_config
from isola.compose.specification import NETWORK, SERVICE, TABLES
from isola.errors import InvalidInput

_MORE = """\
  db: {image: i, volumes: ["store:/x"]}
networks: {a: {}}
volumes: {store: {}}
"""
_EFFECTS = """
    cap_add: [NET_ADMIN]
    cap_drop: [MKNOD]
    command: [x]
    container_name: own
    cpu_quota: 1000
    cpu_shares: 5
    cpus: 0.5
    cpuset: "0"
    device_cgroup_rules: ["c 1:3 r"]
    devices: [/dev/null]
    dns: 192.0.2.1
    dns_opt: [rotate]
    dns_search: a.org
    domainname: a.org
    entrypoint: x
    environment: [A=b]
    extra_hosts: ["a:192.0.2.1"]
    group_add: [33]
    healthcheck: {test: x}
    hostname: h
    init: true
    ipc: host
    cgroup: host
    labels: [a=b]
    logging: {driver: none}
    mac_address: "02:00:00:00:00:01"
    mem_limit: 64m
    mem_reservation: 64m
    mem_swappiness: 5
    memswap_limit: -1
    network_mode: none
    networks: [a]
    oom_kill_disable: true
    oom_score_adj: 5
    pid: host
    pids_limit: 5
    ports: [80]
    privileged: true
    read_only: true
    restart: always
    runtime: crun
    security_opt: ["no-new-privileges:true"]
    shm_size: 1m
    stdin_open: true
    stop_grace_period: 5s
    stop_signal: SIGINT
    sysctls: [net.core.somaxconn=5]
    tmpfs: /t
    tty: true
    ulimits: {nofile: 5}
    user: "5"
    userns_mode: host
    uts: host
    volumes: ["store:/y"]
    volumes_from: [db]
    working_dir: /x
    blkio_config: {weight: 50}
    storage_opt: {size: 1g}
    deploy: {resources: {limits: {pids: 5}}}
    """
_ELSEWHERE = {
    "image", "build", "platform", "pull_policy", "pull_refresh_after",  # of images
    "depends_on", "links", "profiles", "scale",  # of several services
    "env_file", "label_file", "extends",  # read with the file
    "cpu_period",  # with cpu_quota
    "configs", "secrets", "post_start", "pre_stop",  # done inside
}  # fmt: skip
_EFFECT = {line.strip().partition(":")[0]: line.strip() for line in _EFFECTS.splitlines() if line.strip()}


def _application(service: str, more: str = _MORE) -> Application:
    text = f"name: shop\nservices:\n  web:\n    image: i\n{indent(service, '    ')}\n{more}"
    return load([Path("/srv/compose.yaml")], Path("/srv"), {}, Source(lambda path: text, "/root"))


def _made_of(service: str) -> object:
    found = design(_application(service), "web", 1, "f", Server("fast", ("eth0",)))
    config = {key: value for key, value in found.config.items() if "config-hash" not in key}
    return (found.name, config, found.devices, found.program, found.terminal, found.stdin, found.runtime)


def test_every_attribute_of_a_service_is_accounted_for() -> None:
    top = {path.split(".")[2].removesuffix("[]") for path in (*WITHOUT_EFFECT, *SILENT, *LIMITED)
           if path.startswith("services.")}  # fmt: skip
    assert {*SERVICE} - top - {*_EFFECT} - _ELSEWHERE == set()
    assert ({*_EFFECT} | _ELSEWHERE) - {*SERVICE} == {"extends"}


@pytest.mark.parametrize("attribute", _EFFECT)
def test_attributes_have_an_effect(attribute: str) -> None:
    assert _made_of(_EFFECT[attribute]) != _made_of("labels: {}")


@pytest.mark.parametrize("path", [*WITHOUT_EFFECT, *SILENT, *LIMITED])
def test_listed_attributes_are_known(path: str) -> None:
    """Those of the first level below a table; deeper ones are in tests of what they do."""
    table = max((each for each in TABLES if path.startswith(f"{each}.")), key=len, default="(top)")
    key = path.removeprefix(f"{table}.").split(".")[0].removesuffix("[]")
    assert key in TABLES[table]


@pytest.mark.parametrize(
    ("service", "more", "where"),
    [
        ("gpus: all", "", "services.web.gpus"),
        ("network_mode: other", "", "services.web.network_mode"),
        ("userns_mode: 'keep-id'", "", "services.web.userns_mode"),
        ("volumes: [{type: npipe, source: i, target: /i}]", "", "services.web.volumes[0].type"),
        ("security_opt: [label=x, systempaths=unconfined]", "", "services.web.security_opt"),
        ("logging: {driver: syslog}", "", "services.web.logging.driver"),
        ("volumes: ['vol:/v']", "volumes: {vol: {driver_opts: {type: nfs, device: ':/x'}}}", "volumes.vol.driver_opts"),
        ("volumes: ['vol:/v']", "volumes: {vol: {driver: other}}", "volumes.vol.driver"),
        ("networks: [n]", "networks: {n: {driver: overlay}}", "networks.n.driver"),
        ("secrets: [s]", "secrets: {s: {external: true}}", "secrets.s.external"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused(service: str, more: str, where: str) -> None:
    found = _application(service, f"{more}\n")
    with pytest.raises(InvalidInput) as error:
        refuse(found.part(["web"]))
    assert error.value.field == where


def test_what_other_services_have_is_not_refused() -> None:
    found = _application(
        "labels: {}", "  odd: {image: i, gpus: all, volumes: ['vol:/v']}\nvolumes: {vol: {driver: other}}\n"
    )
    refuse(found.part(["web"]))


def test_warnings_name_what_has_no_effect() -> None:
    found = _application(
        "annotations: {a: b}\nexpose: [80]\nnetworks: {n: {driver_opts: {x: y}}}", "networks: {n: {}}\n"
    )
    assert [text.partition(" has")[0] for text in warnings(found.part(["web"]))] == [
        "services.web.annotations", "services.web.networks.n.driver_opts",
    ]  # fmt: skip


def test_every_attribute_of_a_network_is_accounted_for() -> None:
    given = "{driver_opts: {com.docker.network.driver.mtu: '1400'}, enable_ipv4: false, enable_ipv6: false}"
    config = network_config(_application("networks: [n]", f"networks: {{n: {given}}}\n"), "n")
    assert (config["bridge.mtu"], config["ipv4.address"], config["ipv6.address"]) == ("1400", "none", "none")
    done = {"name", "external", "internal", "labels", "ipam", "driver", "driver_opts", "enable_ipv4", "enable_ipv6"}
    assert {*NETWORK} - done == {"attachable"}
