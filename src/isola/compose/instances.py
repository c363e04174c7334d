"""A service of a compose file -> what its instances are made of: image, program, configuration, devices. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isola.compose.application import Application
from isola.compose.changes import Wanted, instance_name
from isola.compose.disks import disks, is_image
from isola.compose.limits import limits, ulimits
from isola.compose.namespaces import namespaces
from isola.compose.networks import nics, ports
from isola.errors import InvalidInput

Tree = dict[str, Any]
LABEL = "user.com.docker.compose."
"""Keys by which instances of an application are found; other compose programs use the same labels."""
PROJECT, SERVICE, NUMBER, DIGEST = (LABEL + key for key in ("project", "service", "container-number", "config-hash"))
_NOT_OF_INSTANCES = ("build", "depends_on", "deploy", "develop", "profiles", "pull_policy", "scale", "attach")


@dataclass(frozen=True, slots=True)
class Server:
    """What the planning has to know of the server."""

    pool: str
    """The storage pool of roots and volumes."""
    links: tuple[str, ...] = ()
    """NICs of the default profile, which services on other networks do not get."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the images whose content is mounted, by their names in the file."""


@dataclass(frozen=True, slots=True)
class Design:
    """An instance to be created."""

    name: str
    image: str
    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]
    program: Mapping[str, object]
    terminal: bool
    stdin: bool
    runtime: str = ""


def design(application: Application, name: str, number: int, image: str, server: Server) -> Design:
    """The ``number``-th instance of a service, of an image with this fingerprint. Raises InvalidInput."""
    service = application.services[name]
    own = service.get("container_name") or instance_name(application.name, name, number)
    config = _environment(service)
    config |= {f"user.{key}": value for key, value in service.get("labels", {}).items()}
    config |= limits(service, f"services.{name}") | _confinement(service) | _host(service) | _life(service)
    config |= namespaces(application, name) | _files(service)
    devices = nics(application, name, server.links) | ports(service, f"services.{name}")
    devices |= disks(application, name, own, server.pool, server.images)
    found = Design(
        name=own,
        image=image,
        config=config,
        devices=devices | _devices(service),
        program=_program(service),
        terminal=bool(service.get("tty")),
        stdin=bool(service.get("stdin_open")),
        runtime=service.get("runtime", ""),
    )
    return replace(found, config={**found.config, **_labels(application, name, number, found)})


def _environment(service: Tree) -> dict[str, str]:
    """A key without a value would be no key."""
    given = service.get("environment", {})
    found = {f"environment.{key}": value for key, value in given.items() if value}
    empty = [key for key, value in given.items() if not value]
    return found | ({"isola.environment.empty": ",".join(empty)} if empty else {})


def _files(service: Tree) -> dict[str, str]:
    """Configs and secrets, which another version of the instance gets, too."""
    found = [path_of(kind, grant) for kind in ("configs", "secrets") for grant in service.get(kind, ())]
    return {"isola.deploy.files": ",".join(found)} if found and not any("," in path for path in found) else {}


def path_of(kind: str, grant: Tree) -> str:
    """Where a config or a secret is inside."""
    target = str(grant.get("target") or grant["source"])
    return target if target.startswith("/") else ("/run/secrets/" if kind == "secrets" else "/") + target


def wanted(application: Application, name: str, image: str, server: Server, replicas: int | None = None) -> Wanted:
    """The service as ``changes`` compares it with what there is."""
    service = application.services[name]
    found = design(application, name, 1, image, server)
    return Wanted(
        service=name,
        digest=found.config[DIGEST],
        replicas=replicas_of(service) if replicas is None else replicas,
        fixed_name=service.get("container_name", ""),
        restarts_with=frozenset(other for other, how in application.needs(name).items() if how.get("restart"))
        | application.shares_with(name),
    )


def replicas_of(service: Tree) -> int:
    """How many instances the file asks for."""
    given = service.get("scale", service.get("deploy", {}).get("replicas", 1))
    if not 0 <= given <= 1000:
        raise InvalidInput(f"{given} instances of a service are not possible", field="scale")
    return int(given)


def _program(service: Tree) -> dict[str, object]:
    found: dict[str, object] = {}
    if "entrypoint" in service:
        found["entrypoint"] = service["entrypoint"] or [""]
    if service.get("command"):
        found["arguments"] = service["command"]
    for key, ours in (("working_dir", "cwd"), ("user", "user"), ("stop_signal", "stop_signal")):
        if service.get(key):
            found[ours] = service[key]
    if "stop_grace_period" in service:
        found["stop_timeout"] = -(-int(service["stop_grace_period"] * 1000) // 1000)
    return found


_FLAGS: tuple[tuple[str, str], ...] = (("init", "isola.init"), ("privileged", "isola.privileged"))
_LISTS: tuple[tuple[str, str], ...] = (
    ("cap_add", "isola.capabilities.add"),
    ("cap_drop", "isola.capabilities.drop"),
    ("group_add", "isola.groups"),
    ("device_cgroup_rules", "isola.devices.allow"),
)


def _confinement(service: Tree) -> dict[str, str]:
    found = {ours: "true" for key, ours in _FLAGS if service.get(key)}
    found |= {ours: ",".join(service[key]) for key, ours in _LISTS if service.get(key)}
    found |= {f"linux.sysctl.{key}": value for key, value in service.get("sysctls", {}).items()}
    found |= ulimits(service)
    for option in service.get("security_opt", ()):
        key, _, value = option.replace("=", ":", 1).partition(":")
        if key == "no-new-privileges":
            found["isola.no_new_privileges"] = value or "true"
        elif key == "seccomp":
            found["isola.seccomp"] = value
        elif key not in ("apparmor", "label"):
            raise InvalidInput(f"security_opt {option[:80]!r} is not supported", field="security_opt")
    return found


def _host(service: Tree) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in ("hostname", "domainname"):
        if service.get(key):
            found[f"isola.{key}"] = service[key]
    lists: tuple[tuple[str, str, Callable[[Any], list[str]]], ...] = (
        ("dns", "isola.dns.servers", list),
        ("dns_search", "isola.dns.search", list),
        ("dns_opt", "isola.dns.options", list),
        ("extra_hosts", "isola.hosts", lambda hosts: [f"{host}={each}" for host in hosts for each in hosts[host]]),
    )
    found |= {ours: ",".join(text(service[key])) for key, ours, text in lists if service.get(key)}
    return found


def _life(service: Tree) -> dict[str, str]:
    found = {"isola.restart": restart} if (restart := _restart(service)) else {}
    if (health := service.get("healthcheck")) is not None:
        test = health.get("test", [])
        if health.get("disable") or test[:1] == ["NONE"]:
            return {**found, "isola.health.disable": "true"}
        if test:
            found["isola.health.command"] = test[1] if test[0] == "CMD-SHELL" else json.dumps(test[1:])
        for key in ("interval", "timeout", "start_period", "start_interval"):
            if key in health:
                found[f"isola.health.{key}"] = f"{health[key]:g}s"
        if "retries" in health:
            found["isola.health.retries"] = str(health["retries"])
    logging = service.get("logging", {})
    if logging.get("driver"):
        found["isola.log.driver"] = logging["driver"]
    for key, ours in (("max-size", "isola.log.max_size"), ("max-file", "isola.log.max_files")):
        if value := (logging.get("options") or {}).get(key):
            found[ours] = value
    return found


def _restart(service: Tree) -> str:
    if service.get("restart"):
        return "" if service["restart"] == "no" else str(service["restart"])
    policy = service.get("deploy", {}).get("restart_policy")
    if policy is None or policy.get("condition") == "none":
        return ""
    if policy.get("condition") == "on-failure":
        return "on-failure" + (f":{policy['max_attempts']}" if policy.get("max_attempts") else "")
    return "always"


_DISKS = re.compile(r"/dev/(sd|vd|xvd|hd|nvme\d+n|loop|dm-|md|mapper/|nbd|zd|sr|ram)", re.ASCII)
"""What Linux calls block devices: the file may be read on another machine than the daemon's."""


def _devices(service: Tree) -> dict[str, dict[str, str]]:
    return {
        f"dev{at}": {
            "type": "unix-block" if _DISKS.match(device["source"]) else "unix-char",
            "source": device["source"],
            "path": device.get("target", device["source"]),
            "mode": "0666" if "w" in device.get("permissions", "rwm") else "0444",
        }
        for at, device in enumerate(service.get("devices", ()))
    }


def _labels(application: Application, name: str, number: int, found: Design) -> dict[str, str]:
    return {
        PROJECT: application.name,
        SERVICE: name,
        NUMBER: str(number),
        DIGEST: _digest(application, name, found),
        f"{LABEL}project.working_dir": str(application.directory),
        f"{LABEL}oneoff": "False",
    }


def _digest(application: Application, name: str, found: Design) -> str:
    """Of what its instances are made of, whatever their number."""
    service = application.services[name]
    stored = {
        kind: {grant["source"]: getattr(application, kind)[grant["source"]] for grant in service.get(kind, ())}
        for kind in ("configs", "secrets")
    }
    own = {key: value for key, value in service.items() if key not in _NOT_OF_INSTANCES}
    facts = {"service": own, "image": found.image, "stored": stored, "config": dict(found.config)}
    if mounted := sorted(source for each in found.devices.values() if is_image(source := each.get("source", ""))):
        facts["mounted"] = mounted
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
