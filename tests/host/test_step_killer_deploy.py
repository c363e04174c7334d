"""A failure, cancellation and kill at every step of deployments and rollbacks; one version serves afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from audit import records
from daemon import Daemon
from step_walk import ACTIONS, Verb, walk, walked_daemon

PORT = {"type": "proxy", "listen": "tcp:127.0.0.1:7081", "connect": "tcp:0.0.0.0:80", "nat": "true"}
TERMS = {"settle": 0, "drain": 0, "stop_timeout": 20}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with walked_daemon(tmp_path_factory.mktemp("image")) as daemon:
        daemon.import_image(daemon.directory / "tiny.tar", "tiny")
        yield daemon


def nothing(daemon: Daemon, runtime: str) -> None:
    for name in records(daemon, "instances"):
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


def act(daemon: Daemon, action: str, **more: Any) -> None:
    body = {"action": action, "instances": ["victim"], **TERMS, **more}
    daemon.run("POST", "/1.0/isola/deployments", body)


def deploy(daemon: Daemon, runtime: str, **more: Any) -> None:
    config = {"user.version": "2"}
    act(daemon, "deploy", source={"type": "image", "alias": "tiny"}, config=config, runtime=runtime, **more)


def stop_first(daemon: Daemon, runtime: str) -> None:
    deploy(daemon, runtime, strategy="stop-first")


def serving(daemon: Daemon, runtime: str) -> None:
    nothing(daemon, runtime)
    source = {"type": "image", "alias": "tiny"}
    body = {"name": "victim", "source": source, "runtime": runtime, "devices": {"http": PORT}, "start": True}
    daemon.run("POST", "/1.0/instances", {**body, "config": {"user.version": "1"}})


def deployed(daemon: Daemon, runtime: str) -> None:
    serving(daemon, runtime)
    deploy(daemon, runtime)


def versions(daemon: Daemon) -> dict[str, tuple[str, str]]:
    """Name -> what it is to be, and its version."""
    found = records(daemon, "instances")
    return {name: (each["desired"], each["config"]["user.version"]) for name, each in found.items()}


def one_serves(daemon: Daemon) -> bool:
    found = versions(daemon)
    others = {desired for name, (desired, _) in found.items() if name != "victim"}
    return found["victim"][0] == "running" and others <= {"stopped"} and set(found) <= {"victim", "victim-previous"}


def serves(version: str, daemon: Daemon) -> bool:
    return one_serves(daemon) and versions(daemon)["victim"] == ("running", version)


VERBS = (
    Verb("deploy", None, serving, deploy, lambda d: serves("2", d), one_serves),
    Verb("stop-first", None, serving, stop_first, lambda d: serves("2", d), one_serves),
    Verb("rollback", None, deployed, lambda d, r: act(d, "rollback"), lambda d: serves("1", d), one_serves),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_step_of(verb: Verb, action: str, daemon: Daemon) -> None:
    walk(daemon, verb, "crun", action)
    nothing(daemon, "crun")
