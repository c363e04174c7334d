"""Fields of a request that would change how a container runs and are not offered: refused, never ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isola.doors.docker.versions import Version
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, Unsupported

_Test = Callable[[Fields, str], bool]


def _number(host: Fields, name: str) -> bool:
    return host.whole(name, 0, minimum=-(2**63), maximum=2**63 - 1) != 0


def _filled(host: Fields, name: str) -> bool:
    return bool(host.objects(name)) if not host.holds(name, dict) else bool(host.inside(name).names())


def _said(*harmless: str) -> _Test:
    return lambda host, name: host.text(name, "") not in ("", *harmless)


_REFUSED: tuple[tuple[_Test, tuple[str, ...]], ...] = (
    (_number, ("CpuRealtimePeriod", "CpuRealtimeRuntime", "KernelMemory")),
    (_filled, ("BlkioWeightDevice", "DeviceRequests")),
    (_said("host", "private"), ("UsernsMode",)),
    (_said(), ("CgroupParent",)),
)


_IGNORED: Mapping[str, Version] = {"KernelMemory": (1, 42)}
"""From these versions on the fields have no meaning, and clients may still send them."""


def refuse(host: Fields, version: Version) -> None:
    """Raises Unsupported for the first field of ``HostConfig`` that is not offered; InvalidInput for wrong types."""
    for each in host.objects("DeviceRequests"):
        capabilities = each.lists("Capabilities")
        shown = " ".join(f"[{' '.join(names)}]" for names in capabilities)[:200]
        raise InvalidInput(
            f'could not select device driver "{each.text("Driver", "")[:40]}" with capabilities: [{shown}]'
        )
    if (isolation := host.text("Isolation", "")) not in ("", "default"):
        raise InvalidInput(f"invalid isolation ({isolation[:40]}): linux only supports 'default'")
    if "" in host.inside("Annotations").names():
        raise InvalidInput("invalid Annotations: the empty string is not permitted as an annotation key")
    for test, names in _REFUSED:
        for name in names:
            if not (name in _IGNORED and version >= _IGNORED[name]) and test(host, name):
                raise Unsupported(f"HostConfig.{name} is not offered by this server", field=f"HostConfig.{name}")


def refused_fields() -> list[str]:
    """Their names in the newest version, for the reference page."""
    return sorted(name for _, names in _REFUSED for name in names if name not in _IGNORED)
