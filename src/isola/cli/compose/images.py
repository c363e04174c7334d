"""Images of services: found, fetched or built."""

from __future__ import annotations

from isola.cli.compose.builds import build, image_name
from isola.compose.disks import mounted_images
from isola.compose.pull_policy import refreshed_after
from isola.errors import InvalidInput, NotFound
from isola.model.image_reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from isola.cli.context import Context
    from isola.compose.application import Application

_FETCHED_AT = "compose.fetched_at"
"""Property of an image whose age a pull policy looks at: seconds since 1970."""


def image_of(
    context: Context,
    application: Application,
    service: str,
    *,
    pull: str = "",
    rebuild: bool = False,
    never_build: bool = False,
) -> str:
    """The fingerprint of a service's image, which is fetched or built if it is missing, or as the pull policy says.

    Raises NotFound for one that is missing and must be neither fetched nor built.
    """
    found: dict[str, Any] = application.services[service]
    policy = pull or found.get("pull_policy") or "missing"
    name = image_name(application, service)
    there = known(context, name)
    if "build" in found:
        if never_build and not there:
            raise NotFound(f"The image {name} of service {service} is missing, and is not to be built")
        if not never_build and (rebuild or policy == "build" or not there):
            build(context, application, service, pull=policy == "always")
            there = known(context, name)
        return there
    after = refreshed_after(found, policy)
    if there and policy != "always" and (after is None or _age(context, there) < after):
        return there
    if policy == "never":
        raise NotFound(f"The image {name} of service {service} is missing, and pull_policy is never")
    fetched = fetch(context, name)
    if after is not None:
        _note(context, fetched)
    return fetched


def mounted(context: Context, application: Application, services: Iterable[str]) -> dict[str, str]:
    """Fingerprints of images whose content these services mount, by name; missing ones are fetched."""
    names = {name for service in services for name in mounted_images(application.services[service])}
    return {name: known(context, name) or fetch(context, name) for name in sorted(names)}


def _age(context: Context, fingerprint: str) -> float:
    """Seconds since it was last fetched."""
    import time
    from datetime import datetime

    image = context.client.images.get(fingerprint)
    noted = (image.get("properties") or {}).get(_FETCHED_AT, "")
    at = float(noted) if noted.isascii() and noted.isdigit() else 0.0
    return time.time() - max(at, datetime.fromisoformat(image["uploaded_at"]).timestamp())


def _note(context: Context, fingerprint: str) -> None:
    """An image that is the newest is not recorded again when it is fetched."""
    import time

    image, etag = context.client.images.read(fingerprint)
    properties = {**(image.get("properties") or {}), _FETCHED_AT: str(int(time.time()))}
    context.client.images.update(fingerprint, {**image, "properties": properties}, etag=etag)


def fetch(context: Context, name: str) -> str:
    """Fetch an image from its registry or source; returns its fingerprint."""
    operation = context.client.images.build(_source_name(context, name))
    context.follow(operation, f"Fetching {name}")
    return str(operation.metadata.get("fingerprint") or known(context, name))


def known(context: Context, name: str) -> str:
    """The fingerprint of an alias: of the complete name, or as it is written; empty if there is none."""
    for alias in dict.fromkeys((_full(name), name, name.removesuffix(":latest"))):
        if alias:
            try:
                return context.client.images.alias(alias)["target"]
            except NotFound:
                continue
    return ""


def _source_name(context: Context, name: str) -> str:
    return _full(name) or name


def _full(name: str) -> str:
    try:
        return parse(name).tagged().full
    except InvalidInput:
        return ""
