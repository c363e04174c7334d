"""The complete description of a container."""

from __future__ import annotations

from typing import Any

from isola.doors.docker.containers.behaviour_keys import health_check_json, health_json
from isola.doors.docker.containers.environment import variables
from isola.doors.docker.containers.host_config import host_config
from isola.doors.docker.containers.mount_points import mount_points
from isola.doors.docker.containers.network_settings import settings
from isola.doors.docker.containers.summary import image_name
from isola.doors.docker.containers.view import View
from isola.doors.docker.containers.wording import of_record
from isola.doors.docker.image_lookup import image_id, manifest_of
from isola.doors.docker.networks.links import links_of
from isola.doors.docker.request import Request
from isola.doors.docker.times import NEVER, rfc3339
from isola.instances.health_settings import health_check
from isola.model.image import HealthCheck
from isola.model.instance import Config, Instance

_NO_PROGRAM = ""


def inspect(request: Request, view: View, *, pid: int, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """What ``docker inspect`` shows. ``sizes``: bytes of its own, and with its image."""
    instance = view.instance
    program, *arguments = _command(instance, view.config) or (_NO_PROGRAM,)
    return {
        "Id": view.id,
        "Created": rfc3339(instance.created_at),
        "Path": program,
        "Args": arguments,
        "State": _state(view, pid, program),
        "Image": image_id(instance.image) if instance.image else "",
        **manifest_of(request, instance.image),
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{instance.name}",
        "RestartCount": instance.last_run.restarts if instance.last_run is not None else 0,
        "Driver": request.services.pools.get(instance.volatile["root.pool"]).driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": [each.id for each in request.services.instances.commands(instance.ref) if each.running] or None,
        "HostConfig": {**host_config(view), "Links": links_of(request, instance.name, view.config)},
        "GraphDriver": {"Name": request.services.pools.get(instance.volatile["root.pool"]).driver, "Data": {}},
        **({"SizeRw": sizes[0], "SizeRootFs": sizes[1]} if sizes is not None else {}),
        "Mounts": mount_points(request, view),
        "Config": config_of(request, view),
        "NetworkSettings": settings(request, view),
    }


def _state(view: View, pid: int, program: str) -> dict[str, Any]:
    last = view.instance.last_run
    return {
        "Status": view.state,
        "Running": view.running,
        "Paused": view.state == "paused",
        "Restarting": view.state == "restarting",
        "OOMKilled": bool(last and last.oom_killed),
        "Dead": view.state == "dead",
        "Pid": pid,
        "ExitCode": view.exit_status,
        "Error": of_record(program, view.instance.runtime, last.error) if last is not None else "",
        "StartedAt": rfc3339(view.started_at),
        "FinishedAt": rfc3339(view.finished_at) if view.finished_at is not None else NEVER,
        **({"Health": health_json(view.found_health)} if view.found_health is not None else {}),
    }


def config_of(request: Request, view: View) -> dict[str, Any]:
    """``Config``: the program, and what the client gave."""
    instance, given, begins = view.instance, view.note.config, view.instance.start
    command = _command(instance, view.config)
    replaced = "oci.entrypoint" in view.config
    entrypoint = () if replaced else begins.entrypoint
    name, _, domain = (view.config.get("isola.hostname") or "").partition(".")
    found: dict[str, Any] = {
        "Hostname": name or instance.name,
        "Domainname": view.config.get("isola.domainname") or domain,
        "User": given.get("User", "") if begins.user in ("", "0") else begins.user,
        "AttachStdin": bool(given.get("AttachStdin")),
        "AttachStdout": bool(given.get("AttachStdout")),
        "AttachStderr": bool(given.get("AttachStderr")),
        "ExposedPorts": given.get("ExposedPorts") or {},
        "Tty": begins.terminal,
        "OpenStdin": begins.stdin,
        "StdinOnce": bool(given.get("StdinOnce")),
        "Env": variables(view),
        "Cmd": list(command[len(entrypoint) :]) or None,
        "Image": image_name(request, view),
        "Volumes": given.get("Volumes") or None,
        "WorkingDir": view.config.get("oci.cwd") or begins.cwd if begins.cwd != "/" else view.config.get("oci.cwd", ""),
        "Entrypoint": list(entrypoint) or None,
        "OnBuild": None,
        "Labels": view.labels,
    }
    if given.get("StopSignal") or begins.stop_signal != "SIGTERM":
        found["StopSignal"] = given.get("StopSignal") or begins.stop_signal
    if view.config.get("isola.health.disable") == "true":
        found["Healthcheck"] = {"Test": ["NONE"]}
    if (check := health_check_json(_check_of(view), begins.health_check, view.config)) is not None:
        found["Healthcheck"] = check
    if begins.stop_timeout is not None:
        found["StopTimeout"] = begins.stop_timeout
    return {key: value for key, value in found.items() if key != "ExposedPorts" or value}


def _check_of(view: View) -> HealthCheck | None:
    try:
        return health_check(view.instance.start.health_check, view.config)
    except ValueError:
        return None


def _command(instance: Instance, config: Config) -> tuple[str, ...]:
    if text := config.get("oci.entrypoint"):
        import shlex

        return tuple(shlex.split(text))
    return instance.start.command
