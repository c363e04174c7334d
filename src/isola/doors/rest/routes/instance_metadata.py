"""Metadata of the image of an instance, and its templates."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.acting import finished, publishing
from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.instances import image_metadata_json
from isola.errors import InvalidInput
from isola.instances.metadata import Decide, Metadata, metadata_of, plain_file
from isola.model.image_facts import ImageFacts
from isola.model.template import LARGEST_TEXTS, Template

_LAST_SECOND = 253402300799


async def get(request: Request) -> web.StreamResponse:
    """Metadata of the image it was created from, or as it was changed."""
    shape = image_metadata_json(metadata_of(instance_of(request)))
    return sync(shape, etag=shape)


async def put(request: Request) -> web.StreamResponse:
    """Replace it; the texts of templates stay."""
    fields = await request.fields()

    def replaced(found: Metadata) -> Metadata:
        return replace(found, facts=_facts(fields, ImageFacts(), {}), paths=_paths(fields))

    return await _change(request, request.matching(image_metadata_json, replaced))


async def patch(request: Request) -> web.StreamResponse:
    """Change some of it; an empty property is removed."""
    fields = await request.fields()

    def merged(found: Metadata) -> Metadata:
        facts = _facts(fields, found.facts, dict(found.facts.properties))
        return replace(found, facts=facts, paths={**found.paths, **_paths(fields)})

    return await _change(request, request.matching(image_metadata_json, merged))


async def templates(request: Request) -> web.StreamResponse:
    """Names of its templates; with ``path=`` the text of one, raw."""
    found = metadata_of(instance_of(request))
    if name := request.query.get("path", ""):
        text = found.file(name)
        return web.Response(body=text.encode("utf-8", "replace"), content_type="application/octet-stream")
    return sync(sorted(found.files))


async def put_template(request: Request) -> web.StreamResponse:
    """Create or replace the template ``path=``; the body is its text."""
    name = plain_file(_name(request))
    try:
        text = (await request.body(LARGEST_TEXTS)).decode()
    except UnicodeDecodeError:
        raise InvalidInput("A template is text in UTF-8", field="body") from None
    return await _change(request, lambda found: found.with_file(name, text))


async def delete_template(request: Request) -> web.StreamResponse:
    """Delete the template ``path=``."""
    name = _name(request)
    return await _change(request, lambda found: found.without_file(name))


async def _change(request: Request, decide: Decide) -> web.StreamResponse:
    ref = instance_of(request).ref
    await finished(request, request.services.instances.change_metadata(ref, decide, caller=request.caller))
    return sync()


def _name(request: Request) -> str:
    name = request.query.get("path", "")
    if not name:
        raise InvalidInput("The request names no template", field="path", remedy="add path=NAME")
    return name


def _facts(fields: Fields, before: ImageFacts, properties: dict[str, str]) -> ImageFacts:
    properties |= fields.mapping("properties", empty=True)
    return ImageFacts(
        fields.text("architecture", before.architecture),
        fields.whole("creation_date", before.creation_date, maximum=_LAST_SECOND),
        fields.whole("expiry_date", before.expiry_date, maximum=_LAST_SECOND),
        {key: value for key, value in properties.items() if value},
    )


def _paths(fields: Fields) -> dict[str, Template]:
    found = fields.inside("templates")
    return {path: _template(path, found.inside(path), found) for path in found.names()}


def _template(path: str, fields: Fields, parent: Fields) -> Template:
    if not path:
        raise parent.wrong(path, "has no path")
    return Template(
        path,
        fields.texts("when"),
        None,
        plain_file(fields.text("template"), f"templates.{path[:80]}.template"),
        fields.boolean("create_only"),
        fields.mapping("properties"),
    )


def _about_template(request: Request) -> dict[str, str]:
    return {"path": request.query.get("path", "")}


def _telling_of_one(request: Request) -> bool:
    return bool(request.query.get("path"))


_METADATA, _TEMPLATES = "/1.0/instances/{name}/metadata", "/1.0/instances/{name}/metadata/templates"
_READ = publishing("instance-metadata-retrieved", get, lambda request: {})
_PUT = publishing("instance-metadata-updated", put, lambda request: {})
_PATCH = publishing("instance-metadata-updated", patch, lambda request: {})
_READ_TEMPLATE = publishing("instance-metadata-template-retrieved", templates, _about_template, only=_telling_of_one)
_WRITE = publishing("instance-metadata-template-created", put_template, _about_template)
_DELETE = publishing("instance-metadata-template-deleted", delete_template, _about_template)

ROUTES = in_every_tree(
    ("GET", _METADATA, _READ, Permission.VIEW),
    ("PUT", _METADATA, _PUT, Permission.EDIT),
    ("PATCH", _METADATA, _PATCH, Permission.EDIT),
    ("GET", _TEMPLATES, _READ_TEMPLATE, Permission.VIEW),
    ("POST", _TEMPLATES, _WRITE, Permission.EDIT),
    ("DELETE", _TEMPLATES, _DELETE, Permission.EDIT),
)
