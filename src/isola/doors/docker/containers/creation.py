"""A request for a container becomes a request for an instance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isola.doors.docker.architectures import platform_of
from isola.doors.docker.containers.behaviour_keys import health_keys
from isola.doors.docker.containers.host_devices import host_devices
from isola.doors.docker.containers.host_keys import keys_of
from isola.doors.docker.containers.mounts import Mounts, device_name, mounts_of
from isola.doors.docker.containers.namespaces import has_own_network, namespace_keys
from isola.doors.docker.containers.networking import nic_devices
from isola.doors.docker.containers.ports import exposed_ports, port_devices
from isola.doors.docker.containers.refused import refuse
from isola.doors.docker.containers.security import security_keys
from isola.doors.docker.containers.volumes import read_only_root, volumes_from
from isola.doors.docker.networks.links import link_names, links_in, with_links
from isola.doors.docker.notes import Note, label_keys
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.model.image import Image
from isola.model.instance import Devices, InstanceRequest
from isola.model.program import Program

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_ECHOED = (
    "AttachStderr", "AttachStdin", "AttachStdout", "Cmd", "Domainname", "Entrypoint", "Env", "ExposedPorts",
    "Hostname", "OpenStdin", "StdinOnce", "Volumes", "ArgsEscaped", "OnBuild", "Shell",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a container, translated; volumes are created, and images looked up, by the caller."""

    request: InstanceRequest
    mounts: Mounts


def container_name(text: str) -> str:
    """Raises InvalidInput."""
    name = text.removeprefix("/")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"Invalid container name ({text[:80]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", field="name"
        )
    return name


def translate(request: Request, fields: Fields, raw: Mapping[str, Any], image: Image) -> Wanted:
    """The instance that is wanted. Raises InvalidInput, NotFound, Unsupported."""
    host, endpoints = fields.inside("HostConfig"), fields.inside("NetworkingConfig").inside("EndpointsConfig")
    refuse(host)
    _refuse_config(fields)
    labels = dict(image.config.labels) | fields.mapping("Labels", empty=True)
    keys, bare = label_keys(labels)
    exposed = exposed_ports(fields, image.config.exposed_ports)
    mounts = mounts_of(host, dict.fromkeys((*image.config.volumes, *fields.inside("Volumes").names())))
    devices: dict[str, Mapping[str, str]] = {
        **volumes_from(request, host),
        **mounts.devices,
        **port_devices(host, exposed),
    }
    if has_own_network(host) and not fields.boolean("NetworkDisabled"):
        devices |= nic_devices(request, host, endpoints)
    devices |= host_devices(host)
    if host.boolean("ReadonlyRootfs"):
        devices |= read_only_root(request)
    name = request.query.get("name", "")
    note = Note(fields.text("Image"), _echo(raw, exposed), raw.get("HostConfig") or {}, bare)
    wanted = InstanceRequest(
        name=container_name(name) if name else None,
        project=request.project,
        image=image.fingerprint,
        runtime=host.text("Runtime", "") or None,
        config={
            **keys,
            **_environment(fields),
            **_hostname(fields),
            **with_links(keys_of(host), link_names(request, links_in(host, endpoints))),
            **security_keys(host),
            **health_keys(fields),
            **namespace_keys(request, host),
            **({"isola.namespaces.network": "none"} if fields.boolean("NetworkDisabled") else {}),
        },
        devices=devices,
        ephemeral=host.boolean("AutoRemove"),
        terminal=fields.boolean("Tty"),
        stdin=fields.boolean("OpenStdin"),
        stdin_once=fields.boolean("StdinOnce"),
        program=_program(fields),
        notes=note.encoded(),
    )
    return Wanted(wanted, mounts)


def with_volumes(wanted: Wanted, volumes: Devices) -> Devices:
    """All devices, with those of volumes by their paths."""
    return {**wanted.request.devices, **{device_name(path): device for path, device in volumes.items()}}


def _refuse_config(fields: Fields) -> None:
    if fields.text("MacAddress", ""):
        raise Unsupported("Config.MacAddress is not offered: name it for the network", field="Config.MacAddress")


def _program(fields: Fields) -> Program:
    timeout = fields.whole("StopTimeout", 0, minimum=-1) if fields.has("StopTimeout") else None
    return Program(
        entrypoint=_words(fields, "Entrypoint"),
        arguments=_words(fields, "Cmd"),
        cwd=fields.text("WorkingDir", "") or None,
        user=fields.text("User", "") or None,
        stop_signal=fields.text("StopSignal", "") or None,
        stop_timeout=timeout,
    )


def _words(fields: Fields, name: str) -> tuple[str, ...] | None:
    """A list, or one string as older clients send it; None where it is absent."""
    if not fields.has(name):
        return None
    return (fields.text(name),) if fields.holds(name, str) else fields.texts(name)


def _environment(fields: Fields) -> dict[str, str]:
    found = {}
    for each in fields.texts("Env"):
        name, equals, value = each.partition("=")
        if not name:
            raise InvalidInput(f"invalid environment variable: {each[:80]}")
        if equals:
            found[f"environment.{name}"] = value
    return found


def warnings_of(fields: Fields) -> list[str]:
    """What is not done as asked."""
    bare = [
        name for name, equals, value in (each.partition("=") for each in fields.texts("Env")) if equals and not value
    ]
    return [f"Variables without a value are not set: {', '.join(bare)[:500]}"] if bare else []


def _hostname(fields: Fields) -> dict[str, str]:
    name, domain = fields.text("Hostname", ""), fields.text("Domainname", "")
    found = {"isola.hostname": name, "isola.domainname": domain}
    return {key: value for key, value in found.items() if value}


def _echo(raw: Mapping[str, Any], exposed: Mapping[str, object]) -> dict[str, Any]:
    found = {name: raw[name] for name in _ECHOED if raw.get(name) is not None}
    return found | ({"ExposedPorts": dict(exposed)} if exposed else {})


def require_platform(text: str, image: Image, shown: str) -> None:
    """``linux/amd64`` has to be the image's. Raises NotFound."""
    system, _, rest = text.partition("/")
    architecture = rest.partition("/")[0]
    if text and (system != "linux" or architecture not in ("", platform_of(image.architecture), image.architecture)):
        raise NotFound(
            f"image with reference {shown} was found but does not provide the specified platform ({text[:80]})"
        )
