"""Attributes of the Compose specification that do not have all the effects that it describes, and why. Pure.

A path ``services.*.build.pull`` names the attribute of all services. ``WITHOUT_EFFECT``: accepted, without any effect
here, of which ``up`` warns; ``SILENT``: the same without a warning, because nothing is lost; ``LIMITED``: refused with
some values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from isola.errors import InvalidInput

Tree = Mapping[str, Any]
Refusal = Callable[[Any], bool]
"""Whether a value is refused."""

WITHOUT_EFFECT: Mapping[str, str] = {
    "services.*.annotations": "labels are kept, annotations are not",
    "services.*.build.provenance": "builds make no attestations",
    "services.*.build.sbom": "builds make no attestations",
    "services.*.deploy.resources.reservations.cpus": "CPU time is not reserved",
    "services.*.networks.*.driver_opts": "NICs have settings of their own",
    "services.*.volumes[].volume.labels": "volumes without a name have no labels of the file",
    "networks.*.driver_opts": "networks have settings of their own, but for the MTU",
    "networks.*.ipam.config[].aux_addresses": "no addresses are kept for others",
    "networks.*.ipam.options": "there is one driver for addresses",
}
SILENT: Mapping[str, str] = {
    "version": "obsolete",
    "services.*.attach": "commands do not stay",
    "services.*.deploy.endpoint_mode": "of swarms",
    "services.*.deploy.labels": "of swarms",
    "services.*.deploy.mode": "of swarms",
    "services.*.deploy.placement": "of swarms",
    "services.*.deploy.restart_policy.delay": "pauses grow from 0.1 seconds on",
    "services.*.deploy.restart_policy.window": "of swarms",
    "services.*.deploy.rollback_config": "of swarms",
    "services.*.deploy.update_config": "of swarms",
    "services.*.develop": "files are not watched",
    "services.*.expose": "services on a network reach all ports of each other",
    "services.*.networks.*.priority": "gw_priority chooses the default gateway",
    "services.*.ports[].app_protocol": "information only",
    "services.*.ports[].mode": "of swarms",
    "services.*.ports[].name": "information only",
    "services.*.volumes[].bind.recursive": "binds are recursive",
    "services.*.volumes[].bind.selinux": "there are no labels of SELinux",
    "services.*.volumes[].consistency": "for macOS",
    "networks.*.attachable": "of swarms",
    "networks.*.ipam.driver": "there is one driver for addresses",
    "configs.*.labels": "contents are written into the instances",
    "configs.*.template_driver": "of swarms",
    "secrets.*.labels": "contents are written into the instances",
    "secrets.*.template_driver": "of swarms",
    "secrets.*.driver_opts": "of swarms",
}


def _unless(*accepted: object) -> Refusal:
    return lambda value: value not in accepted


def anything_given(value: Any) -> bool:
    """Refuses every value that says something."""
    return bool(value)


def _other_network(mode: str) -> bool:
    return mode not in ("bridge", "none", "host") and not mode.startswith(("service:", "container:"))


def _other_security(options: list[str]) -> bool:
    known = ("no-new-privileges", "seccomp", "apparmor", "label")
    return any(option.replace("=", ":", 1).partition(":")[0] not in known for option in options)


def _other_storage(options: Tree) -> bool:
    """Neither a directory of the host nor memory."""
    kind, flags = options.get("type") or "", (options.get("o") or "").split(",")
    bound = kind in ("none", "bind", "") and "bind" in flags and options.get("device")
    return bool(options) and not bound and not (kind == "tmpfs" and not options.get("o"))


def _of_services(contexts: Tree) -> bool:
    return any(value.startswith("service:") for value in contexts.values())


LIMITED: Mapping[str, tuple[Refusal, str]] = {
    "services.*.blkio_config.weight_device": (anything_given, "weights are those of all disks"),
    "services.*.build.additional_contexts": (_of_services, "images of services are named: `docker-image://NAME`"),
    "services.*.build.entitlements": (anything_given, "builds have no rights on the host"),
    "services.*.build.privileged": (anything_given, "builds have no rights on the host"),
    "services.*.build.isolation": (_unless("", "default"), "for Windows"),
    "services.*.cgroup_parent": (anything_given, "the daemon makes the control groups"),
    "services.*.cpu_count": (anything_given, "for Windows: use `cpus`"),
    "services.*.cpu_percent": (anything_given, "for Windows: use `cpus`"),
    "services.*.cpu_rt_period": (anything_given, "real-time scheduling is not offered"),
    "services.*.cpu_rt_runtime": (anything_given, "real-time scheduling is not offered"),
    "services.*.credential_spec": (anything_given, "for Windows"),
    "services.*.deploy.resources.reservations.devices": (anything_given, "GPUs cannot be passed to services yet"),
    "services.*.deploy.resources.reservations.generic_resources": (anything_given, "of swarms"),
    "services.*.external_links": (anything_given, "use an external network, on which services know each other"),
    "services.*.gpus": (anything_given, "GPUs cannot be passed to services yet"),
    "services.*.isolation": (_unless("", "default"), "for Windows"),
    "services.*.models": (anything_given, "models are not offered"),
    "services.*.post_start[].privileged": (anything_given, "commands have the rights of the service"),
    "services.*.pre_stop[].privileged": (anything_given, "commands have the rights of the service"),
    "services.*.provider": (anything_given, "providers run programs beside the services"),
    "services.*.logging.driver": (
        _unless("json-file", "local", "none"),
        "the daemon keeps the output itself",
    ),
    "services.*.network_mode": (_other_network, "networks are named in `networks`"),
    "services.*.security_opt": (_other_security, "filters of system calls and `no-new-privileges` are offered"),
    "services.*.storage_opt": (lambda value: bool(set(value) - {"size"}), "only `size` is offered"),
    "services.*.use_api_socket": (anything_given, "services get no API socket"),
    "services.*.userns_mode": (_unless("", "host"), "only `host`"),
    "services.*.volumes[].type": (
        _unless("volume", "bind", "tmpfs", "image"),
        "named pipes are for Windows, cluster volumes for swarm",
    ),
    "services.*.volumes_from": (
        lambda names: any(name.startswith("container:") for name in names),
        "volumes of services only",
    ),
    "networks.*.driver": (_unless("bridge", "default"), "networks are bridges; others can be external ones"),
    "volumes.*.driver": (_unless("local", "default"), "volumes are in a storage pool"),
    "volumes.*.driver_opts": (_other_storage, "a directory (`type: none`, `o: bind`), or `type: tmpfs`"),
    "configs.*.driver": (anything_given, "of swarms"),
    "secrets.*.driver": (anything_given, "of swarms"),
    "models": (anything_given, "models are not offered"),
    "configs.*.external": (anything_given, "the daemon keeps none: use `file`, `environment` or `content`"),
    "secrets.*.external": (anything_given, "the daemon keeps none: use `file` or `environment`"),
}


def refuse(document: Tree) -> None:
    """Raises InvalidInput for the first attribute that would have been needed and is not offered."""
    for path, (refused, reason) in LIMITED.items():
        for where, value in found(document, path):
            if refused(value):
                raise InvalidInput(f"{where} is not supported", evidence=reason, field=where)


def warnings(document: Tree) -> Iterator[str]:
    """What is given and has no effect."""
    for path, reason in WITHOUT_EFFECT.items():
        for where, value in found(document, path):
            if value:
                yield f"{where} has no effect: {reason}"


def found(document: Any, path: str, where: str = "") -> Iterator[tuple[str, Any]]:
    """The values at a path, each with the place where it is."""
    head, _, rest = path.partition(".")
    key = head.removesuffix("[]")
    if not isinstance(document, Mapping):
        return
    for name in [key] if key != "*" else list(document):
        value, place = document.get(name), f"{where}.{name}" if where else str(name)
        if value is None:
            continue
        for at, each in enumerate(value) if head.endswith("[]") else ((-1, value),):
            here = place if at < 0 else f"{place}[{at}]"
            yield from found(each, rest, here) if rest else ((here, each),)
