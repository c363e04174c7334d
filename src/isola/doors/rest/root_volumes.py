"""PUT and PATCH of root volumes: users' keys and the description; the rest is changed through their instances."""

from __future__ import annotations

from isola.doors.http.reading import Fields
from isola.doors.rest.request import Request
from isola.doors.rest.shapes.volumes import root_volume_writable
from isola.doors.rest.volumes import root_of
from isola.errors import InvalidInput, Unsupported
from isola.instances.root_notes import RootNotes, notes_of
from isola.model.instance import Instance
from isola.model.units import parse_size


async def change_root(request: Request, fields: Fields, *, partial: bool) -> None:
    """The size may be sent back unchanged, as clients of LXD do.

    Raises InvalidInput, Unsupported, PreconditionFailed."""
    instance = root_of(request)
    if fields.text("restore", ""):
        raise InvalidInput(
            "Snapshots of a root volume are those of its instance", field="restore", remedy="restore the instance"
        )
    config = fields.mapping("config", empty=True)
    _require_size(instance, config, partial=partial)
    own = {key: value for key, value in config.items() if key != "size"}
    if other := [key for key, value in own.items() if value and not key.startswith("user.")]:
        raise Unsupported(
            f"A root volume has no key {other[0][:80]!r}",
            field=f"config.{other[0]}",
            remedy="use user.*, or the key of the instance or of its root disk",
        )

    def wanted(before: RootNotes) -> RootNotes:
        if not partial:
            return RootNotes(own, fields.text("description", ""))
        return RootNotes({**before.config, **own}, fields.text("description", before.description))

    request.matching(root_volume_writable, lambda found: found)(instance)
    if wanted(notes_of(instance)) == notes_of(instance):
        return
    operation = request.services.instances.root_volumes.change(instance.ref, wanted, caller=request.caller)
    await request.services.operations.finish(operation)


def _require_size(instance: Instance, config: dict[str, str], *, partial: bool) -> None:
    has = instance.volatile.get("root.size", "")
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
