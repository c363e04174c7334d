"""Registries: credentials, search, and what a name refers to there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from isola.doors.docker.answers import answer
from isola.doors.docker.filtering import truth
from isola.doors.docker.images.credentials import registry_auth
from isola.doors.docker.images.pulling import pull_refusal
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.errors import Forbidden, InvalidInput, IsolaError
from isola.images.registry.credentials import Credentials
from isola.images.registry.endpoints import HUB_HOST
from isola.model.image_reference import DOCKER_HUB, HUB_INDEX, check_domain, names_registry, parse

_MOST = 100
_DIGITS = 18


async def login(request: Request) -> web.StreamResponse:
    """Check credentials of a registry."""
    fields = await request.fields()
    credentials = Credentials(
        fields.text("username", ""), fields.text("password", ""), fields.text("identitytoken", "")
    )
    try:
        await request.services.images.registries.login(_domain(fields.text("serveraddress", "")), credentials)
    except Forbidden as error:
        return answer({"message": f"login attempt to {error.message}: {error.evidence}"}, 401)
    return answer({"Status": "Login Succeeded", "IdentityToken": ""})


def _domain(address: str) -> str:
    """The registry in an address as clients store it."""
    host = address.partition("://")[2] or address
    host = host.partition("/")[0]
    if host in ("", HUB_INDEX, HUB_HOST):
        return DOCKER_HUB
    try:
        return check_domain(host)
    except ValueError as error:
        raise InvalidInput(f"invalid registry address: {error}", field="serveraddress") from error


async def search(request: Request) -> web.StreamResponse:
    """Repositories of a registry with a text in their names."""
    term = request.query.get("term", "")
    limit = request.whole("limit") or 25
    if not 1 <= limit <= _MOST:
        raise InvalidInput(f"limit {limit} is outside the range of [1, {_MOST}]", field="limit")
    chosen = _choice(request.filters())
    registries = request.services.images.registries
    domain, _, part = term.partition("/") if names_registry(term) else ("", "", term)
    domain = domain or registries.settings.default or DOCKER_HUB
    found = await registries.search(domain, part, limit, registry_auth(request))
    prefix = "" if domain == DOCKER_HUB else f"{domain}/"
    return answer(
        [
            {
                "name": f"{prefix}{each.name}",
                "description": each.description,
                "star_count": each.stars,
                "is_official": each.official,
                "is_automated": False,
            }
            for each in found[:limit]
            if chosen(each.stars, each.official)
        ]
    )


def _choice(filters: Mapping[str, tuple[str, ...]]) -> Callable[[int, bool], bool]:
    """By stars, and by what is official. Raises InvalidInput."""
    for name in filters:
        if name not in ("stars", "is-official", "is-automated"):
            raise InvalidInput(f"invalid filter '{name[:80]}'", field="filters")
    official = truth(filters["is-official"], "is-official") if filters.get("is-official") else None
    automated = truth(filters["is-automated"], "is-automated") if filters.get("is-automated") else False
    for value in filters.get("stars", ()):
        if not (value.isascii() and value.isdecimal() and len(value) < _DIGITS):
            raise InvalidInput(f"invalid filter 'stars={value[:80]}'", field="filters")
    least = max(map(int, filters.get("stars", ())), default=0)
    return lambda stars, known: stars >= least and official in (None, known) and not automated


async def distribution(request: Request) -> web.StreamResponse:
    """The manifest or index that a name refers to in its registry."""
    reference = parse(request.parameters["name"]).tagged()
    try:
        found = await request.services.images.registries.describe(reference, registry_auth(request))
    except IsolaError as error:
        raise pull_refusal(reference, error) or error from error
    return answer(
        {
            "Descriptor": {"mediaType": found.at.media_type, "digest": found.at.digest, "size": found.at.size},
            "Platforms": [dict(platform) for platform in found.platforms],
        }
    )


ROUTES: tuple[Route, ...] = (
    ("POST", "/auth", login, Permission.TRUSTED),
    ("GET", "/images/search", search, Permission.VIEW),
    ("GET", "/distribution/{name...}/json", distribution, Permission.VIEW),
)
