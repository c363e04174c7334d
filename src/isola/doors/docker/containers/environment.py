"""Environment variables of containers: keys ``environment.*``, and those with the names of empty and removed ones."""

from __future__ import annotations

from collections.abc import Mapping

from isola.doors.docker.containers.view import View
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.instances.configuration import environment

_EMPTY, _UNSET = "isola.environment.empty", "isola.environment.unset"


def environment_keys(fields: Fields) -> dict[str, str]:
    """The last one of a name counts; one without ``=`` removes what the image says."""
    chosen: dict[str, str | None] = {}
    for each in fields.texts("Env"):
        name, equals, value = each.partition("=")
        if not name:
            raise InvalidInput(f"invalid environment variable: {each[:80]}")
        chosen[name] = value if equals else None
    keys = {f"environment.{name}": value for name, value in chosen.items() if value}
    for key, names in (
        (_EMPTY, [name for name, value in chosen.items() if value == ""]),
        (_UNSET, [name for name, value in chosen.items() if value is None]),
    ):
        if names:
            keys[key] = ",".join(names)
    return keys


def variables(view: View) -> list[str]:
    """``Env``: first those of the configuration, as the client has ordered them, then the rest of the image's."""
    now = environment(view.config, view.instance.start.environment)
    image: Mapping[str, str] = view.instance.start.environment
    given = [each.partition("=")[0] for each in view.note.config.get("Env") or ()]
    changed = [name for name, value in now.items() if name in given or image.get(name) != value]
    ordered = dict.fromkeys((*(name for name in given if name in now), *changed, *now))
    removed = [name for name in view.config.get(_UNSET, "").split(",") if name and name not in now]
    return [*(f"{name}={now[name]}" for name in ordered), *removed]
