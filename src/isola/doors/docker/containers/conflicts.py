"""Fields of a request that exclude each other, refused with the texts of Docker, which scripts read."""

from __future__ import annotations

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput

_JOINED = "container:"


def refuse_conflicts(fields: Fields, host: Fields) -> None:
    """Raises InvalidInput for what a container cannot have whose network or names are not its own."""
    mode = host.text("NetworkMode", "")
    named = bool(fields.text("Hostname", ""))
    if mode == _JOINED.rstrip(":"):
        raise InvalidInput("Invalid network mode: invalid container format container:<name|id>")
    if host.text("UTSMode", "") == "host" and named:
        raise InvalidInput("conflicting options: hostname and the UTS mode")
    if mode == "host" and host.texts("Links"):
        raise InvalidInput(
            "conflicting options: host type networking can't be used with links. This would result in undefined "
            "behavior"
        )
    if (mode == "host" or mode.startswith(_JOINED)) and fields.text("MacAddress", ""):
        raise InvalidInput("conflicting options: mac-address and the network mode")
    if mode.startswith(_JOINED):
        _refuse_in_another(fields, host, mode, named)


def _refuse_in_another(fields: Fields, host: Fields, mode: str, named: bool) -> None:
    """In the network of another container."""
    if not mode.removeprefix(_JOINED):
        raise InvalidInput("Invalid network mode: invalid container format container:<name|id>")
    published = bool(host.inside("PortBindings").names()) or host.boolean("PublishAllPorts")
    found = (
        (named, "hostname and the network mode"),
        (
            bool(host.texts("Links")),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (bool(host.texts("Dns")), "dns and the network mode"),
        (bool(host.texts("ExtraHosts")), "custom host-to-IP mapping and the network mode"),
        (published, "port publishing and the container type network mode"),
        (bool(fields.inside("ExposedPorts").names()), "port exposing and the container type network mode"),
    )
    for given, what in found:
        if given:
            raise InvalidInput(f"conflicting options: {what}")
