"""Services of compose files as instances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from isola.compose.application import Application, load
from isola.compose.disks import anonymous_volume
from isola.compose.instances import DIGEST, Design, Server, design, replicas_of, wanted
from isola.compose.loading import Source
from isola.compose.networks import network_config, ports
from isola.errors import InvalidInput
from isola.instances.expand import validate

_SERVER = Server("fast", ("eth0",))


def _application(service: str, more: str = "") -> Application:
    text = f"name: shop\nservices:\n  web:\n    image: i\n{indent(service, '    ')}\n{more}"
    return load([Path("/srv/compose.yaml")], Path("/srv"), {}, Source(lambda path: text, "/root"))


def _design(service: str, more: str = "", number: int = 1) -> Design:
    found = design(_application(service, more), "web", number, "f" * 64, _SERVER)
    validate(found.config, found.devices)
    return found


@pytest.mark.parametrize(
    ("service", "config"),
    [
        ("environment: {A: 1}", {"environment.A": "1"}),
        ("labels: [a.b=c]", {"user.a.b": "c"}),
        ("mem_limit: 64m\nmemswap_limit: 96m", {"limits.memory": str(64 << 20), "limits.memory.swap": str(32 << 20)}),
        ("mem_limit: 64m\nmemswap_limit: 64m", {"limits.memory.swap": "false"}),
        ("mem_limit: 64m\nmemswap_limit: -1", {"limits.memory.swap": "true"}),
        ("deploy: {resources: {limits: {cpus: '0.5', memory: 64m, pids: 9}, reservations: {memory: 8m}}}",
         {"limits.cpu.allowance": "50ms/100ms", "limits.memory": str(64 << 20), "limits.processes": "9",
          "isola.limits.memory.reservation": str(8 << 20)}),
        ("cpu_quota: 25000\ncpu_period: 50000", {"limits.cpu.allowance": "25ms/50ms"}),
        ("cpuset: 0-1\ncpu_shares: 512", {"limits.cpu": "0-1", "isola.limits.cpu.shares": "512"}),
        ("pids_limit: -1", {"limits.processes": None}),
        ("oom_kill_disable: true", {"isola.limits.memory.oom_kill": "false"}),
        ("blkio_config: {weight: 50}", {"isola.limits.disk.weight": "50"}),
        (
            "blkio_config:\n  device_read_bps: [{path: /dev/sda, rate: 12mb}]\n"
            "  device_write_iops: [{path: /dev/sda, rate: 7}]",
            {"isola.limits.disk.read_bps": "/dev/sda:12582912", "isola.limits.disk.write_iops": "/dev/sda:7"},
        ),
        ("userns_mode: host", {"security.privileged": "true"}),
        ("device_cgroup_rules: ['c 1:3 rwm']", {"isola.devices.allow": "c 1:3 rwm"}),
        ("oom_score_adj: 5", {"isola.oom.score_adj": "5"}),
        ("init: true\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]",
         {"isola.init": "true", "isola.capabilities.add": "NET_ADMIN", "isola.capabilities.drop": "ALL"}),
        ("security_opt: ['no-new-privileges:true', seccomp=unconfined]",
         {"isola.no_new_privileges": "true", "isola.seccomp": "unconfined"}),
        ("ulimits: {nofile: 1024, nproc: {soft: 1, hard: -1}}",
         {"limits.kernel.nofile": "1024:1024", "limits.kernel.nproc": "1:unlimited"}),
        ("sysctls: [net.core.somaxconn=1024]", {"linux.sysctl.net.core.somaxconn": "1024"}),
        ("hostname: a\ndomainname: example.org", {"isola.hostname": "a", "isola.domainname": "example.org"}),
        ("group_add: [33, audio]", {"isola.groups": "33,audio"}),
        ("shm_size: 1m", {"isola.shm.size": str(1 << 20)}),
        ("restart: 'no'", {"isola.restart": None}),
        ("restart: on-failure:3", {"isola.restart": "on-failure:3"}),
        ("deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}", {"isola.restart": "on-failure:2"}),
        ("deploy: {restart_policy: {condition: any}}", {"isola.restart": "always"}),
        ("healthcheck: {test: curl x, interval: 1m30s, timeout: 500ms, retries: 2, start_period: 5s}",
         {"isola.health.command": "curl x", "isola.health.interval": "90s", "isola.health.timeout": "0.5s",
          "isola.health.retries": "2", "isola.health.start_period": "5s"}),
        ("healthcheck: {test: [CMD, a, 'b c']}", {"isola.health.command": '["a", "b c"]'}),
        ("healthcheck: {test: [NONE]}", {"isola.health.disable": "true", "isola.health.command": None}),
        ("healthcheck: {disable: true}", {"isola.health.disable": "true"}),
        ("logging: {driver: json-file, options: {max-size: 10m, max-file: '3'}}",
         {"isola.log.driver": "json-file", "isola.log.max_size": "10m", "isola.log.max_files": "3"}),
    ],
)  # fmt: skip
def test_configuration(service: str, config: dict[str, str | None]) -> None:
    found = _design(service).config
    assert {key: found.get(key) for key in config} == config


@pytest.mark.parametrize(
    ("service", "program"),
    [
        ("", {}),
        ("command: run 'a b'", {"arguments": ["run", "a b"]}),
        ("entrypoint: /run\ncommand: [x]", {"entrypoint": ["/run"], "arguments": ["x"]}),
        ("entrypoint: []", {"entrypoint": [""]}),
        ("working_dir: /srv\nuser: '33:33'\nstop_signal: SIGQUIT\nstop_grace_period: 1m30s",
         {"cwd": "/srv", "user": "33:33", "stop_signal": "SIGQUIT", "stop_timeout": 90}),
    ],
)  # fmt: skip
def test_programs(service: str, program: dict[str, object]) -> None:
    assert _design(service).program == program


def test_networks() -> None:
    more = "networks: {a: {}, b: {name: own}}"
    service = "networks: {a: {aliases: [x, web], ipv4_address: 192.0.2.9}, b: {gw_priority: 5}}"
    assert _design(service, more).devices == {
        "eth0": {"type": "nic", "network": "own", "name": "eth0", "dns.aliases": "web"},
        "eth1": {
            "type": "nic", "network": "shop_a", "name": "eth1", "dns.aliases": "web,x", "ipv4.address": "192.0.2.9",
        },
    }  # fmt: skip
    near = _design("networks: {a: {link_local_ips: [169.254.8.8, 'fe80::8']}}", "networks: {a: {}}").devices["eth0"]
    assert near["link_local.addresses"] == "169.254.8.8,fe80::8"
    assert _design("network_mode: none").devices == {"eth0": {"type": "none"}}
    assert _design("network_mode: bridge").devices == {}


@pytest.mark.parametrize(
    ("service", "keys"),
    [
        ("network_mode: host\nhostname: x", {"network": "host"}),
        ("network_mode: 'service:db'\npid: service:db\nipc: host", {"network": "db", "pid": "db", "ipc": "host"}),
        (
            "network_mode: 'container:other'\nuts: host\ncgroup: host",
            {"network": "container:other", "uts": "host", "cgroup": "host"},
        ),
        ("network_mode: none\nipc: shareable\npid: private\ncgroup: private", {}),
    ],
)
def test_namespaces_of_others(service: str, keys: dict[str, str]) -> None:
    found = _design(service, "  db: {image: i}\n")
    wanted = {
        f"isola.namespaces.{kind}": "container:shop-db-1" if mode == "db" else mode for kind, mode in keys.items()
    }
    assert {key: value for key, value in found.config.items() if key.startswith("isola.namespaces.")} == wanted
    assert found.devices == {"eth0": {"type": "none"}}


def test_what_shares_a_network_has_no_ports_and_is_restarted_with_its_owner() -> None:
    with pytest.raises(InvalidInput):
        _design("network_mode: 'service:db'\nports: [80]", "  db: {image: i}\n")
    found = _application("network_mode: 'service:db'", "  db: {image: i}\n")
    assert wanted(found, "web", "f", _SERVER).restarts_with == {"db"}


def test_links_are_names_of_the_other_service() -> None:
    more = "  api: {image: i, links: ['web:site', 'web']}\n  far: {image: i, links: ['web:gone'], networks: [x]}\n"
    found = _design("labels: {}", more + "networks: {x: {}}\n")
    assert found.devices["eth0"]["dns.aliases"] == "web,site"


def test_volumes_of_other_services_and_of_directories() -> None:
    more = "  db: {image: i, volumes: ['data:/d', '/own', '/srv/x:/x'], volumes_from: [log]}\n"
    more += "  log: {image: i, volumes: ['log:/log'], tmpfs: /t}\n"
    more += "volumes: {data: {}, log: {driver_opts: {type: none, o: bind, device: /srv/log}}}\n"
    found = {each["path"]: each for each in _design("volumes_from: ['db:ro']", more).devices.values() if "path" in each}
    assert {path: each["source"] for path, each in found.items()} == {
        "/d": "shop_data", "/own": anonymous_volume("shop-db-1", "/own"), "/x": "/srv/x", "/log": "/srv/log",
    }  # fmt: skip
    assert {each["readonly"] for each in found.values()} == {"true"}


def test_configuration_of_networks() -> None:
    found = _application(
        "networks: [a, b]",
        "networks: {a: {internal: true, labels: [x=y]}, "
        "b: {ipam: {config: [{subnet: 192.0.2.0/24, ip_range: 192.0.2.128/25}]}, enable_ipv6: false}}",
    )
    assert network_config(found, "a") == {
        "user.x": "y", "user.com.docker.compose.project": "shop", "user.com.docker.compose.network": "a",
        "ipv4.nat": "false", "ipv4.routing": "false", "ipv6.nat": "false", "ipv6.routing": "false",
    }  # fmt: skip
    own = network_config(found, "b")
    assert (own["ipv4.address"], own["ipv6.address"]) == ("192.0.2.1/24", "none")
    assert own["ipv4.dhcp.ranges"] == "192.0.2.128-192.0.2.255"
    with pytest.raises(InvalidInput):
        network_config(_application("networks: [a]", "networks: {a: {driver: overlay}}"), "a")


def test_disks() -> None:
    service = """\
volumes:
- data:/data:ro
- /anonymous
- ./src:/src
- {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0o1777}}
- {type: volume, source: data, target: /part, volume: {nocopy: true, subpath: a/b}}
tmpfs: ["/run:size=2m,uid=5,noexec", "/x:exec,ro", /y]
read_only: true
"""
    disks = {each["path"]: each for each in _design(service, "volumes: {data: {}}").devices.values() if "path" in each}
    assert disks == {
        "/data": {"type": "disk", "path": "/data", "pool": "fast", "source": "shop_data", "readonly": "true",
                  "copy": "true"},
        "/anonymous": {"type": "disk", "path": "/anonymous", "pool": "fast", "copy": "true",
                       "source": anonymous_volume("shop-web-1", "/anonymous")},
        "/src": {"type": "disk", "path": "/src", "source": "/srv/src", "shift": "true",
                 "shift.partial": "true", "recursive": "true", "create": "true"},
        "/t": {"type": "disk", "path": "/t", "source": "tmpfs:", "size": str(1 << 20), "mode": "1777",
               "raw.mount.options": "noexec"},
        "/part": {"type": "disk", "path": "/part", "pool": "fast", "source": "shop_data", "subpath": "a/b"},
        "/run": {"type": "disk", "path": "/run", "source": "tmpfs:", "size": "2m", "uid": "5", "mode": "1777",
                 "raw.mount.options": "noexec"},
        "/x": {"type": "disk", "path": "/x", "source": "tmpfs:", "mode": "1777", "readonly": "true",
               "raw.mount.options": "exec"},
        "/y": {"type": "disk", "path": "/y", "source": "tmpfs:", "mode": "1777", "raw.mount.options": "noexec"},
        "/": {"type": "disk", "path": "/", "pool": "fast", "readonly": "true"},
    }  # fmt: skip


def test_contents_of_images_are_those_of_their_fingerprints() -> None:
    service = "volumes: [{type: image, source: 'tools:1', target: /t, read_only: true, image: {subpath: a}}]"
    application = _application(service)
    known = [replace(_SERVER, images=images) for images in ({}, {"tools:1": "f00"}, {"tools:1": "f11"})]
    made = [design(application, "web", 1, "f", server) for server in known]
    (found,) = [each for each in made[1].devices.values() if each.get("path") == "/t"]
    assert found == {"type": "disk", "path": "/t", "source": "image:f00", "subpath": "a", "readonly": "true"}
    assert len({each.config[DIGEST] for each in made}) == 3, "another image makes another instance"
    with pytest.raises(InvalidInput, match="needs a source"):
        design(_application("volumes: [{type: image, target: /t}]"), "web", 1, "f", _SERVER)


def test_the_digest_is_of_what_an_instance_is_made_of() -> None:
    def digest(service: str, number: int = 1, image: str = "f" * 64, more: str = "") -> str:
        return design(_application(service, more), "web", number, image, _SERVER).config[DIGEST]

    base = digest("command: a")
    assert digest("command: a", 2) == base
    assert digest("command: a\nscale: 3\nprofiles: []\ndeploy: {replicas: 3}") == base
    assert digest("command: b") != base
    assert digest("command: a", image="e" * 64) != base
    secret = "secrets: [s]"
    assert digest(secret, more="secrets: {s: {content: x}}") != digest(secret, more="secrets: {s: {content: y}}")


def test_wanted_instances() -> None:
    found = _application("scale: 3\ndepends_on: {db: {condition: service_started, restart: true}}", "  db: {image: i}")
    each = wanted(found, "web", "f" * 64, _SERVER)
    assert (each.replicas, each.restarts_with, each.fixed_name) == (3, frozenset({"db"}), "")
    assert wanted(found, "web", "f" * 64, _SERVER, replicas=0).replicas == 0
    assert replicas_of(_application("deploy: {replicas: 2}").services["web"]) == 2
    with pytest.raises(InvalidInput):
        replicas_of({"scale": -1})


@pytest.mark.parametrize(
    "service",
    [
        "mem_limit: 64m\nmemswap_limit: 1m",
        "mem_limit: 64m\ndeploy: {resources: {limits: {memory: 65m}}}",
        "security_opt: ['systempaths=unconfined']",
        "volumes: [{type: cluster, source: x, target: /y}]",
    ],
)
def test_what_cannot_be_done_is_refused(service: str) -> None:
    with pytest.raises(InvalidInput):
        _design(service)


def test_published_ports() -> None:
    devices: dict[str, Any] = {
        name: device
        for name, device in _design("ports: ['8080:80', '[::1]:53:53/udp', '9:9/sctp']").devices.items()
        if "listen" in device
    }
    assert devices == {
        "port-8080-80-tcp": {"type": "proxy", "listen": "tcp:[::]:8080", "connect": "tcp:0.0.0.0:80", "nat": "true"},
        "port-53-53-udp": {"type": "proxy", "listen": "udp:[::1]:53", "connect": "udp:[::]:53", "nat": "true"},
        "port-9-9-sctp": {"type": "proxy", "listen": "sctp:[::]:9", "connect": "sctp:0.0.0.0:9", "nat": "true"},
    }


def test_one_port_on_several_addresses_is_several_devices() -> None:
    found = ports(
        {"ports": [{"target": 80, "published": "80", "host_ip": ip} for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.2")]},
        "services.a",
    )
    assert [device["listen"] for device in found.values()] == ["tcp:192.0.2.1:80", "tcp:192.0.2.2:80"]


def test_a_single_cpu_is_a_set_and_no_number_of_cpus() -> None:
    assert _design("cpuset: '2'").config["limits.cpu"] == "2-2"
    assert _design("cpuset: 0,2").config["limits.cpu"] == "0,2"


def test_variables_without_a_value_are_set() -> None:
    config = _design("environment: {A: x, B: '', C: ''}").config
    assert config["isola.environment.empty"] == "B,C" and "environment.B" not in config
    validate(config, {})


def test_configs_and_secrets_are_handed_on_to_new_versions() -> None:
    config = _design("secrets: [s]", "secrets: {s: {content: x}}").config
    assert config["isola.deploy.files"] == "/run/secrets/s"
