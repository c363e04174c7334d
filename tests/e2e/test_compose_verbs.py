"""``isola compose``: commands in instances of their own, stays until an end, and verbs of one service."""

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
from waiting import until

_FILE = """
    name: oneoff
    services:
      web:
        image: app:3
        command: httpd -f -p 8080 -h /srv
        ports: ["18081:8080"]
        environment: {A: file}
        volumes: [data:/data, /anon]
        secrets: [token]
        stop_signal: SIGKILL
        depends_on: {db: {condition: service_healthy, restart: true}}
      db:
        image: app:3
        command: [sh, -c, "trap 'echo hangup' HUP; while true; do sleep 0.2; done"]
        stop_signal: SIGKILL
        healthcheck: {test: [CMD, "true"], interval: 1s}
      job: {image: app:3, command: [sh, -c, "echo done; exit 3"], profiles: [job]}
    volumes: {data: {}}
    secrets: {token: {content: s3cret}}
    """


class Compose:
    """``isola compose`` in a directory with a compose file."""

    def __init__(self, isola: Cli, place: Path) -> None:
        self.isola, self.place = isola, place
        (place / "compose.yaml").write_text(dedent(_FILE))

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.isola("compose", *arguments, cwd=self.place, **options)

    def ended(self, *arguments: str, **options: Any) -> tuple[int, str]:
        done = self(*arguments, check=False, **options)
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def application(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon with an application image."""
    fingerprint = import_application(daemon, "docker.io/library/app:3")
    yield daemon
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


@pytest.fixture
def compose(application: Daemon, isola: Cli, tmp_path: Path) -> Iterator[Compose]:
    found = Compose(isola, tmp_path)
    yield found
    found("--profile", "job", "down", "-v", "--remove-orphans")
    for kind in ("/1.0/instances", "/1.0/networks", "/1.0/storage-pools/default/volumes/custom"):
        assert [path for path in application.get(kind) if "oneoff" in path] == []


def test_one_command_has_what_the_service_has_its_own_streams_and_status(compose: Compose, application: Daemon) -> None:
    script = "echo $A $B; cat /run/secrets/token; cat; echo err >&2; exit 5"
    done = compose("run", "--rm", "-e", "B=given", "web", "sh", "-c", script, input="typed", check=False)
    assert (done.returncode, done.stdout) == (5, "file given\ns3crettyped")
    assert done.stderr.endswith("err\n")
    names = [line.split()[0] for line in compose("ps", "-a", "--names").stdout.splitlines()]
    assert names == ["oneoff-db-1"], "what it depends on was started, and runs on; the one for the command is gone"
    assert compose.ended("run", "--rm", "--no-deps", "--entrypoint", "/bin/id", "-u", "33", "web") == (
        0,
        "uid=33(www) gid=33 groups=33\n",
    )
    assert compose.ended("run", "--rm", "nothing", "true")[0] == 1
    assert [compose.ended("run", "--rm", "web", program)[0] for program in ("missing", "/etc")] == [127, 126]
    assert compose("run", "-d", "--name", "apart", "-P", "web", "httpd", "-f", "-p", "8080").stdout == "apart\n"
    device = application.get("/1.0/instances/apart")["devices"]["port-18081-8080-tcp"]
    assert device["listen"] == "tcp:[::]:18081"
    assert compose("ps", "--names").stdout == "oneoff-db-1\n" and "apart" in compose("ps", "-a", "--names").stdout


def test_up_can_stay_until_a_service_has_ended(compose: Compose) -> None:
    done = compose("--profile", "job", "up", "--exit-code-from", "job", check=False)
    assert done.returncode == 3 and "oneoff-job-1 | done" in done.stdout.replace("  ", " ")
    assert {one["status"] for one in json.loads(compose("ps", "--format", "json").stdout)} == {"Stopped"}
    assert "oneoff-job-1" not in compose("up").stderr, "it is no orphan: its profile is not active"


def test_verbs_of_one_service(compose: Compose, application: Daemon) -> None:
    events = subprocess.Popen(
        [*compose.isola.argv, "compose", "events", "--json", "web"],
        cwd=compose.place, env=compose.isola.env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        compose("create")
        assert compose("ps", "--services", "--status", "running").stdout == ""
        compose("start", "web")
        before = application.get("/1.0/instances/oneoff-web-1")["last_run"]
        compose("exec", "-d", "-e", "X=1", "web", "sh", "-c", "echo $X > /data/x; echo 1 > /anon/x")
        until(lambda: compose("exec", "web", "cat", "/data/x", check=False).stdout == "1\n")
        compose("restart", "db")
        assert application.get("/1.0/instances/oneoff-web-1")["last_run"] != before, "it depends on db with restart"
        compose("up", "--force-recreate", "--renew-anon-volumes", "web")
        assert compose("exec", "web", "sh", "-c", "cat /data/x; ls /anon").stdout == "1\n"
        compose.isola("deploy", "--image", "docker.io/library/app:3", "oneoff-web-1", "--settle", "0")
        assert compose("exec", "web", "cat", "/run/secrets/token").stdout == "s3cret", "a new version has it, too"
        assert (
            application.inside("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://[::1]:18081/").stdout
            == "404"
        )
        compose("kill", "-s", "HUP", "db")
        until(lambda: "hangup" in compose("logs", "db").stdout)
        assert compose("volumes").stdout.count("oneoff") == 2
        compose("rm", "-s", "-v", "web", "db")
        assert compose("ps", "-a", "--names").stdout == ""
        assert compose("config", "--images").stdout == "app:3\napp:3\n"
        assert compose.ended("watch")[0] == 2
    finally:
        events.terminate()
        said = [json.loads(line) for line in events.communicate(timeout=120)[0].splitlines()]
    assert {each["service"] for each in said} == {"web"}
    assert {"created", "started"} <= {each["action"] for each in said}
