"""Links: names by which a container knows others, beside those that their networks know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from isola.doors.docker.identity import containers_of, find
from isola.doors.docker.networks.notes import NAME
from isola.doors.docker.notes import note_of
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import HostFailure, InvalidInput, NotFound
from isola.model.instance import Config, Instance, InstanceUpdate, Status

HOSTS = "isola.hosts"
_LINK = "isola.links."
_INSTANCE = "container:"
_DEFAULT = (None, "", "default", "bridge")
"""Modes of the network on which links are more than names."""
_RUNNING = (Status.RUNNING, Status.FROZEN)


def links_in(request: Request, host: Fields, endpoints: Fields) -> list[str]:
    """Names by ``Links`` of the host's configuration and of all networks. Raises InvalidInput."""
    of_networks = [text for name in endpoints.names() for text in endpoints.inside(name).texts("Links")]
    found = (*link_names(request, host.texts("Links")), *link_names(request, of_networks, later=True))
    return list(dict.fromkeys(found))


def link_names(request: Request, texts: Sequence[str], *, later: bool = False) -> list[str]:
    """``alias=container:ID`` of each ``db:database``. Raises InvalidInput.

    ``later``: on networks of users a container may be linked before it is there, and is then known by its name.
    """
    found = []
    for text in dict.fromkeys(texts):
        name, _, alias = text.removeprefix("/").partition(":")
        if not name or "/" in name:
            raise InvalidInput(f"invalid link: {text[:80]}", field="HostConfig.Links")
        try:
            other = find(request, name).id
        except NotFound:
            if not later or not NAME.fullmatch(name):
                raise InvalidInput(
                    f"could not get container for {name[:80]}: No such container: {name[:80]}", field="HostConfig.Links"
                ) from None
            other = name
        found.append(f"{alias.rpartition('/')[2] or name}={_INSTANCE}{other}")
    return list(dict.fromkeys(found))


def link_keys(request: Request, host: Fields) -> dict[str, str]:
    """Keys by which links on the default network set variables: what the others serve."""
    keys = {}
    for text in host.texts("Links") if host.text("NetworkMode", "") in _DEFAULT else ():
        name, _, alias = text.removeprefix("/").partition(":")
        other = find(request, name)
        ports = note_of(other).config.get("ExposedPorts") or {}
        keys[f"{_LINK}{alias.rpartition('/')[2] or name}"] = ",".join(ports) or "none"
    return keys


def require_linked(request: Request, instance: Instance) -> None:
    """Raises HostFailure if a container to which it has a link does not run, unless that is by a network of users."""
    host = note_of(instance).host
    for text in (host.get("Links") or ()) if host.get("NetworkMode") in _DEFAULT else ():
        name, _, alias = str(text).removeprefix("/").partition(":")
        with suppress(NotFound, InvalidInput):
            other = find(request, name)
            if request.services.instances.status(other) not in _RUNNING:
                called = f"/{instance.name}/{alias.rpartition('/')[2] or name}"
                raise HostFailure(f"Cannot link to a non running container: /{other.name} AS {called}")


def with_links(keys: Config, links: Sequence[str]) -> dict[str, str]:
    """Configuration keys with the names of links among the further hosts."""
    hosts = dict.fromkeys([*(part.strip() for part in keys.get(HOSTS, "").split(",") if part.strip()), *links])
    return {**keys, **({HOSTS: ",".join(hosts)} if hosts else {})}


def without_link(alias: str) -> Callable[[Instance], InstanceUpdate]:
    """Decides the configuration without one link. Raises NotFound if there is none of this name."""

    def decide(instance: Instance) -> InstanceUpdate:
        parts = [part.strip() for part in instance.config.get(HOSTS, "").split(",") if part.strip()]
        kept = [part for part in parts if not part.startswith(f"{alias}={_INSTANCE}")]
        if len(kept) == len(parts):
            raise NotFound(f"Could not get link for name: /{instance.name}/{alias[:80]}")
        config = {key: value for key, value in instance.config.items() if key not in (HOSTS, f"{_LINK}{alias}")}
        return InstanceUpdate(
            config=config | ({HOSTS: ",".join(kept)} if kept else {}),
            devices=instance.devices,
            profiles=instance.profiles,
            description=instance.description,
            ephemeral=instance.ephemeral,
            architecture=instance.architecture,
        )

    return decide


def aliases_of(request: Request) -> dict[str, list[str]]:
    """``/web/database``, by the id of the container that is called so by a link on the default network."""
    found: dict[str, list[str]] = {}
    for each in containers_of(request):
        for part in each.config.get(HOSTS, "").split(","):
            alias, _, value = part.strip().partition("=")
            if value.startswith(_INSTANCE) and f"{_LINK}{alias}" in each.config:
                found.setdefault(value.removeprefix(_INSTANCE), []).append(f"/{each.name}/{alias}")
    return found


def links_of(request: Request, name: str, config: Config) -> list[str] | None:
    """``/db:/web/database`` of each link of the container ``name``."""
    found = []
    for part in config.get(HOSTS, "").split(","):
        alias, _, value = part.strip().partition("=")
        if value.startswith(_INSTANCE):
            id = value.removeprefix(_INSTANCE)
            other = request.services.instances.by_id(id)
            found.append(f"/{other.name if other else id}:/{name}/{alias}")
    return found or None
