"""An instance of a service for one command: ``compose run``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isola.compose.application import Application
from isola.compose.instances import LABEL, NUMBER, Design, Server, design
from isola.compose.short_forms import port, volume
from isola.errors import InvalidInput

Tree = dict[str, Any]
ONE_OFF = LABEL + "oneoff"
_LASTING = ("restart", "scale", "container_name")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is different from the other instances of the service."""

    name: str
    command: Sequence[str] = ()
    entrypoint: str | None = None
    environment: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    user: str = ""
    cwd: str = ""
    volumes: Sequence[str] = ()
    """In short forms, with absolute paths."""
    publish: Sequence[str] = ()
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    service_ports: bool = False
    aliases: bool = False
    terminal: bool = False
    stdin: bool = False


def changed(application: Application, service: str, wish: Wish) -> Application:
    """The application with the service as it is wished. Raises InvalidInput."""
    found = {key: value for key, value in application.services[service].items() if key not in _LASTING}
    found["container_name"] = wish.name
    found["deploy"] = {key: value for key, value in found.get("deploy", {}).items() if key == "resources"}
    found["ports"] = [*(found.get("ports", ()) if wish.service_ports else ()), *_several(port, wish.publish)]
    found["volumes"] = _mounts(found.get("volumes", ()), wish.volumes)
    for key, given in (("environment", wish.environment), ("labels", wish.labels)):
        found[key] = {**found.get(key, {}), **(given or {})}
    for key, names in (("cap_add", wish.cap_add), ("cap_drop", wish.cap_drop)):
        found[key] = [*found.get(key, ()), *names]
    if wish.entrypoint is not None:
        found["entrypoint"] = [wish.entrypoint] if wish.entrypoint else []
        found["command"] = []
    if wish.command:
        found["command"] = list(wish.command)
    found |= {"user": wish.user} if wish.user else {}
    found |= {"working_dir": wish.cwd} if wish.cwd else {}
    found |= {"tty": wish.terminal, "stdin_open": wish.stdin}
    if not wish.aliases and found.get("networks"):
        found["networks"] = {
            name: {key: value for key, value in (each or {}).items() if key not in ("aliases", "mac_address")}
            for name, each in found["networks"].items()
        }
    return replace(application, services={**application.services, service: found})


def one_off(application: Application, service: str, image: str, server: Server, wish: Wish) -> Design:
    """Of an application as ``changed``."""
    found = design(application, service, 1, image, server)
    config = {key: value for key, value in found.config.items() if key != NUMBER}
    devices = dict(found.devices)
    if not wish.aliases:
        devices = {
            name: {key: value for key, value in device.items() if key != "dns.aliases"}
            for name, device in devices.items()
        }
    return replace(found, config={**config, ONE_OFF: "True"}, devices=devices)


def _several(parse: Any, texts: Sequence[str]) -> list[Tree]:
    found: list[Tree] = []
    for text in texts:
        try:
            found += parse(text)
        except ValueError as error:
            raise InvalidInput(f"{text[:80]!r} is malformed", evidence=str(error)[:200]) from None
    return found


def _mounts(own: Sequence[Tree], given: Sequence[str]) -> list[Tree]:
    """A path of the command line takes the place of the same one of the file."""
    more = _several(volume, given)
    taken = {each["target"] for each in more}
    return [*(each for each in own if each["target"] not in taken), *more]
