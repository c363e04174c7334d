"""Repositories of the registry, and the login tokens of its clients. Not in LXD's API."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from isola.access import refusal_of_shared
from isola.doors.rest.addresses import address
from isola.doors.rest.answers import sync
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.times import moment
from isola.errors import Forbidden, InvalidInput, NotFound
from isola.images.repositories import TaggedManifest
from isola.model.expiry import expiry
from isola.model.login_token import LoginToken
from isola.model.reference import Entity, Kind, Ref
from isola.model.repository import path_of, repository_entity

_ROOT = "/1.0/isola/registry"
_REPOSITORIES, _TOKENS = f"{_ROOT}/repositories", f"{_ROOT}/tokens"


async def list_repositories(request: Request) -> web.StreamResponse:
    """Repositories with what was pushed, and those that the aliases of images make."""
    views = request.services.repositories.views
    found = [each for each in views.repositories() if request.lists(repository_entity(each))]
    if not request.recursion:
        return sync([address(repository_entity(each)) for each in found])
    return sync([_repository(each, len(views.tags_here(each))) for each in found])


async def get_repository(request: Request) -> web.StreamResponse:
    """One repository with its tags, and with manifests that have none."""
    repository, views = _ref(request), request.services.repositories.views
    entries = await views.entries(repository)
    if not entries and repository not in views.repositories():
        raise NotFound(f"Repository {repository.quoted} not found")
    tags = [_tag(repository, each) for each in entries]
    return sync(_repository(repository, len([tag for tag in tags if tag["tag"]])) | {"manifests": tags})


async def delete_repository(request: Request) -> web.StreamResponse:
    """Delete a repository; with ``tag`` or ``digest`` only this tag, or this manifest with all its tags."""
    repository, repositories = _ref(request), request.services.repositories
    if reason := refusal_of_shared(request.caller, request.project, repository.project):
        raise Forbidden(reason)
    tag, digest = request.query.get("tag", ""), request.query.get("digest", "")
    if tag and digest:
        raise InvalidInput("Either a tag or a digest", field="digest")
    if tag:
        await repositories.remove_tag(repository, tag, caller=request.caller)
    elif digest:
        await repositories.remove_manifest(repository, digest, caller=request.caller)
    else:
        await repositories.remove(repository, caller=request.caller)
    return sync()


async def list_tokens(request: Request) -> web.StreamResponse:
    """Login tokens, without their secrets."""
    tokens = list(request.services.login_tokens)
    return sync([_token(each) if request.recursion else address(each.entity) for each in tokens])


async def get_token(request: Request) -> web.StreamResponse:
    """One login token."""
    return sync(_token(request.services.login_tokens.get(request.parameters["name"])))


async def create_token(request: Request) -> web.StreamResponse:
    """Create a login token: ``name``, ``project`` (the only one), ``read_only``, ``expires`` (as in ``30d``). The
    answer has the secret, which is not shown again.
    """
    fields = await request.fields()
    token, secret = await request.services.login_tokens.create(
        fields.text("name"),
        project=fields.text("project", ""),
        read_only=fields.boolean("read_only"),
        expires_at=_end(fields.text("expires", ""), request.services.host.clock.now()),
        caller=request.caller,
    )
    return sync(_token(token) | {"secret": secret}, location=address(token.entity), status=201)


async def delete_token(request: Request) -> web.StreamResponse:
    """Remove a login token: clients that have logged in with it are refused from now on."""
    await request.services.login_tokens.remove(request.parameters["name"], caller=request.caller)
    return sync()


def _ref(request: Request) -> Ref:
    return request.ref(request.parameters["name"], Kind.REPOSITORY)


def _repository(repository: Ref, tags: int) -> dict[str, object]:
    return {
        "name": repository.name,
        "project": repository.project,
        "path": path_of(repository),
        "tag_count": tags,
    }


def _tag(repository: Ref, entry: TaggedManifest) -> dict[str, object]:
    image = Entity.of(Kind.IMAGE, repository.renamed(entry.image)) if entry.image else None
    return {
        "tag": entry.tag,
        "digest": entry.digest,
        "media_type": entry.media_type,
        "artifact_type": entry.artifact_type,
        "size": entry.size,
        "image": address(image) if image is not None else "",
        "pushed_at": moment(entry.pushed_at),
    }


def _token(token: LoginToken) -> dict[str, object]:
    return {
        "name": token.name,
        "project": token.project,
        "read_only": token.read_only,
        "created_at": moment(token.created_at),
        "expires_at": moment(token.expires_at),
    }


def _end(text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        return expiry(text).after(now)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("Invalid lifetime of the token", evidence=str(error), field="expires") from None


ROUTES = (
    ("GET", _REPOSITORIES, list_repositories, Permission.VIEW),
    ("GET", f"{_REPOSITORIES}/{{name...}}", get_repository, Permission.VIEW),
    ("DELETE", f"{_REPOSITORIES}/{{name...}}", delete_repository, Permission.EDIT),
    ("GET", _TOKENS, list_tokens, Permission.ADMIN),
    ("POST", _TOKENS, create_token, Permission.ADMIN),
    ("GET", f"{_TOKENS}/{{name}}", get_token, Permission.ADMIN),
    ("DELETE", f"{_TOKENS}/{{name}}", delete_token, Permission.ADMIN),
)
