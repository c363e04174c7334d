"""The program that an instance is asked to run in place of its image's; an addition to the API."""

from __future__ import annotations

from isola.doors.http.reading import Fields
from isola.model.instance import Start
from isola.model.program import Program

_FOREVER = -1


def program_of(fields: Fields) -> Program | None:
    """``program`` of a request; None if it is absent. Raises InvalidInput."""
    if not fields.has("program"):
        return None
    given = fields.inside("program")
    return Program(
        entrypoint=given.texts("entrypoint") if given.has("entrypoint") else None,
        arguments=given.texts("arguments") if given.has("arguments") else None,
        cwd=given.text("cwd", "") or None,
        user=given.text("user", "") or None,
        stop_signal=given.text("stop_signal", "") or None,
        stop_timeout=given.whole("stop_timeout", 0, minimum=_FOREVER) if given.has("stop_timeout") else None,
    )


def program_json(start: Start) -> dict[str, object]:
    """What an instance runs."""
    return {
        "entrypoint": list(start.entrypoint),
        "arguments": list(start.arguments),
        "cwd": start.cwd,
        "user": start.user,
        "stop_signal": start.stop_signal,
        "stop_timeout": start.stop_timeout,
        "terminal": start.terminal,
    }
