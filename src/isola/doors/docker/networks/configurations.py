"""Networks that only hold settings (``--config-only``), and requests for networks with those (``--config-from``)."""

from __future__ import annotations

from isola.doors.docker.networks.lookup import Shown, all_networks
from isola.doors.docker.networks.notes import labels_of, note_of
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import Forbidden, NotFound

_OF_OPERATORS = (
    "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal "
    "| attachable | scope ] are not supported."
)


def source_of(fields: Fields) -> str:
    """The name of the configuration that a request names; empty if it names none."""
    return fields.inside("ConfigFrom").text("Network", "")


def check_configuration(fields: Fields) -> None:
    """Whether a request mixes what belongs to a configuration with what does not. Raises Forbidden."""
    only, source = fields.boolean("ConfigOnly"), source_of(fields)
    if only and (any(map(fields.boolean, ("Ingress", "Internal", "Attachable"))) or fields.text("Scope", "")):
        raise Forbidden(_OF_OPERATORS)
    if only and source:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    if not source:
        return
    ipam = fields.inside("IPAM")
    if (
        ipam.text("Driver", "") not in ("", "default")
        or not fields.boolean("EnableIPv4", True)
        or fields.boolean("EnableIPv6")
        or any((fields.mapping("Labels", empty=True), ipam.mapping("Options", empty=True), ipam.objects("Config")))
    ):
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if fields.mapping("Options", empty=True):
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")


def completed(request: Request, fields: Fields) -> Fields:
    """A request with the settings of the configuration that it names. Raises NotFound."""
    source = source_of(fields)
    found = _named(request, source) if source else None
    if found is None or found.network is None:
        return fields
    note = note_of(found.network)
    return fields.changed(
        {
            "EnableIPv4": note.ipv4,
            "EnableIPv6": note.ipv6,
            "IPAM": {"Config": [dict(pool) for pool in note.pools], "Options": note.ipam_options},
            "Options": dict(note.options),
            "Labels": labels_of(found.network),
        }
    )


def _named(request: Request, name: str) -> Shown:
    """Raises NotFound: ids are no names here, as in Docker."""
    for each in all_networks(request):
        if each.name == name and each.configuration:
            return each
    raise NotFound(f'configuration network "{name[:200]}" does not exist')
