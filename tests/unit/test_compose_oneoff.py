"""``compose run``: what an instance for one command has of its service; and when images are fetched again."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from isola.compose.application import Application, load
from isola.compose.changes import Existing, Kind, Recreation, Wanted, changes
from isola.compose.instances import NUMBER, Server
from isola.compose.loading import Source
from isola.compose.oneoff import ONE_OFF, Wish, changed, one_off
from isola.compose.pull_policy import refreshed_after
from isola.errors import InvalidInput

_FILE = """
    name: shop
    services:
      web:
        image: app
        command: serve
        entrypoint: [/start]
        container_name: fixed
        restart: always
        scale: 1
        ports: ["80:80"]
        environment: {A: file, B: file}
        volumes: ["data:/data", /cache]
        networks: {front: {aliases: [site], mac_address: "02:00:00:00:00:01"}}
        deploy: {restart_policy: {condition: any}, resources: {limits: {pids: 5}}}
    networks: {front: {}}
    volumes: {data: {}}
    """


def _application() -> Application:
    file = Path("/srv/compose.yaml")
    return load([file], file.parent, {}, Source(lambda path: dedent(_FILE), "/home/me"))


def _made(wish: Wish) -> tuple[dict[str, str], list[dict[str, str]], dict[str, object]]:
    found = one_off(changed(_application(), "web", wish), "web", "f" * 64, Server("default"), wish)
    return dict(found.config), [dict(device) for device in found.devices.values()], dict(found.program)


def test_it_has_what_the_service_has_but_ports_names_and_restarts() -> None:
    config, devices, program = _made(Wish("once"))
    assert config[ONE_OFF] == "True" and NUMBER not in config and "isola.restart" not in config
    assert config["limits.processes"] == "5" and config["environment.A"] == "file"
    assert [device["type"] for device in devices] == ["nic", "disk", "disk"]
    assert not {"dns.aliases", "hwaddr"} & devices[0].keys()
    assert program == {"entrypoint": ["/start"], "arguments": ["serve"]}


def test_what_the_command_line_says_takes_precedence() -> None:
    wish = Wish(
        "once",
        command=["migrate", "-v"],
        entrypoint="/tool",
        environment={"B": "given"},
        user="5",
        cwd="/srv",
        volumes=["/host:/data:ro"],
        publish=["8080:80"],
        cap_add=["NET_ADMIN"],
        aliases=True,
    )
    config, devices, program = _made(wish)
    assert (config["environment.A"], config["environment.B"]) == ("file", "given")
    assert config["isola.capabilities.add"] == "NET_ADMIN"
    assert program == {"entrypoint": ["/tool"], "arguments": ["migrate", "-v"], "user": "5", "cwd": "/srv"}
    assert [device["listen"] for device in devices if device["type"] == "proxy"] == ["tcp:[::]:8080"]
    assert [device.get("source") for device in devices if device.get("path") == "/data"] == ["/host"]
    assert next(device for device in devices if device["type"] == "nic")["dns.aliases"] == "web,site"


def test_ports_of_the_service_are_published_if_asked_for_and_malformed_ones_refused() -> None:
    _, devices, _ = _made(Wish("once", service_ports=True))
    assert [device["listen"] for device in devices if device["type"] == "proxy"] == ["tcp:[::]:80"]
    with pytest.raises(InvalidInput, match="malformed"):
        _made(Wish("once", publish=["x:80"]))


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        ("daily", 86_400),
        ("weekly", 604_800),
        ("every_1d2h", 93_600),
        ("every_90s", 90),
        ("missing", None),
        ("always", None),
    ],
)
def test_ages_after_which_images_are_fetched_again(policy: str, seconds: int | None) -> None:
    assert refreshed_after({}, policy) == seconds


def test_an_image_is_refreshed_as_another_key_says() -> None:
    assert refreshed_after({"pull_refresh_after": "every_5m"}, "refresh") == 300


def test_dependencies_can_be_replaced_with_the_services_that_are_named() -> None:
    existing = [Existing("shop-db-1", "db", 1, "same", True), Existing("shop-web-1", "web", 1, "same", True)]
    wanted = [Wanted("db", "same", 1), Wanted("web", "same", 1)]
    assert changes("shop", wanted, existing) == {"db": [], "web": []}
    found = changes("shop", wanted, existing, Recreation.CHANGED, ["db"])
    assert [action.kind for action in found["db"]] == [Kind.REPLACE] and found["web"] == []
