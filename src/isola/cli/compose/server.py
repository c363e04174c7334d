"""What the daemon has of an application."""

from __future__ import annotations

from isola.compose.changes import Existing
from isola.compose.instances import DIGEST, NUMBER, PROJECT, SERVICE, Server
from isola.compose.oneoff import ONE_OFF
from isola.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client import Client
    from isola.client.shapes import InstanceInfo

_ROLE = "volatile.deploy.role"
"""Set where ``isola deploy`` has put another version in an instance's place."""
_RUNNING = ("Running", "Frozen")


def instances(client: Client, application: str, *, kept: bool = False, one_off: bool = False) -> list[InstanceInfo]:
    """The instances of an application, by service and number.

    With ``kept`` also versions that do not serve; with ``one_off`` also those of ``compose run``.
    """
    found = [
        one
        for one in client.instances.all()
        if one["config"].get(PROJECT) == application
        and (kept or not one["config"].get(_ROLE))
        and (one_off or one["config"].get(ONE_OFF) != "True")
    ]
    return sorted(found, key=lambda one: (one["config"].get(SERVICE, ""), _number(one), one["name"]))


def existing(client: Client, application: str) -> list[Existing]:
    """The same for ``compose.changes``."""
    return [
        Existing(
            one["name"],
            one["config"].get(SERVICE, ""),
            _number(one),
            one["config"].get(DIGEST, ""),
            one["status"] in _RUNNING,
        )
        for one in instances(client, application)
    ]


def applications(client: Client) -> dict[str, list[InstanceInfo]]:
    """All applications by name."""
    found: dict[str, list[InstanceInfo]] = {}
    for one in client.instances.all():
        if name := one["config"].get(PROJECT):
            found.setdefault(name, []).append(one)
    return dict(sorted(found.items()))


def facts(client: Client) -> Server:
    """The pool of roots and the NICs of the default profile. Raises InvalidInput without a root disk."""
    devices = client.profiles.get("default")["devices"]
    pools = [
        device["pool"] for device in devices.values() if device.get("type") == "disk" and device.get("path") == "/"
    ]
    if not pools:
        raise InvalidInput(
            "The default profile has no root disk", remedy="add one: isola profile device add default root"
        )
    return Server(pools[0], tuple(name for name, device in devices.items() if device.get("type") == "nic"))


def _number(one: InstanceInfo) -> int:
    text = one["config"].get(NUMBER, "")
    return int(text) if text.isascii() and text.isdigit() else 0
