"""What the wall around an instance cannot do: such keys and devices are refused, and the nearest wall named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from isola.devices import Target
from isola.errors import InvalidInput, Unsupported
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.machine_settings import CSM, SECURE_BOOT, check_firmware
from isola.instances.run_values import HOST, OTHER, network_mode
from isola.model.instance import Config, Instance, InstanceRequest
from isola.model.isolation import CONTAINER, ISOLATIONS, VIRTUAL_MACHINE, nearest, type_of
from isola.model.kernel import UNIKERNEL
from isola.model.network import HostTap, NetworkNamespace
from isola.runtimes import Capability, RuntimeCapabilities, Runtimes
from isola.settings import boolean

ISOLATION = "isola.isolation"
_DEFAULTS = {CONTAINER: "container", VIRTUAL_MACHINE: "vm"}
_RIGHTS = ("security.privileged", "isola.privileged", "isola.devices.host")
_PREFIXES = {
    "linux.sysctl.": Capability.SYSCTLS,
    "limits.kernel.": Capability.ULIMITS,
    "limits.processes": Capability.PROCESS_LIMIT,
    "isola.health.command": Capability.EXEC,
    "isola.devices.allow": Capability.DEVICES,
    "isola.capabilities.": Capability.CONFINEMENT,
    "isola.paths.writable": Capability.SYSTEM_CALLS,
    "isola.ports.": Capability.PORTS,
    "security.syscalls.": Capability.SYSTEM_CALLS,
    "isola.paths.": Capability.FILTERS,
    "isola.seccomp": Capability.FILTERS,
    "isola.no_new_privileges": Capability.FILTERS,
    "isola.umask": Capability.UMASK,
    SECURE_BOOT: Capability.FIRMWARE,
    CSM: Capability.FIRMWARE,
}
_ANY_PREFIX = tuple(_PREFIXES)
_SAME = ("false", "default", "no", "0", "off")
"""Values that ask for what is the case anyway."""


def isolation_of(request: InstanceRequest, config: Config, *, only: str = "") -> str:
    """That of the request, of its configuration with its profiles, or of its type. Raises InvalidInput.

    ``only``: the one that its image is made for.
    """
    if request.type not in ("", *_DEFAULTS):
        raise InvalidInput(
            f"Instances of type {request.type[:40]!r} are not supported",
            field="type",
            remedy=f"use {' or '.join(_DEFAULTS)}",
        )
    if request.isolation:
        if request.isolation not in ISOLATIONS:
            raise InvalidInput(
                f"There is no isolation {request.isolation[:40]!r}",
                field="isolation",
                remedy=f"use {', '.join(ISOLATIONS)}",
            )
        if request.type == VIRTUAL_MACHINE != type_of(request.isolation):
            raise InvalidInput(
                f"An instance of type {VIRTUAL_MACHINE} cannot have isolation {request.isolation!r}",
                field="isolation",
                remedy="leave the type out",
            )
        if request.config.get(ISOLATION) not in (None, "", request.isolation):
            raise InvalidInput(
                f"The isolation {request.isolation!r} is not that of {ISOLATION}",
                field=f"config.{ISOLATION}",
                remedy="leave one of them out",
            )
        return request.isolation
    wanted = config.get(ISOLATION, "")
    if only and not wanted:
        return only
    if request.type == VIRTUAL_MACHINE and type_of(wanted) != VIRTUAL_MACHINE:
        return _DEFAULTS[VIRTUAL_MACHINE]
    return wanted or _DEFAULTS[CONTAINER]


def require_image(isolation: str, *, unikernel: bool) -> None:
    """Raises InvalidInput if the image is a unikernel and the wall is for others, or the other way round."""
    if unikernel and isolation != UNIKERNEL:
        raise InvalidInput(
            f"The image is a unikernel, and isolation {isolation!r} starts programs of other images",
            field="isolation",
            remedy=f"use isolation {UNIKERNEL!r}",
        )
    if isolation == UNIKERNEL and not unikernel:
        raise InvalidInput(
            "The image is not a unikernel: it has no kernel that could be started",
            field="isolation",
            remedy="use isolation 'microvm', which has a kernel of the host's for any image",
        )


def check_key(instance: Instance, wanted: Config) -> None:
    """The key says how an instance is created: a change of it is no move. Raises InvalidInput."""
    if wanted.get(ISOLATION) not in (None, "", instance.isolation):
        raise InvalidInput(
            f"Instance {instance.name!r} has isolation {instance.isolation!r}",
            field=f"config.{ISOLATION}",
            remedy="move it to another isolation while it is stopped",
        )


def require_config(runtimes: Runtimes, runtime: str, isolation: str, config: Config) -> None:
    """Raises Unsupported, with a field, for the first key that has no effect behind the wall; InvalidInput."""
    _require(runtimes, runtime, isolation, lambda capabilities: _obeys(capabilities, config))


def require_fit(context: Context, instance: Instance) -> None:
    """The same for its expanded configuration, and its recorded devices."""
    config, _ = expanded(context, instance)

    def check(capabilities: RuntimeCapabilities) -> None:
        _obeys(capabilities, config)
        context.devices.require_fit(instance, _like(capabilities))

    _require(context.runtimes, instance.runtime, instance.isolation, check)


def _require(runtimes: Runtimes, runtime: str, isolation: str, check: Callable[[RuntimeCapabilities], None]) -> None:
    try:
        check(runtimes.find(runtime).capabilities)
    except Unsupported as error:
        able = nearest(isolation, _able(runtimes, check))
        ways = (error.remedy, f"isolation {able!r} can do this" if able else "")
        raise Unsupported(
            error.message, evidence=error.evidence, field=error.field, remedy="; ".join(filter(None, ways))
        ) from error


def _able(runtimes: Runtimes, check: Callable[[RuntimeCapabilities], None]) -> Iterator[str]:
    for _, runtime in runtimes.all():
        try:
            check(runtime.capabilities)
        except Unsupported:
            continue
        yield from runtime.capabilities.isolations


def _obeys(capabilities: RuntimeCapabilities, config: Config) -> None:
    for key, capability in needs(config):
        try:
            capabilities.require(capability)
        except Unsupported as error:
            ways = (error.remedy, f"unset {key}")
            raise Unsupported(
                f"Key {key!r} has no effect here: {error.message}",
                field=f"config.{key}",
                remedy=" or ".join(filter(None, ways)),
            ) from error
    if capabilities.has(Capability.FIRMWARE):
        check_firmware(config)


def needs(config: Config) -> Iterator[tuple[str, Capability]]:
    """The keys that not all walls can obey, and what they need. Pure."""
    for key, value in config.items():
        found = _need(key, value) if value and value.lower() not in _SAME else None
        if found is not None:
            yield key, found


def _need(key: str, value: str) -> Capability | None:
    if key in _RIGHTS:
        return Capability.PRIVILEGES if boolean(value) else None
    if key.startswith("isola.namespaces."):
        kind, _ = network_mode(value)
        return {HOST: Capability.PRIVILEGES, OTHER: Capability.SHARED_NAMESPACES}.get(kind)
    if not key.startswith(_ANY_PREFIX):
        return None
    return next(need for prefix, need in _PREFIXES.items() if key.startswith(prefix))


def _like(capabilities: RuntimeCapabilities) -> Target:
    """A target as its guests are, to ask devices whether they fit."""
    return Target(NetworkNamespace(Path("/")) if capabilities.shares_kernel else HostTap(), capabilities=capabilities)
