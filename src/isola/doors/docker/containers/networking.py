"""Networks of a container: nic devices in place of those of its profiles."""

from __future__ import annotations

from collections.abc import Mapping

from isola.devices.nics import network_name
from isola.doors.docker.networks.endpoints import nic_device
from isola.doors.docker.networks.lookup import BRIDGE, Shown, default_network, find_network
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, NotFound
from isola.model.reference import Kind, Ref

DEFAULT = ("", "default", BRIDGE)
"""Modes that mean the networks of the default profile."""
_ALONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_MASK = {"type": "none"}


def nic_devices(request: Request, host: Fields, endpoints: Fields, address: str = "") -> dict[str, dict[str, str]]:
    """Of ``NetworkMode`` and ``NetworkingConfig.EndpointsConfig``. Raises NotFound, InvalidInput, Unsupported.

    ``address``: the hardware address on the first one, unless it names one itself.
    """
    mode = host.text("NetworkMode", "")
    inherited = _inherited(request)
    nothing = {name: dict(_MASK) for name in inherited}
    wanted = _wanted(request, mode, endpoints)
    devices: dict[str, dict[str, str]] = {}
    default = default_network(request)
    on_default = next((name for name, device in inherited.items() if network_name(device)), "")
    taken = set(inherited)
    for each, endpoint in wanted:
        device = nic_device(each, endpoint)
        if address:
            _set_address(device, address.replace("-", ":").lower())
            address = ""
        if default is not None and each.network == default and on_default:
            # The profile's own device serves, unless the request says more of it.
            devices[on_default] = {} if len(device) == 2 else {**device, "name": inherited[on_default].get("name", "")}
            continue
        name = next(name for number in range(len(taken) + 1) if (name := f"eth{number}") not in taken)
        taken.add(name)
        devices[name] = device
    if not any(name in inherited for name in devices):  # not on any network of the profile: its names are free
        named = zip((f"eth{number}" for number in range(len(devices))), devices.values(), strict=True)
        return nothing | dict(named)
    found = nothing | devices
    return {name: {k: v for k, v in device.items() if v} for name, device in found.items() if device}


def _set_address(device: dict[str, str], address: str) -> None:
    if device.setdefault("hwaddr", address) != address:
        raise InvalidInput(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be "
            "left empty",
            field="MacAddress",
        )


def _wanted(request: Request, mode: str, endpoints: Fields) -> list[tuple[Shown, Fields]]:
    """The networks, the one of the mode first, each with its settings."""
    names = {name: endpoints.inside(name) for name in endpoints.names()}
    first = mode if mode not in DEFAULT else BRIDGE
    settings = next((names.pop(name) for name in (mode, first, "default") if name in names), None)
    networks = [(_find(request, first), settings or Fields({}))] if _has(request, first) else []
    networks += [(_find(request, name), each) for name, each in names.items()]
    found: dict[str, tuple[Shown, Fields]] = {}
    for network, each in networks:
        if network.network is None:
            raise InvalidInput(_ALONE)
        if network.id not in found or each.names():
            found[network.id] = (network, each)
    return list(found.values())


def _find(request: Request, name: str) -> Shown:
    """Raises InvalidInput: clients take "not found" for a missing image, and pull it."""
    try:
        return find_network(request, name)
    except NotFound as error:
        raise InvalidInput(f"failed to set up container networking: {error.message}", field="NetworkMode") from None


def _has(request: Request, first: str) -> bool:
    """A default profile without a network gives none."""
    return first != BRIDGE or default_network(request) is not None


def _inherited(request: Request) -> Mapping[str, Mapping[str, str]]:
    """NICs of the default profile."""
    profile = request.services.profiles.get(Ref(request.home(Kind.PROFILE), "default"))
    return {name: device for name, device in profile.devices.items() if device.get("type") == "nic"}
