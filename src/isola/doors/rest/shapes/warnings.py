"""Warnings."""

from __future__ import annotations

from isola.doors.rest.addresses import address
from isola.doors.rest.shapes.times import moment
from isola.model.warning import WarningRecord


def warning_json(warning: WarningRecord) -> dict[str, object]:
    """As the LXD API documents it."""
    return {
        "uuid": warning.id,
        "location": "none",
        "project": "" if warning.of_server else warning.project,
        "type": warning.type,
        "count": warning.count,
        "first_seen_at": moment(warning.first_seen_at),
        "last_seen_at": moment(warning.last_seen_at),
        "last_message": warning.message,
        "severity": warning.severity,
        "entity_url": address(warning.entity),
        **writable(warning),
    }


def writable(warning: WarningRecord) -> dict[str, object]:
    """The field that PUT replaces; the entity tag is computed of it."""
    return {"status": warning.status.value}
