"""Filters of lists of containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from isola.doors.docker.containers.mount_points import mount_points
from isola.doors.docker.containers.ports import published, split
from isola.doors.docker.containers.summary import network_mode
from isola.doors.docker.containers.view import STATES, View
from isola.doors.docker.filtering import finds, matches_labels
from isola.doors.docker.identity import find
from isola.doors.docker.image_lookup import find_image
from isola.doors.docker.networks.lookup import all_networks
from isola.doors.docker.request import Request
from isola.errors import InvalidInput, NotFound
from isola.model.image import chain_ids

_HEALTH = ("none", "starting", "healthy", "unhealthy")
_YES, _NO = ("1", "t", "true"), ("0", "f", "false")
Match = Callable[[View], bool]
Values = Sequence[str]


def matcher(request: Request, filters: Mapping[str, Values]) -> Match:
    """Whether a container has what all filters name; one of the values of each. Raises InvalidInput, NotFound."""
    for name in filters:
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name[:80]}'", field="filters")
    tests = [_FILTERS[name](request, values) for name, values in filters.items() if values]
    return lambda view: all(test(view) for test in tests)


def _id(request: Request, values: Values) -> Match:
    return lambda view: any(view.id.startswith(value) or finds(value, view.id) for value in values)


def _name(request: Request, values: Values) -> Match:
    return lambda view: any(
        finds(value, name) for value in values for name in (view.instance.name, f"/{view.instance.name}")
    )


def _label(request: Request, values: Values) -> Match:
    return lambda view: matches_labels(view.labels, values)


def _status(request: Request, values: Values) -> Match:
    for value in values:
        if value not in STATES:
            raise InvalidInput(
                f"invalid filter 'status={value[:80]}': invalid value for state ({value[:80]}): must be one of "
                f"{', '.join(STATES)}",
                field="filters",
            )
    return lambda view: view.state in values


def _ancestor(request: Request, values: Values) -> Match:
    images, chains = set(), set()
    for value in values:
        try:
            found = find_image(request, value)
        except NotFound:
            continue
        images.add(found.fingerprint)
        if diff_ids := [layer.diff_id for layer in found.layers]:
            chains.add(chain_ids(diff_ids)[-1])
    return lambda view: (
        view.instance.image in images or view.note.image in values or bool(chains & set(view.instance.start.layers))
    )


def _volume(request: Request, values: Values) -> Match:
    def match(view: View) -> bool:
        places = [(each.get("Name"), each["Source"], each["Destination"]) for each in mount_points(request, view)]
        return any(value in place for place in places for value in values)

    return match


def _network(request: Request, values: Values) -> Match:
    names = {
        each.network.name
        for each in all_networks(request)
        if each.network is not None and any(each.id.startswith(value) or value == each.name for value in values)
    } | set(values)
    usual: set[str] = {each for each in ("host", "none") if each in names}
    usual |= {each.name for each in all_networks(request) if each.network is None and names & {each.id, each.id[:12]}}
    return lambda view: (
        any(device.get("network") in names for device in view.devices.values()) or network_mode(view) in usual
    )


def _health(request: Request, values: Values) -> Match:
    for value in values:
        if value not in _HEALTH:
            raise InvalidInput(
                f"invalid filter 'health={value[:80]}': invalid value for health ({value[:80]}): must be one of "
                f"{', '.join(_HEALTH)}",
                field="filters",
            )
    return lambda view: view.health in values


def _exited(request: Request, values: Values) -> Match:
    for value in values:
        if not value.removeprefix("-").isdecimal() or len(value) > 9:
            raise InvalidInput(
                f"invalid filter 'exited={value[:80]}': strconv.Atoi: parsing \"{value[:80]}\": invalid syntax",
                field="filters",
            )
    codes = {int(value) for value in values}
    return lambda view: view.state == "exited" and view.exit_status in codes


def _before(request: Request, values: Values) -> Match:
    moments = [find(request, value).created_at for value in values]
    return lambda view: view.instance.created_at < min(moments)


def _since(request: Request, values: Values) -> Match:
    moments = [find(request, value).created_at for value in values]
    return lambda view: view.instance.created_at > max(moments)


def _publish(request: Request, values: Values) -> Match:
    ports = _ports(values, "publish")

    def match(view: View) -> bool:
        return any(
            (int(each.host_port), each.port.partition("/")[2]) in ports
            for each in published(view.devices, view.instance.plugged)
        )

    return match


def _expose(request: Request, values: Values) -> Match:
    ports = _ports(values, "expose")

    def match(view: View) -> bool:
        exposed = [
            *(view.note.config.get("ExposedPorts") or {}),
            *(each.port for each in published(view.devices, view.instance.plugged)),
        ]
        return any(split(port) in ports for port in exposed)

    return match


def _ports(values: Values, filter: str) -> set[tuple[int, str]]:
    """``80``, ``80/udp``, ``8000-8080/tcp``."""
    found = set()
    for value in values:
        numbers, _, protocol = value.partition("/")
        first, dash, last = numbers.partition("-")
        for number in (first, last if dash else first):
            if not number.isdecimal():
                raise InvalidInput(
                    f"error while looking up for {filter} {value[:80]}: strconv.ParseUint: parsing "
                    f'"{number[:80]}": invalid syntax',
                    field="filters",
                )
        low, high = split(f"{first}/{protocol or 'tcp'}"), split(f"{last if dash else first}/{protocol or 'tcp'}")
        found |= {(number, low[1]) for number in range(low[0], high[0] + 1)}
    return found


def _is_task(request: Request, values: Values) -> Match:
    """Tasks of a swarm: none."""
    known = [value.lower() for value in values]
    if len(known) != 1 or known[0] not in (*_YES, *_NO):
        raise InvalidInput(f"invalid filter 'is-task=[{' '.join(values)[:80]}]'", field="filters")
    return lambda view: known[0] in _NO


def _isolation(request: Request, values: Values) -> Match:
    """Of containers of Windows."""
    return lambda view: "default" in values or "" in values


_FILTERS: Mapping[str, Callable[[Request, Values], Match]] = {
    "ancestor": _ancestor,
    "before": _before,
    "exited": _exited,
    "expose": _expose,
    "health": _health,
    "id": _id,
    "is-task": _is_task,
    "isolation": _isolation,
    "label": _label,
    "name": _name,
    "network": _network,
    "publish": _publish,
    "since": _since,
    "status": _status,
    "volume": _volume,
}
