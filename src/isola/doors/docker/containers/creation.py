"""A request for a container becomes a request for an instance."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isola.doors.docker.architectures import platform_of, require_platform_name
from isola.doors.docker.containers.behaviour_keys import health_keys
from isola.doors.docker.containers.conflicts import refuse_conflicts
from isola.doors.docker.containers.environment import environment_keys
from isola.doors.docker.containers.host_devices import host_devices
from isola.doors.docker.containers.host_keys import keys_of
from isola.doors.docker.containers.mounts import Mounts, device_name, mounts_of, with_images
from isola.doors.docker.containers.namespaces import has_own_network, is_apart, namespace_keys
from isola.doors.docker.containers.networking import nic_devices
from isola.doors.docker.containers.ports import exposed_ports, port_devices
from isola.doors.docker.containers.refused import refuse
from isola.doors.docker.containers.resource_checks import check_resources, present_on
from isola.doors.docker.containers.security import security_keys
from isola.doors.docker.containers.volumes import root_devices, volumes_from
from isola.doors.docker.identity import container_id
from isola.doors.docker.image_lookup import find_image
from isola.doors.docker.networks.links import link_keys, links_in, with_links
from isola.doors.docker.notes import Note, label_keys
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, NotFound
from isola.model.image import Image
from isola.model.instance import Devices, InstanceRequest
from isola.model.isolation import ISOLATIONS
from isola.model.program import Program
from isola.model.signals import signal_number

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_SHORT = 12
_RESTART = "isola.restart"
_SHIM = "io.containerd.runc.v2"
_ECHOED = (
    "AttachStderr", "AttachStdin", "AttachStdout", "Cmd", "Domainname", "Entrypoint", "Env", "ExposedPorts",
    "Hostname", "OpenStdin", "StdinOnce", "User", "Volumes", "ArgsEscaped", "OnBuild", "Shell",
    "StopSignal",
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
    refuse(host, request.version)
    refuse_conflicts(fields, host)
    check_resources(host, present_on(request))
    labels = dict(image.config.labels) | fields.mapping("Labels", empty=True)
    keys, bare = label_keys(labels)
    exposed = exposed_ports(fields, image.config.exposed_ports)
    inherited = volumes_from(request, host)
    taken = {device["path"] for device in inherited.values()}
    own = (path for path in (*image.config.volumes, *fields.inside("Volumes").names()) if _clean(path) not in taken)
    mounts = mounts_of(host, dict.fromkeys(own), request.services.host.system.memory_total)
    mounts = with_images(mounts, lambda text: find_image(request, text).fingerprint)
    devices: dict[str, Mapping[str, str]] = {
        **inherited,
        **mounts.devices,
        **_published(host, exposed),
    }
    address = fields.text("MacAddress", "")
    if has_own_network(host) and not fields.boolean("NetworkDisabled"):
        devices |= nic_devices(request, host, endpoints, address)
    devices |= host_devices(host)
    devices |= root_devices(request, host)
    name = request.query.get("name", "")
    note = Note(fields.text("Image"), _echo(raw, exposed), raw.get("HostConfig") or {}, bare)
    id = request.services.host.clock.token(8)
    wanted = InstanceRequest(
        id=id,
        name=container_name(name) if name else None,
        project=request.project,
        image=image.fingerprint,
        isolation=(isolation := _isolation(request, host.text("Runtime", ""))),
        runtime=None if isolation else _runtime(request, host.text("Runtime", "")),
        config={
            **keys,
            **environment_keys(fields),
            **_hostname(fields, host, id),
            _RESTART: "no",  # not even after a boot of the host, unless the request says so
            **with_links(keys_of(host), links_in(request, host, endpoints)),
            **link_keys(request, host),
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


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def with_volumes(wanted: Wanted, volumes: Devices) -> Devices:
    """All devices, with those of volumes by their paths."""
    return {**wanted.request.devices, **{device_name(path): device for path, device in volumes.items()}}


def _published(host: Fields, exposed: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """None in the network of the host, where programs listen themselves; wrong ones are refused there, too."""
    found = port_devices(host, exposed)
    return {} if host.text("NetworkMode", "") == "host" else found


def _isolation(request: Request, name: str) -> str:
    """``--runtime`` also takes a kind of isolation, which no runtime is called; empty: it is none."""
    return name if name in ISOLATIONS and name not in dict(request.services.runtimes.loaded()) else ""


def _runtime(request: Request, name: str) -> str | None:
    """None: whichever is best."""
    known = "runc" if name == _SHIM else name
    if known and known not in {each for each, _ in request.services.runtimes.loaded()}:
        raise InvalidInput(f"unknown or invalid runtime name: {name[:80]}", field="HostConfig.Runtime")
    return known or None


def _program(fields: Fields) -> Program:
    timeout = fields.whole("StopTimeout", 0, minimum=-1) if fields.has("StopTimeout") else None
    return Program(
        entrypoint=_words(fields, "Entrypoint"),
        arguments=_words(fields, "Cmd"),
        cwd=_directory(fields.text("WorkingDir", "")),
        user=fields.text("User", "") or None,
        stop_signal=_signal(fields.text("StopSignal", "")),
        stop_timeout=timeout,
    )


def _directory(path: str) -> str | None:
    if path and not path.startswith("/"):
        raise InvalidInput(
            f"the working directory '{path[:200]}' is invalid, it needs to be an absolute path", field="WorkingDir"
        )
    return posixpath.normpath("/" + path.lstrip("/")) if path else None


def _signal(name: str) -> str | None:
    try:
        signal_number(name or "TERM")
    except InvalidInput:
        raise InvalidInput(f"invalid signal: {name[:80]}", field="StopSignal") from None
    return name or None


def _words(fields: Fields, name: str) -> tuple[str, ...] | None:
    """A list, or one string as older clients send it; None where it is absent."""
    if not fields.has(name):
        return None
    return (fields.text(name),) if fields.holds(name, str) else fields.texts(name)


def _hostname(fields: Fields, host: Fields, id: str) -> dict[str, str]:
    """By default the beginning of its id, as scripts inside containers expect."""
    name, domain = fields.text("Hostname", ""), fields.text("Domainname", "")
    if not name and host.text("UTSMode", "") == "" and is_apart(host):
        name = container_id(id)[:_SHORT]
    found = {"isola.hostname": name, "isola.domainname": domain}
    return {key: value for key, value in found.items() if value}


def _echo(raw: Mapping[str, Any], exposed: Mapping[str, object]) -> dict[str, Any]:
    found = {name: raw[name] for name in _ECHOED if raw.get(name) is not None}
    return found | ({"ExposedPorts": dict(exposed)} if exposed else {})


def require_platform(text: str, image: Image, shown: str) -> None:
    """``linux/amd64`` has to be the image's. Raises InvalidInput, NotFound."""
    system, _, rest = require_platform_name(text).partition("/")
    architecture = rest.partition("/")[0]
    if text and (system != "linux" or architecture not in ("", platform_of(image.architecture), image.architecture)):
        raise NotFound(
            f"image with reference {shown} was found but does not provide the specified platform ({text[:80]})"
        )
