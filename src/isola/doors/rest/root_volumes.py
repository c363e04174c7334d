"""PUT and PATCH of root volumes, which can only be changed through their instances."""

from __future__ import annotations

from isola.doors.http.reading import Fields
from isola.doors.rest.request import Request
from isola.doors.rest.shapes.volumes import root_volume_writable
from isola.doors.rest.volumes import root_of
from isola.errors import InvalidInput, Unsupported
from isola.model.units import parse_size


def require_unchanged(request: Request, fields: Fields, *, partial: bool) -> None:
    """Accept unchanged fields, as LXD does, for clients that send back what they read.

    Raises InvalidInput, Unsupported, PreconditionFailed."""
    instance = root_of(request)
    request.matching(root_volume_writable, lambda found: found)(instance)
    if fields.text("restore", ""):
        raise InvalidInput(
            "Snapshots of a root volume are those of its instance", field="restore", remedy="restore the instance"
        )
    if fields.text("description", ""):
        raise Unsupported(
            "A root volume has no description of its own", field="description", remedy="describe its instance"
        )
    config, has = fields.mapping("config", empty=True), instance.volatile.get("root.size", "")
    for key in [key for key, value in config.items() if value and key != "size"]:
        raise Unsupported("A root volume has no keys of its own", field=f"config.{key}")
    if _bytes(config.get("size", has if partial else "")) != _bytes(has):
        raise InvalidInput(
            "The size of a root volume cannot be changed directly",
            field="config.size",
            remedy=f"set the size of the root disk of instance {instance.name!r}",
        )


def _bytes(size: str) -> int:
    try:
        return parse_size(size) if size else 0
    except ValueError as error:
        raise InvalidInput(f"Invalid size {size[:40]!r}", evidence=str(error), field="config.size") from None
