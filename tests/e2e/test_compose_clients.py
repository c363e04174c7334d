"""The docker-compose of Debian with the daemon's socket: 1.29 in Debian 12, the plugin of docker where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from application_image import import_application
from command import Cli
from compose_clients import ComposeClient, is_plugin, plugins, programs
from daemon import Daemon
from waiting import until

_FILE = """
    version: "3.9"
    services:
      web:
        build: {context: web, args: {WHO: me}}
        command: httpd -f -p 8080 -h /srv
        ports: ["18085:8080"]
        environment: {GREETING: hello}
        labels: {team: shop}
        networks: {front: {aliases: [site]}, back: {}}
        volumes: ["pages:/srv", "./motd:/etc/motd:ro", "/var/cache"]
        tmpfs: ["/scratch:size=1m"]
        ulimits: {nofile: {soft: 1000, hard: 2000}}
        sysctls: {net.core.somaxconn: 512}
        cap_add: [NET_ADMIN]
        extra_hosts: ["other:192.0.2.7"]
        links: ["db:database"]
        depends_on: [db]
        init: true
        stop_signal: SIGKILL
        restart: unless-stopped
        logging: {driver: json-file, options: {max-size: 1m}}
        healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:8080/page"], interval: 1s, retries: 60}
      db:
        image: app:1
        command: sh -c 'echo started; sleep 1000'
        networks: [back]
        stop_signal: SIGKILL
        read_only: true
        mem_limit: 64m
        hostname: data
    networks: {front: {}, back: {internal: true}}
    volumes: {pages: {labels: {kind: test}}}
    """


@pytest.fixture(scope="module")
def application(daemon: Daemon) -> Iterator[Daemon]:
    fingerprint = import_application(daemon, "docker.io/library/app:1")
    yield daemon
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


@pytest.fixture(params=programs(), ids=lambda program: "plugin" if is_plugin(program) else "v1")
def compose(request: pytest.FixtureRequest, application: Daemon, tmp_path: Path) -> Iterator[ComposeClient]:
    found = ComposeClient(request.param, application, tmp_path)
    found.write(_FILE)
    (tmp_path / "web").mkdir()
    found.write("FROM app:1\nARG WHO\nRUN echo $WHO > /built\n", "web/Dockerfile")
    found.write("welcome\n", "motd")
    try:
        yield found
        found("down", "-v", "--rmi", "local")
        assert found.left() == []
    finally:
        found.run("down", "-v", "--rmi", "local", "--remove-orphans")


def test_an_application_comes_up_and_is_changed(compose: ComposeClient, application: Daemon) -> None:
    compose("up", "-d")
    assert compose.inside("web", "sh", "-c", "cat /built /etc/motd; echo $GREETING; ulimit -n") == (
        "me\nwelcome\nhello\n1000\n"
    )
    compose.inside("web", "sh", "-c", "echo page > /srv/page; echo kept > /var/cache/own")
    assert compose.inside("db", "wget", "-q", "-O", "-", "http://web:8080/page") == "page\n"
    assert application.inside("curl", "-s", "http://127.0.0.1:18085/page").stdout == "page\n"
    assert "\tdatabase\n" in compose.inside("web", "cat", "/etc/hosts")
    assert compose.inside("db", "hostname") == "data\n"
    before = compose("ps", "-q").split()
    compose("up", "-d")
    assert compose("ps", "-q").split() == before, "nothing has changed"
    compose.write(_FILE.replace("hello", "morning"))
    compose("up", "-d")
    after = compose("ps", "-q").split()
    assert len(set(before) & set(after)) == 1, "one of two is replaced"
    assert compose.inside("web", "sh", "-c", "cat /srv/page /var/cache/own; echo $GREETING") == "page\nkept\nmorning\n"
    until(lambda: "(healthy)" in compose("ps"), 30)


def test_services_are_driven(compose: ComposeClient) -> None:
    compose("up", "-d")
    assert compose("port", "web", "8080") == "0.0.0.0:18085\n"
    assert "started" in compose("logs", "db") and "sleep 1000" in compose("top", "db")
    compose("pause", "db")
    assert "aused" in compose("ps")
    compose("unpause", "db")
    compose("stop", "-t", "0")
    compose("start")
    compose("restart", "-t", "0", "db")
    compose("up", "-d", "--scale", "db=3")
    assert len(compose("ps", "-q", "db").split()) == 3
    assert compose("run", "--rm", "-T", "-e", "A=1", "db", "sh", "-c", "echo $A; exit 3", status=3) == "1\n"
    compose("kill", "db")
    compose("rm", "-f", "db")
    assert "latest" in compose("images")
    compose("up", "-d", "--force-recreate")
    assert compose.inside("web", "cat", "/built") == "me\n"


_NEW = """
    services:
      web:
        image: app:1
        command: sh -c 'test -e /data/done && sleep 1000'
        volumes: [data:/data]
        configs: [{source: motd, target: /etc/motd}]
        secrets: [token]
        stop_signal: SIGKILL
        depends_on:
          db: {condition: service_healthy}
          setup: {condition: service_completed_successfully}
      side: {image: "app:1", command: sleep 1000, network_mode: "service:web", pid: "service:web", stop_signal: SIGKILL}
      alone: {image: "app:1", command: sleep 1000, network_mode: none, stop_signal: SIGKILL}
      db:
        image: app:1
        command: sh -c "sleep 1; echo > /ready; sleep 1000"
        stop_signal: SIGKILL
        healthcheck: {test: "cat /ready", interval: 200ms, retries: 100}
        networks: {default: {ipv4_address: 10.98.7.9, mac_address: "02:42:0a:62:07:09"}}
        deploy: {resources: {limits: {cpus: "0.5", memory: 64M}}}
      setup: {image: "app:1", command: sh -c "echo > /data/done", volumes: [data:/data]}
      debug: {image: "app:1", command: sleep 1000, profiles: [debug]}
    networks: {default: {ipam: {config: [{subnet: 10.98.7.0/24}]}}}
    volumes: {data: {}}
    configs: {motd: {content: welcome}}
    secrets: {token: {file: motd}}
    """


@pytest.mark.parametrize("compose", plugins(), indirect=True)
def test_what_only_the_plugin_knows(compose: ComposeClient) -> None:
    compose.write(_NEW)
    compose("up", "-d", "--wait", "web", "side", "alone")
    assert compose.inside("web", "cat", "/etc/motd", "/run/secrets/token") == "welcomewelcome\n"
    shown = {one["Service"]: one for line in compose("ps", "-a", "--format", "json").splitlines()
             for one in [json.loads(line)]}  # fmt: skip
    assert set(shown) == {"web", "side", "alone", "db", "setup"}
    assert (shown["setup"]["State"], shown["setup"]["ExitCode"], shown["db"]["Health"]) == ("exited", 0, "healthy")
    assert "10.98.7.9" in compose.inside("db", "cat", "/etc/hosts")
    (compose.place / "sent").write_text("sent\n")
    compose("cp", "sent", "db:/received")
    compose("cp", "db:/received", "back")
    assert (compose.place / "back").read_text() == "sent\n"
    assert compose("stats", "--no-stream", "--format", "{{.Name}}").count("shop-") == 4
    compose("scale", "alone=2")
    assert "running(5)" in compose("ls")


_READ = {
    "compose.yaml": """
        name: read
        include: [{path: sub/inc.yaml, project_directory: sub}]
        services:
          web:
            extends: {file: base.yaml, service: base}
            image: "img:${TAG:-latest}"
            environment: {A: "${A:-x}", B: "${HOME:+set}", C: $$lit, E: "${EMPTY-unset}"}
            ports: ["8080:80", "127.0.0.1:9000-9001:90-91/udp", {target: 5, published: "6", name: n}, "443"]
            volumes: ["./x:/x:ro", "data:/d", /anon, {type: tmpfs, target: /t, tmpfs: {size: 10m, mode: 1777}}]
            command: echo "a b" $$HOME
            env_file: [{path: a.env}, {path: none.env, required: false}]
            depends_on: [db]
            healthcheck: {test: curl x, interval: 30s, retries: 3}
            deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 50M}}}
            sysctls: [net.x=1]
            labels: ["a=b", c]
            secrets: [{source: s1, target: /run/secrets/s1}]
            shm_size: 64m
            tmpfs: /run
            dns: 192.0.2.1
            networks: {n1: {aliases: [q], priority: 5}, default: {}}
            build: {context: ., args: [X=1], dockerfile: Other}
          db: {image: db, x-foo: bar, entrypoint: [a], restart: always, network_mode: bridge}
          off: {image: o, profiles: [p]}
        networks: {n1: {ipam: {config: [{subnet: 10.0.0.0/24}]}, internal: true, labels: [l=1]}}
        volumes: {data: {labels: {x: y}}}
        secrets: {s1: {file: ./s1}}
        """,
    "compose.override.yaml": """
        services:
          web:
            ports: !override ["8081:81"]
            command: !reset null
            environment: {A: over}
            volumes: ["./y:/x"]
            dns: [192.0.2.2]
            labels: {c: d}
          db: !override {image: db2}
        """,
    "base.yaml": """
        services:
          base: {image: b, user: "5", environment: [BASE=1, A=base], volumes: ["./rel:/rel"], cap_drop: [NET_RAW]}
        """,
    "sub/inc.yaml": "services: {inc: {image: 'inc:${INCV}', volumes: ['./k:/k']}}",
    "sub/.env": "INCV=7",
    "a.env": "F=1\nG=\"a b\"\nA=fromfile\n# c\nexport H=$F\nI='$F'\n",
}
_USUAL = {"required": True, "create_host_path": True}


def _plain(value: Any) -> Any:
    """Without what says nothing."""
    if isinstance(value, dict):
        found = {key: _plain(item) for key, item in value.items() if _USUAL.get(key) is not item}
        return {key: item for key, item in found.items() if item not in (None, "", [], {})}
    return [_plain(item) for item in value] if isinstance(value, list) else str(value)


@pytest.mark.parametrize("compose", plugins(), indirect=True)
def test_files_are_read_as_the_plugin_reads_them(compose: ComposeClient) -> None:
    (compose.place / "sub").mkdir()
    for name, text in _READ.items():
        compose.write(text, name)
    isola = Cli(compose.daemon)
    isola.env = {**isola.env, "HOME": str(compose.place), "COMPOSE_PROJECT_NAME": "shop"}
    ours = isola("compose", "config", cwd=compose.place).stdout
    read, theirs = _plain(yaml.safe_load(ours)), _plain(json.loads(compose("config", "--format", "json")))
    for name, service in theirs.pop("services").items():
        own = read["services"].pop(name)
        assert {key: own.get(key) for key in {*own, *service}} == {key: service.get(key) for key in {*own, *service}}
    assert read.pop("services") == {} and read == theirs
