"""A container in a list."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from isola.doors.docker.containers.mount_points import mount_points
from isola.doors.docker.containers.network_settings import endpoints, port_list
from isola.doors.docker.containers.view import View
from isola.doors.docker.image_lookup import find_image, image_id, manifest_of
from isola.doors.docker.request import Request
from isola.doors.docker.versions import Version
from isola.errors import InvalidInput, NotFound
from isola.model import image_reference
from isola.model.instance import Config, Instance
from isola.model.reference import Kind

_ANNOTATED: Version = (1, 46)


Named = Callable[[str], str | None]
"""Fingerprint of the image that has this name by now."""


def summary(request: Request, view: View, named: Named, aliases: Sequence[str] = ()) -> dict[str, Any]:
    """What ``docker ps`` shows but ``Status``, which changes with time; ``aliases``: names by links of others."""
    instance = view.instance
    return {
        "Id": view.id,
        "Names": [f"/{instance.name}", *aliases],
        "Image": _present_image(request, view, named),
        "ImageID": image_id(instance.image) if instance.image else "",
        **manifest_of(request, instance.image),
        "Command": command_line(instance, view.config),
        "Created": int(instance.created_at.timestamp()),
        "Ports": port_list(view),
        "Labels": view.labels,
        "State": view.state,
        "HostConfig": {"NetworkMode": network_mode(view), **_annotations(request, view)},
        "NetworkSettings": {"Networks": endpoints(request, view)},
        "Mounts": mount_points(request, view),
    }


def _annotations(request: Request, view: View) -> dict[str, Any]:
    given = view.note.host.get("Annotations") if request.version >= _ANNOTATED else None
    return {"Annotations": given} if isinstance(given, dict) and given else {}


def images_by_name(request: Request) -> Named:
    """Looks each name up once: most containers of a list have the same few."""

    @functools.cache
    def find(name: str) -> str | None:
        with suppress(NotFound, InvalidInput):
            return find_image(request, name).fingerprint
        return None

    return find


def _present_image(request: Request, view: View, named: Named) -> str:
    """Its id, if what the client wrote names another image by now, or none."""
    written, fingerprint = view.note.image, view.instance.image
    if not (written and fingerprint):
        return image_name(request, view)
    return written if named(written) == fingerprint else image_id(fingerprint)


def image_name(request: Request, view: View) -> str:
    """As the client wrote it, or a name of the image, or its id."""
    if view.note.image:
        return view.note.image
    fingerprint = view.instance.image
    home = request.home(Kind.IMAGE)
    for alias in request.services.images.aliases() if fingerprint else ():
        if alias.project == home and alias.target == fingerprint:
            return familiar(alias.name)
    return image_id(fingerprint) if fingerprint else ""


def familiar(alias: str) -> str:
    """An alias as clients of Docker see it, with a tag."""
    found = image_reference.parse_full(alias)
    if found is None:
        return alias if ":" in alias else f"{alias}:latest"
    return found.tagged().familiar


def command_line(instance: Instance, config: Config) -> str:
    """Quoted as in a shell."""
    return config.get("oci.entrypoint") or shlex.join(instance.start.command)


def network_mode(view: View) -> str:
    """As the client gave it."""
    mode = view.note.host.get("NetworkMode")
    return mode if isinstance(mode, str) and mode not in ("", "default") else "bridge"
