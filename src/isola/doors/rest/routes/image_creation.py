"""Creating images: uploaded, or built by an image source."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.answers import background
from isola.doors.rest.registries import PROTOCOL, begin_pull
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.uploads import Upload, receive, scratch
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host.cancellation import finish
from isola.images import SourceRequest
from isola.instances.commit import CommitRequest
from isola.model.image import Image
from isola.model.names import alias_name
from isola.model.reference import DEFAULT_PROJECT, Kind, Ref

_JSON_TYPES = ("application/json", "application/x-www-form-urlencoded")
_PROTOCOLS = ("", "lxd", "incus")


async def create(request: Request) -> web.StreamResponse:
    """Create an image from a tarball in the body, two as multipart, or JSON that names its source.

    A tarball of OCI's layout or of ``docker save`` may have several; ``images`` in the metadata lists them.
    """
    if request.http.content_type in _JSON_TYPES:
        return _build(request, await request.fields())
    return await _import(request)


async def _import(request: Request) -> web.StreamResponse:
    properties = _properties(request.header("properties"))
    public = request.header("public").lower() in ("1", "true", "yes", "on")
    aliases = tuple(alias_name(text) for _, text in _pairs(request.header("aliases"), "aliases") if text)
    expected = request.header("fingerprint").lower()
    services = request.services
    directory = await scratch(request)
    try:
        upload = await receive(request, directory)
        if len(upload.files) == 1 and await services.images.archives.holds_images(upload.files[0]):
            return background(
                services.images.archives.load(
                    upload.files[0],
                    aliases=aliases,
                    scratch=directory,
                    project=request.home(Kind.IMAGE),
                    caller=request.caller,
                )
            )
        operation = services.images.start_import(
            upload.files,
            properties=properties,
            public=public,
            filename=_filename(request, upload),
            aliases=aliases,
            fingerprint=expected or None,
            scratch=directory,  # removed at the end of the operation
            project=request.home(Kind.IMAGE),
            caller=request.caller,
        )
    except BaseException:
        await finish(services.host.files.remove_tree(directory))
        raise
    return background(operation)


def _build(request: Request, fields: Fields) -> web.StreamResponse:
    source = fields.inside("source")
    kind = source.text("type", "")
    if kind in ("instance", "container", "snapshot", "virtual-machine"):
        return _publish(request, fields, source)
    if kind == "url":
        raise Unsupported("Images by URL are not offered yet", field="source.type", remedy="download and import it")
    if source.text("mode", "") == "push":
        raise Unsupported(
            "Images cannot be pushed between servers yet", field="source.mode", remedy="use mode pull or relay"
        )
    if kind != "image":
        raise InvalidInput("Unknown kind of source", field="source.type", remedy="use image")
    if source.text("protocol", "") == PROTOCOL:
        return begin_pull(request, fields, source)
    if source.text("protocol", "") == "build":
        return _begin_build(request, fields, source)
    if not _is_here(request, source):
        raise Unsupported(
            "Images of other servers are not offered yet",
            field="source.protocol",
            remedy="use protocol 'oci' for registries, 'build' for the image sources of this server, or import a file",
        )
    return _begin_copy(request, fields, source)


def _publish(request: Request, fields: Fields, source: Fields) -> web.StreamResponse:
    """Make an image of an instance or a snapshot (``INSTANCE/SNAPSHOT``) of the request's project."""
    name, slash, snapshot = source.text("name").partition("/")
    if bool(slash) != (source.text("type") == "snapshot"):
        raise InvalidInput("INSTANCE is expected, or INSTANCE/SNAPSHOT for a snapshot", field="source.name")
    wanted = CommitRequest(
        names=tuple(alias_name(alias.text("name"), "aliases") for alias in fields.objects("aliases")),
        snapshot=snapshot,
        author=source.text("author", ""),
        message=source.text("message", ""),
        changes=source.texts("changes"),
        pause=source.boolean("pause", True),
        properties=fields.mapping("properties"),
        public=fields.boolean("public"),
        profiles=fields.texts("profiles") if fields.has("profiles") else None,
        expires_at=fields.time("expires_at"),
        exported=True,
    )
    instance = Ref(request.project, name)
    return background(request.services.instances.contents.commit(instance, wanted, caller=request.caller))


def _is_here(request: Request, source: Fields) -> bool:
    """Whether the source is this server, named by its certificate."""
    pair = request.services.identity.pair
    own = pair.certificate.strip() if pair is not None else ""
    return source.text("protocol", "") in _PROTOCOLS and bool(own) and source.text("certificate", "").strip() == own


def _begin_copy(request: Request, fields: Fields, source: Fields) -> web.StreamResponse:
    """Copy an image of another project, which the caller may use, or which is public or lent by a secret."""
    images = request.services.images
    image = _lent(request, source)
    names = tuple(alias_name(alias.text("name"), "aliases") for alias in fields.objects("aliases"))
    public, auto_update = fields.boolean("public"), fields.boolean("auto_update")
    properties, filename = fields.mapping("properties"), fields.text("filename", "")
    expires_at = fields.time("expires_at")
    profiles = fields.texts("profiles") if fields.has("profiles") else None

    def decide(found: Image) -> Image:
        return replace(
            found,
            public=found.public or public,
            auto_update=found.auto_update or auto_update,
            properties={**found.properties, **properties},
            filename=filename or found.filename,
            expires_at=expires_at or found.expires_at,
            profiles=found.profiles if profiles is None else profiles,
        )

    return background(images.start_copy(image.ref, request.home(Kind.IMAGE), decide, names, caller=request.caller))


def _lent(request: Request, source: Fields) -> Image:
    services, project = request.services, source.text("project", "") or DEFAULT_PROJECT
    name = source.text("fingerprint", "") or source.text("alias", "")
    if not name:
        raise InvalidInput("The source names no image", field="source.fingerprint")
    try:
        services.projects.get(project)
        image = services.images.resolve(Ref(services.projects.home(project, Kind.IMAGE), name))
    except NotFound:
        image = None
    secret = source.text("secret", "")
    if image is None or not (request.caller.may_use(project) or image.public or services.images.is_lent(image, secret)):
        raise NotFound(f"Image {name[:80]!r} not found", field="source.fingerprint")
    return image


def _begin_build(request: Request, fields: Fields, source: Fields) -> web.StreamResponse:
    services = request.services
    build = SourceRequest(
        name=source.text("alias"), options=source.mapping("options"), properties=fields.mapping("properties")
    )
    driver = source.text("server", "") or _source_of(request, build.name)
    aliases = tuple(alias_name(alias.text("name"), "aliases") for alias in fields.objects("aliases"))

    return background(
        services.images.start_build(
            driver,
            build,
            aliases=aliases,
            public=fields.boolean("public"),
            auto_update=fields.boolean("auto_update"),
            project=request.home(Kind.IMAGE),
            caller=request.caller,
        )
    )


def _source_of(request: Request, name: str) -> str:
    """The image source that offers a name."""
    offering = request.services.images.sources.offering(name)
    if offering is None:
        raise NotFound(
            f"No image source here offers {name[:80]!r}",
            field="source.alias",
            remedy=f"choose one of: {', '.join(request.services.images.offers())}",
        )
    return offering[0]


def _filename(request: Request, upload: Upload) -> str:
    """A file name for display; never used as a path."""
    name = (request.header("filename") or upload.filename).replace("\\", "/").rpartition("/")[2]
    return "".join(sign for sign in name if sign.isprintable())[:200]


def _properties(text: str) -> dict[str, str]:
    return dict(_pairs(text, "properties"))


def _pairs(text: str, header: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=256)
    except (ValueError, UnicodeDecodeError):
        pairs = [("\0", "")]
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise InvalidInput(f"The {header} are malformed", field=f"X-LXD-{header}", remedy="use key=value&key=value")
    return pairs


ROUTES = (("POST", "/1.0/images", create, Permission.EDIT),)
