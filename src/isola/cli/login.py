"""Credentials that a user has for registries, sent along with requests."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def credentials(context: Context, name: str) -> dict[str, str]:
    """For the registry of an image; empty if there are none."""
    from isola.client.credentials import credentials_for
    from isola.model.image_reference import DOCKER_HUB, names_registry, parse

    default = DOCKER_HUB
    if not names_registry(name):
        config = context.client.server.info().get("config") or {}
        default = str(config.get("images.registry.default") or DOCKER_HUB)
    return credentials_for(parse(name, default))


def pull_if_private(context: Context, name: str) -> None:
    """Pull an image that is missing, if it names a registry that this user has credentials for.

    Others are pulled by the daemon when it needs them.
    """
    head, slash, _ = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        return  # without imports, which would slow down every launch
    from isola.errors import NotFound
    from isola.model.image_reference import parse

    if not (found := credentials(context, name)):
        return
    images = context.client.images
    try:
        images.alias(parse(name).tagged().full)
    except NotFound:
        context.follow(images.pull(name, credentials=found), f"Pulling {name}")
