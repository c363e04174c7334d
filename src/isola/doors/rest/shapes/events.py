"""Events."""

from __future__ import annotations

from collections.abc import Mapping

from isola.doors.rest.addresses import address, requestor
from isola.doors.rest.shapes.operations import operation_json
from isola.doors.rest.shapes.times import moment
from isola.model.event import Event, Lifecycle, LogLine
from isola.model.reference import OF_SERVER


def event_json(event: Event) -> dict[str, object]:
    """An event as the API documents it; ``metadata`` depends on its type."""
    return {
        "type": event.kind.value,
        "timestamp": moment(event.timestamp),
        "metadata": _metadata(event),
        "location": "none",
        "project": "" if event.project == OF_SERVER else event.project,
    }


def _metadata(event: Event) -> Mapping[str, object]:
    content = event.content
    if isinstance(content, LogLine):
        return {"level": content.level, "message": content.message, "context": dict(content.context)}
    if isinstance(content, Lifecycle):
        return _lifecycle(content)
    return operation_json(content)


def _lifecycle(content: Lifecycle) -> dict[str, object]:
    """As in LXD, which omits unknown fields, and Incus, which adds name and project to the address."""
    source = content.source
    shape: dict[str, object] = {
        "action": content.action,
        "source": address(source),
        "name": "/".join(source.names),
        "project": source.project,
    }
    if content.context:
        shape["context"] = dict(content.context)
    if (by := requestor(content.caller)) is not None:
        shape["requestor"] = by
    return shape
