"""``isola compose`` with a real daemon: applications come up, work together, change, and go."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from application_image import import_application
from command import Cli
from daemon import Daemon

_FILE = """
    name: shop
    services:
      web:
        image: app:1
        command: httpd -f -p 8080 -h /srv/www
        environment: {GREETING: "hello $${USER}", OTHER: "${WHO:-world}"}
        labels: {team: shop}
        ports: ["18080:8080"]
        volumes: [pages:/srv/www, /var/cache]
        networks: {front: {aliases: [site]}, back: {}}
        configs: [{source: motd, target: /etc/motd, mode: 0400}]
        secrets: [token]
        depends_on: [db]
        stop_grace_period: 1s
      db:
        image: app:1
        command: [sleep, "1000"]
        networks: [back]
        stop_signal: SIGKILL
        tmpfs: /scratch:size=1m
        mem_limit: 64m
    networks: {front: {}, back: {internal: true}}
    volumes: {pages: {}}
    configs: {motd: {content: "welcome\\n"}}
    secrets: {token: {environment: TOKEN}}
    """


@pytest.fixture(scope="module")
def application(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon with an application image."""
    fingerprint = import_application(daemon, "docker.io/library/app:1")
    yield daemon
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


class Compose:
    """``isola compose`` in a directory with a compose file."""

    def __init__(self, isola: Cli, place: Path) -> None:
        self._isola, self.place = isola, place
        isola.env = isola.env | {"TOKEN": "s3cret"}

    def write(self, text: str, name: str = "compose.yaml") -> None:
        (self.place / name).write_text(dedent(text))

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._isola("compose", *arguments, cwd=self.place, **options)

    def status(self) -> dict[str, str]:
        """Instance -> status."""
        return {one["name"]: one["status"] for one in json.loads(self("ps", "--format", "json").stdout)}

    def inside(self, service: str, *command: str) -> str:
        """The output of a command in a service."""
        return self("exec", service, *command).stdout


@pytest.fixture
def compose(application: Daemon, isola: Cli, tmp_path: Path) -> Iterator[Compose]:
    found = Compose(isola, tmp_path)
    yield found
    if (tmp_path / "compose.yaml").exists():
        found("down", "-v", "--remove-orphans")
        assert [path for path in application.get("/1.0/instances") if "shop" in path] == []
        assert [path for path in application.get("/1.0/networks") if "shop" in path] == []
        assert [path for path in application.get("/1.0/storage-pools/default/volumes/custom") if "shop" in path] == []


def test_an_application_comes_up_and_its_services_reach_each_other(compose: Compose, application: Daemon) -> None:
    compose.write(_FILE)
    compose("up", "-d")
    assert compose.status() == {"shop-db-1": "Running", "shop-web-1": "Running"}
    compose.inside("web", "sh", "-c", "echo page > /srv/www/index.html")
    assert compose.inside("web", "sh", "-c", "echo $GREETING $OTHER") == "hello ${USER} world\n"
    assert compose.inside("web", "cat", "/etc/motd", "/run/secrets/token") == "welcome\ns3cret"
    assert compose.inside("db", "wget", "-q", "-O", "-", "http://web:8080/") == "page\n"
    assert application.inside("curl", "-s", "http://127.0.0.1:18080/").stdout == "page\n"
    assert "1.0M" in compose.inside("db", "/bin/busybox", "df", "-h", "/scratch")
    assert compose("port", "web", "8080").stdout == "0.0.0.0:18080\n"
    assert compose("port", "web", "81", check=False).returncode == 1
    (compose.place / "pages" / "deep").mkdir(parents=True)
    compose.write("deep page\n", "pages/deep/page")
    compose("cp", "pages/deep", "web:/srv/www")
    assert compose.inside("db", "wget", "-q", "-O", "-", "http://web:8080/deep/page") == "deep page\n"
    compose("cp", "web:/etc/motd", "motd")
    assert (compose.place / "motd").read_text() == "welcome\n"
    assert {line.split()[1] for line in compose("images").stdout.splitlines()[2:]} == {"app:1"}
    config = application.get("/1.0/instances/shop-db-1")["config"]
    assert (config["limits.memory"], config["user.com.docker.compose.project"]) == (str(64 << 20), "shop")


def test_only_what_changes_is_replaced_and_volumes_stay(compose: Compose, application: Daemon) -> None:
    compose.write(_FILE)
    compose("up")
    before = _ids(application)
    compose.inside("web", "sh", "-c", "echo kept > /srv/www/page; echo kept > /var/cache/own; echo gone > /tmp/file")
    assert compose("up").stderr == ""
    assert _ids(application) == before
    compose.write(_FILE.replace("world", "moon"))
    compose("up")
    after = _ids(application)
    assert after["shop-db-1"] == before["shop-db-1"] and after["shop-web-1"] != before["shop-web-1"]
    assert compose.inside("web", "sh", "-c", "cat /srv/www/page /var/cache/own; ls /tmp; echo $OTHER") == (
        "kept\nkept\nmoon\n"
    )


def test_services_are_scaled_stopped_and_started(compose: Compose) -> None:
    compose.write("name: shop\nservices: {db: {image: 'app:1', command: sleep 1000, stop_signal: SIGKILL}}")
    compose("up", "--scale", "db=3")
    assert compose.status() == {f"shop-db-{at}": "Running" for at in (1, 2, 3)}
    compose("scale", "db=2")
    assert compose.status() == {f"shop-db-{at}": "Running" for at in (1, 2)}
    compose("scale", "db=3")
    assert [line.split()[-1] for line in compose("top", "db").stdout.splitlines()[2:]] == ["1000"] * 3
    compose("stop", "-t", "5")
    assert set(compose.status().values()) == {"Stopped"}
    compose("start")
    compose("pause")
    assert set(compose.status().values()) == {"Frozen"}
    compose("unpause")
    compose("up", "--scale", "db=1")
    assert compose.status() == {"shop-db-1": "Running"}
    assert "shop" in compose("ls").stdout


def test_services_wait_for_those_that_they_depend_on(compose: Compose) -> None:
    text = """
        name: shop
        services:
          web:
            image: app:1
            command: sh -c "cat /data/ready /data/done > /data/seen; sleep 1000"
            volumes: [data:/data]
            stop_signal: SIGKILL
            depends_on:
              db: {{condition: service_healthy}}
              setup: {{condition: service_completed_successfully}}
          db:
            image: app:1
            command: sh -c "sleep 1; echo ready > /data/ready; sleep 1000"
            volumes: [data:/data]
            stop_signal: SIGKILL
            healthcheck: {{test: [CMD, cat, /data/ready], interval: 200ms, retries: 50}}
          setup:
            image: app:1
            command: sh -c "sleep 1; echo done > /data/done; exit {status}"
            volumes: [data:/data]
        volumes: {{data: {{}}}}
        """
    compose.write(text.format(status=3))
    refused = compose("up", check=False)
    assert refused.returncode == 1 and "shop-setup-1 has ended with status 3" in refused.stderr
    assert "shop-web-1" not in compose.status()
    compose.write(text.format(status=0))
    compose("up")
    assert compose.inside("web", "cat", "/data/seen") == "ready\ndone\n"


def test_services_share_namespaces_and_run_hooks(compose: Compose, application: Daemon) -> None:
    compose.write(
        """
        name: shop
        services:
          web:
            image: app:1
            command: httpd -f -p 8080 -h /srv
            environment: {V: one}
            stop_signal: SIGKILL
            volumes: [state:/state]
            healthcheck: {test: [CMD, cat, /srv/page], interval: 200ms, retries: 100}
            post_start: [{command: [sh, -c, "echo $$V > /srv/page"]}]
            pre_stop: [{command: "echo stopped >> /state/log"}]
          side: {image: "app:1", command: sleep 1000, network_mode: "service:web", stop_signal: SIGKILL}
          ask:
            image: app:1
            command: sleep 1000
            stop_signal: SIGKILL
            links: ["web:page"]
            volumes_from: ["web:ro"]
        volumes: {state: {}}
        """
    )
    compose("up", "--wait", "--wait-timeout", "60")
    assert compose.inside("side", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/page") == "one\n"
    assert compose.inside("ask", "wget", "-q", "-O", "-", "http://page:8080/page") == "one\n"
    before = _ids(application)
    compose.write((compose.place / "compose.yaml").read_text().replace("V: one", "V: two"))
    compose("up", "--wait", "--no-deps", "web", "side")
    after = _ids(application)
    assert {name for name in after if after[name] != before[name]} == {"shop-web-1"}
    assert compose.inside("side", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/page") == "two\n"
    assert compose.inside("ask", "cat", "/state/log") == "stopped\n"
    compose.write("services: {web: {image: 'app:1', annotations: {a: b}, gpus: all}}", "other.yaml")
    refused = compose("-f", "other.yaml", "up", check=False)
    assert refused.returncode == 1 and "services.web.gpus is not supported" in refused.stderr


def test_images_of_services_are_built(compose: Compose, application: Daemon) -> None:
    (compose.place / "web").mkdir()
    compose.write("FROM app:1\nARG WHO\nRUN --mount=type=secret,id=token cat /run/secrets/token > /t\n"
                  "COPY page /srv/\nRUN echo $WHO >> /srv/page\nCMD [\"httpd\", \"-f\", \"-h\", \"/srv\"]\n",
                  "web/Dockerfile")  # fmt: skip
    compose.write("one\n", "web/page")
    compose.write(
        """
        name: shop
        services:
          web: {build: {context: web, args: {WHO: me}, secrets: [token]}, stop_signal: SIGKILL}
          inline:
            build: {dockerfile_inline: "FROM app:1\\nRUN echo x > /x\\n"}
            command: sleep 1000
            stop_signal: SIGKILL
        secrets: {token: {environment: TOKEN}}
        """
    )
    try:
        compose("up")
        assert compose.inside("web", "cat", "/srv/page", "/t") == "one\nme\ns3cret"
        assert compose.inside("inline", "cat", "/x") == "x\n"
        before = _ids(application)
        compose.write("two\n", "web/page")
        compose("up")
        assert _ids(application) == before, "an existing image is used"
        compose("up", "--build")
        after = _ids(application)
        assert compose.inside("web", "cat", "/srv/page") == "two\nme\n"
        assert after["shop-inline-1"] == before["shop-inline-1"], "the same image was built again"
        compose.write("FROM app:1\nRUN false\n", "web/Dockerfile")
        refused = compose("build", "web", check=False)
        assert refused.returncode == 1 and "service web could not be built" in refused.stderr
    finally:
        compose("down")
        for alias in application.get("/1.0/images/aliases?recursion=1"):
            if "shop-" in alias["name"]:
                application.run("DELETE", f"/1.0/images/{alias['target']}")


def test_logs_of_services(compose: Compose) -> None:
    compose.write(
        """
        name: shop
        services:
          web:
            image: app:1
            command: sh -c 'echo out; echo err >&2; sleep 0.5; echo end; sleep 1000'
            stop_signal: SIGKILL
          db: {image: "app:1", command: "sh -c 'echo data; exit 0'"}
        """
    )
    compose("up")
    compose("exec", "web", "sleep", "1")
    shown = compose("logs")
    assert sorted(shown.stdout.splitlines()) == [
        "shop-db-1  | data", "shop-web-1 | end", "shop-web-1 | out",
    ]  # fmt: skip
    assert shown.stderr == "shop-web-1 | err\n"
    assert compose("logs", "-n", "1", "--no-log-prefix", "web").stdout == "end\n"
    assert compose("logs", "-f", "db").stdout == "shop-db-1 | data\n", "it has ended"
    assert compose("wait", "db").stdout == "shop-db-1: 0\n"


def test_instances_of_removed_services_are_orphans(compose: Compose) -> None:
    text = "name: shop\nservices: {{db: {{image: 'app:1', command: sleep 1000, stop_signal: SIGKILL}}{more}}}"
    compose.write(text.format(more=", old: {image: 'app:1', command: sleep 1000, stop_signal: SIGKILL}"))
    compose("up")
    compose.write(text.format(more=""))
    assert "shop-old-1" in compose("up").stderr
    compose("up", "--remove-orphans")
    assert compose.status() == {"shop-db-1": "Running"}


def test_what_cannot_be_done_is_said_before_anything_is_made(compose: Compose, application: Daemon) -> None:
    compose.write(_FILE.replace("image: app:1", "image: app:none", 1))
    refused = compose("up", "--pull", "never", check=False)
    assert refused.returncode == 1 and "app:none" in refused.stderr
    assert compose("ps", "--names").stdout == ""
    compose.write("services: {web: {image: a, imag: b}}", "other.yaml")
    refused = compose("-f", "other.yaml", "config", check=False)
    assert refused.returncode == 1 and "services.web.imag" in refused.stderr


def _ids(daemon: Daemon) -> dict[str, str]:
    found = daemon.get("/1.0/instances?recursion=1")
    return {one["name"]: one["config"]["volatile.uuid"] for one in found if one["name"].startswith("shop")}
