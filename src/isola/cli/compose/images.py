"""Images of services: found, fetched or built."""

from __future__ import annotations

from isola.cli.compose.builds import build, image_name
from isola.errors import InvalidInput, NotFound
from isola.model.image_reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from isola.cli.context import Context
    from isola.compose.application import Application

_FETCHED = ("always", "missing", "never", "if_not_present", "build")


def image_of(context: Context, application: Application, service: str, *, pull: str = "", rebuild: bool = False) -> str:
    """The fingerprint of a service's image, which is fetched or built if it is missing, or as the pull policy says."""
    found: dict[str, Any] = application.services[service]
    policy = pull or found.get("pull_policy") or "missing"
    if policy not in _FETCHED:
        raise InvalidInput(f"pull_policy {policy[:40]!r} is not supported", field=f"services.{service}.pull_policy")
    name = image_name(application, service)
    if "build" in found:
        if rebuild or policy == "build" or not known(context, name):
            build(context, application, service, pull=policy == "always")
        return known(context, name)
    if policy != "always" and (fingerprint := known(context, name)):
        return fingerprint
    if policy == "never":
        raise NotFound(f"The image {name} of service {service} is missing, and pull_policy is never")
    return fetch(context, name)


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
