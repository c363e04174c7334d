"""``isola deploy`` and ``isola rollback`` over a daemon in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from served_daemon import ServedDaemon

from isola.cli.arguments import UsageError
from isola.cli.commands.deploy import _name_of
from isola.cli.publishing import mounted, published
from isola.client import Client
from isola.errors import InvalidInput, NotFound

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def isola(daemon: ServedDaemon) -> Run:
    environment = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(daemon.directory), "LANG": "C.UTF-8"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        if arguments[0] in ("deploy", "rollback"):
            arguments = (*arguments, "--settle", "0", "--drain", "0")  # no one advances the daemon's clock
        command = [sys.executable, "-m", "isola.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    return run


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_version_is_created_the_next_one_takes_over_and_rollback_returns(isola: Run, client: Client) -> None:
    done = isola("deploy", "--image", "tiny", "web", "--publish", "127.0.0.1:8080:80", "--env", "COLOUR=red")
    ok(done)
    assert "web: version tiny serves" in done.stderr
    first = client.instances.get("web")
    assert first["config"]["environment.COLOUR"] == "red" and first["status"] == "Running"
    assert first["devices"]["port-tcp-8080"]["connect"] == "tcp:0.0.0.0:80"
    done = isola("deploy", "--image", "tiny", "web", "--env", "COLOUR=green")
    ok(done)
    assert "isola rollback web returns to web-previous" in done.stderr
    assert client.instances.get("web")["config"]["environment.COLOUR"] == "green"
    previous = client.instances.get("web-previous")
    assert previous["config"]["environment.COLOUR"] == "red" and previous["status"] == "Stopped"
    assert json.loads(ok(isola("rollback", "web", "--format", "json"))) == {"web": {"status": "done", "error": ""}}
    assert client.instances.get("web")["config"]["environment.COLOUR"] == "red"
    missing = isola("deploy", "--image", "missing", "web")
    assert missing.returncode == 1 and "missing" in missing.stderr


def test_versions_are_listed_and_an_earlier_one_returns_by_its_image(isola: Run, client: Client) -> None:
    image = client.images.fingerprint("tiny")
    client.images.add_alias("docker.io/library/web:20260101-000000", image)
    ok(isola("deploy", "--image", "tiny", "web", "--volume", "data:/srv/data"))
    devices = client.instances.get("web")["devices"]
    assert devices["volume-srv-data"]["source"] == "data"
    assert mounted("/srv:/host:ro")[1] == {
        "type": "disk", "source": "/srv", "path": "/host", "shift": "true", "shift.partial": "true", "readonly": "true"
    }  # fmt: skip
    for text, name, path in (
        ("image:tools:/x", "tools", "/x"),
        ("image:docker.io/library/tools:1:/x/y:ro", "docker.io/library/tools:1", "/x/y"),
    ):
        assert mounted(text)[1] == {"type": "disk", "source": f"image:{name}", "path": path}
    assert mounted("image:/x")[1]["source"] == "image", "a volume of that name"
    assert client.volumes.read("default", "data")[0]["name"] == "data"
    (only,) = json.loads(ok(isola("versions", "web", "--format", "json")))
    assert (only["state"], only["image"]) == ("serves", image)
    done = isola("rollback", "web", "--to", "web:20250101-000000")
    assert done.returncode == 1 and "has had no version" in done.stderr
    assert isola("rollback", "web", "other", "--to", "x").returncode == 2
    for text in ("data", "data:srv", "data:/srv:rw:x"):
        assert isola("deploy", "--image", "tiny", "web", "--volume", text).returncode == 2


def test_a_fleet_is_chosen_by_its_image_or_a_filter_and_reported(isola: Run, client: Client) -> None:
    for name in ("a", "b", "c"):
        client.instances.create(image="tiny", name=name, start=True, config={"user.role": "web"}).wait()
    client.instances.create(image="tiny", name="other", start=True).wait()
    how = ("--config", "user.version=2", "--waves", "1,100%")
    table = ok(isola("deploy", "--image", "tiny", "--select", "config.user.role eq web", *how))
    assert [line.split() for line in table.splitlines()[2:]] == [[name, "serves"] for name in ("a", "b", "c")]
    assert "user.version" not in client.instances.get("other")["config"]
    table = ok(isola("rollback", "--made-from", "tiny", "--parallel", "2"))
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["a", "b", "c"], "the others were not deployed"
    client.instances.create(image="tiny", name="b-next").wait()
    done = isola("deploy", "--image", "tiny", "a", "b", "c", "--format", "json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and "Wave 2 of 3 failed for b" in done.stderr
    assert [found[name]["status"] for name in ("a", "b", "c")] == ["done", "failed", "untouched"]


def test_wrong_use_is_explained(isola: Run) -> None:
    for arguments, said in (
        (("deploy", "--image", "tiny"), "NAME is missing"),
        (("rollback",), "NAME is missing"),
        (("rollback", "a", "--select", "name eq a"), "exclude each other"),
        (("deploy", "--image", "tiny", "web", "--publish", "x"), "--publish"),
        (("deploy", "--image", "tiny", "web", "--waves", "200%"), "more than all"),
        (("rollback", "web"), "not found"),
        (("deploy", "/nonexistent/app"), "No such file"),
    ):
        done = isola(*arguments)
        assert done.returncode != 0 and said in done.stderr, (arguments, done.stderr)


def test_ports_and_names_are_read() -> None:
    assert published("8080:80")[1]["listen"] == "tcp:[::]:8080"
    assert published("[::1]:53/udp") == (
        "port-udp-53",
        {"type": "proxy", "nat": "true", "listen": "udp:[::1]:53", "connect": "udp:0.0.0.0:53"},
    )
    for wrong in ("", "0", "70000", "80:0", "80/sctp", "a:80", "1:2:3"):
        with pytest.raises(UsageError):
            published(wrong)
    assert _name_of("/srv/My_app.v2") == "My-app-v2"
    with pytest.raises(UsageError):
        _name_of("/srv/123")


def test_requests_are_checked_as_a_whole(client: Client) -> None:
    client.instances.create(image="tiny", name="web", start=True).wait()
    begin = client.deployments.deploy
    for error, wanted in (
        (InvalidInput, {"instances": ["web"], "filter": "name eq web"}),
        (InvalidInput, {"instances": ["web"], "terms": {"strategy": "hope"}}),
        (InvalidInput, {"instances": ["web"], "terms": {"timeout": -1}}),
        (InvalidInput, {"instances": ["web"], "terms": {"waves": ["1"], "parallel": 1}}),
        (InvalidInput, {"instances": ["web"], "terms": {"waves": ["1"] * 101}}),
        (InvalidInput, {"instances": ["../x"]}),
        (InvalidInput, {"instances": ["web"], "version": {"config": {"no.such": "key"}}}),
        (NotFound, {"filter": "name eq none"}),
        (NotFound, {"made_from": "none"}),
        (NotFound, {"instances": ["web"], "version": {"profiles": ["none"]}}),
    ):
        with pytest.raises((error, InvalidInput)):
            begin("tiny", **wanted)
    assert client.instances.names() == ["web"]
