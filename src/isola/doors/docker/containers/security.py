"""``HostConfig.SecurityOpt``."""

from __future__ import annotations

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, Unsupported

_FIELD = "HostConfig.SecurityOpt"
_TRUE = ("", "true", "1")


def security_keys(host: Fields) -> dict[str, str]:
    """Configuration keys of the options. Raises InvalidInput, Unsupported."""
    keys: dict[str, str] = {}
    for option in host.texts("SecurityOpt"):
        name, equals, value = option.partition("=")
        if not equals:
            name, _, value = option.partition(":")
        if name == "no-new-privileges":
            keys["isola.no_new_privileges"] = "true" if value in _TRUE else "false"
        elif name == "seccomp":
            keys["isola.seccomp"] = "default" if value == "builtin" else value
        elif (name == "apparmor" and value != "unconfined") or (name == "label" and value != "disable"):
            raise Unsupported(f"The security option {option[:80]!r} is not offered", field=_FIELD)
        elif name not in ("apparmor", "label"):
            raise InvalidInput(f'invalid --security-opt 2: "{option[:80]}"', field=_FIELD)
    return keys
