"""Images as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isola.doors.docker.image_lookup import image_id
from isola.doors.docker.images.names import Names
from isola.doors.docker.times import rfc3339
from isola.doors.docker.versions import Version
from isola.images.architecture import platform
from isola.images.descriptor import Descriptor
from isola.images.oci_config import History, OciConfig
from isola.model.image import PARENT, HealthCheck, Image, ImageConfig

_DESCRIBED: Version = (1, 48)
_EMPTY_LISTS: Version = (1, 43)
"""Clients of older versions do not list images whose names are empty lists."""
_WITHOUT_VIRTUAL: Version = (1, 44)
_OF_IMAGES_ALONE: Version = (1, 50)
"""Since then the configuration has no fields that only containers have a value of."""

_OF_CONTAINERS: Mapping[str, object] = {
    **dict.fromkeys(("Hostname", "Domainname", "Image"), ""),
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False),
}
"""What older versions repeat of images, always empty."""


def summary(image: Image, at: Descriptor, names: Names, containers: int, version: Version) -> dict[str, Any]:
    """What ``docker images`` shows. ``containers``: -1 if they were not counted."""
    shape: dict[str, Any] = {
        "Containers": containers,
        "Created": int(image.created_at.timestamp()),
        "Id": image_id(image.fingerprint),
        "Labels": dict(image.config.labels) or None,
        "ParentId": _parent(image),
        "RepoDigests": names.digests(image),
        "RepoTags": names.tags,
        "SharedSize": -1,
        "Size": image.size,
    }
    if version < _EMPTY_LISTS and not names.aliases:
        shape |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    if version < _WITHOUT_VIRTUAL:
        shape["VirtualSize"] = image.size
    if version >= _DESCRIBED:
        shape["Descriptor"] = at.document()
    return shape


def manifests(image: Image, at: Descriptor, containers: Sequence[str]) -> list[dict[str, Any]]:
    """The manifests of an image: the one of this platform."""
    size = {"Content": image.size, "Total": image.size}
    data = {"Platform": platform(image.architecture), "Containers": list(containers), "Size": {"Unpacked": 0}}
    shape = {"ID": image.manifest, "Descriptor": at.document(), "Available": True, "Size": size}
    return [{**shape, "Kind": "image", "ImageData": data}]


def details(image: Image, at: Descriptor, config: OciConfig, names: Names, version: Version) -> dict[str, Any]:
    """What ``docker image inspect`` shows."""
    on = platform(image.architecture)
    last = config.history[-1] if config.history else History()
    shape: dict[str, Any] = {
        "Id": image_id(image.fingerprint),
        "RepoTags": names.tags,
        "RepoDigests": names.digests(image),
        "Parent": _parent(image),
        "Comment": last.comment,
        "Created": rfc3339(image.created_at),
        "DockerVersion": "",
        "Author": config.author,
        "Config": run_shape(config.run, version < _OF_IMAGES_ALONE),
        "Architecture": on["architecture"],
        **({"Variant": on["variant"]} if "variant" in on else {}),
        "Os": "linux",
        "Size": image.size,
        "GraphDriver": {"Data": {}, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": rfc3339(image.uploaded_at)},
    }
    if version < _WITHOUT_VIRTUAL:
        shape["VirtualSize"] = image.size
    if version >= _DESCRIBED:
        shape["Descriptor"] = at.document()
    return shape


def _parent(image: Image) -> str:
    """Of an image that was committed."""
    return image_id(image.source[PARENT]) if PARENT in image.source else ""


def container_shape(config: OciConfig) -> dict[str, Any]:
    """What older versions say of the container that an image was made of: as if the image had been committed."""
    return {"Container": "", "ContainerConfig": run_shape(config.run, True)}


def run_shape(run: ImageConfig, older: bool) -> dict[str, Any]:
    """The configuration with which containers start."""
    ports: Mapping[str, object] = {port: {} for port in run.exposed_ports}
    shape: dict[str, Any] = {
        **(_OF_CONTAINERS if older else {}),
        "User": "" if run.user == "0" else run.user,
        **({"ExposedPorts": ports or None} if older or ports else {}),
        "Env": [f"{name}={value}" for name, value in run.environment.items()],
        "Cmd": list(run.command[len(run.entrypoint) :]) or None,
        "Volumes": {path: {} for path in run.volumes} or None,
        "WorkingDir": run.cwd,
        "Entrypoint": list(run.entrypoint) or None,
        "OnBuild": list(run.on_build) or None,
        "Labels": dict(run.labels) or None,
    }
    if run.stop_signal != "SIGTERM":
        shape["StopSignal"] = run.stop_signal
    if run.shell:
        shape["Shell"] = list(run.shell)
    if run.health_check is not None:
        shape["Healthcheck"] = _health(run.health_check)
    return shape


def history(image: Image, config: OciConfig, tags: Sequence[str]) -> list[dict[str, Any]]:
    """Newest first; only the newest has an id and names."""
    sizes = iter(image.layers)
    found = []
    for each in config.history or [History(created_by="")] * len(image.layers):
        layer = None if each.empty_layer else next(sizes, None)
        moment = each.created_at or image.created_at
        found.append(
            {
                "Id": "<missing>",
                "Created": int(moment.timestamp()),
                "CreatedBy": each.created_by,
                "Tags": None,
                "Size": layer.size if layer is not None else 0,
                "Comment": each.comment,
            }
        )
    if found:
        found[-1] |= {"Id": image_id(image.fingerprint), "Tags": list(tags) or None}
    return found[::-1]


def _health(check: HealthCheck) -> Mapping[str, object]:
    test = ["NONE"] if check.disabled else ["CMD", *check.argv] if check.argv else []
    if check.in_shell:
        test = ["CMD-SHELL", check.argv[-1]]
    numbers = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {"Test": test, **{name: value for name, value in numbers.items() if value}}
