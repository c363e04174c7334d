"""Lists of a registry: the tags of a repository, and its repositories."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from isola.errors import InvalidInput
from isola.host.http import Http, HttpRequest
from isola.images.hostile_json import MAX_DOCUMENT, Fields
from isola.images.registry.failures import failure
from isola.images.registry.session import Session, pull_scope
from isola.model.image_reference import HUB_INDEX, ImageReference, check_path, check_tag

_PAGE = 1000
_MOST_PAGES = 50
_NEXT = re.compile(r'<([^>]{1,2000})>\s*;\s*rel="?next"?', re.ASCII)
_CATALOG = "registry:catalog:*"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that was found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


async def search_hub(http: Http, part: str, limit: int) -> tuple[Repository, ...]:
    """Docker Hub has a search of its own, and no list. Raises HostFailure."""
    async with http.exchange(
        HttpRequest("GET", f"https://{HUB_INDEX}/v1/search?{urlencode({'q': part, 'n': limit})}")
    ) as response:
        if response.status != 200:
            raise await failure(response, "a search")
        fields = Fields.parse(await response.read(MAX_DOCUMENT), "search")
    return fields.objects("results", _found)


def _found(fields: Fields) -> Repository:
    return Repository(
        fields.text("name", longest=300),
        fields.text("description"),
        fields.number("star_count"),
        fields.boolean("is_official"),
    )


async def tags(session: Session, reference: ImageReference) -> tuple[str, ...]:
    """The tags of a repository. Raises NotFound, Forbidden, HostFailure."""
    path = f"{reference.path}/tags/list"
    found = await _pages(session, path, pull_scope(reference.path), "tags", reference.familiar_name)
    return tuple(check_tag(tag) for tag in found)


async def repositories(session: Session, part: str) -> tuple[str, ...]:
    """The repositories with this text in their names. Raises Unsupported or NotFound if the registry has no list."""
    found = await _pages(session, "_catalog", _CATALOG, "repositories", "a list of repositories")
    return tuple(check_path(name) for name in found if part in name)


async def _pages(session: Session, path: str, scope: str, key: str, what: str) -> list[str]:
    found: list[str] = []
    url = f"{session.url}/v2/{path}?{urlencode({'n': _PAGE})}"
    for _ in range(_MOST_PAGES):
        async with session.request("GET", url, scope) as response:
            if response.status != 200:
                raise await failure(response, what)
            found += Fields.parse(await response.read(MAX_DOCUMENT), "list").texts(key, most=100_000)
            onward = _NEXT.search(response.headers.get("link", ""))
            if onward is None:
                return found
            url = urljoin(response.url, onward[1])
    raise InvalidInput(
        f"The registry {session.endpoint.domain} has too many entries", evidence=f"{len(found)} and more"
    )
