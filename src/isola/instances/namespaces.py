"""Namespaces that an instance does not have for itself: those of the host, and those of another instance."""

from __future__ import annotations

from collections.abc import Mapping

from isola.errors import InvalidInput, NotFound, Unsupported, WrongState
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.run_values import HOST, OTHER, network_mode
from isola.model.identity import PRIVILEGED, IdRange
from isola.model.instance import Config, Instance
from isola.model.reference import Ref
from isola.runtimes import Shareable
from isola.settings import boolean

FULLY = "isola.privileged"
"""Without anything else that confines it, too."""
NETWORK = "isola.namespaces.network"
_DEEPEST = 16
_PREFIX = "isola.namespaces."
_KEYS: Mapping[Shareable, str] = {kind: f"{_PREFIX}{kind.value}" for kind in Shareable}


def is_privileged(config: Config) -> bool:
    return any(boolean(config.get(key) or "false") for key in ("security.privileged", FULLY))


def network_peer(context: Context, project: str, config: Config) -> Instance | None:
    """The instance whose network namespace it joins; None if it joins none. Raises NotFound."""
    return _peer(context, project, config, NETWORK)


def any_peer(context: Context, project: str, config: Config) -> Instance | None:
    """The instance of which it joins any namespace. Raises NotFound."""
    return _peer(context, project, config, key) if (key := _joining(config)) else None


def _joining(config: Config) -> str:
    """The first key that names another instance; empty without one."""
    return next((key for key in (NETWORK, *_KEYS.values()) if _names_other(config, key)), "")


def _names_other(config: Config, key: str) -> bool:
    return network_mode(config.get(key) or "private")[0] == OTHER


def ids_of_peer(context: Context, project: str, config: Config) -> IdRange | None:
    """The ids of the instance whose namespaces it joins: processes in one user namespace have the same ids.

    Raises NotFound, InvalidInput.
    """
    peer = any_peer(context, project, config)
    if peer is None or is_privileged(config):
        return None
    if peer.idmap == PRIVILEGED:
        raise InvalidInput(
            f"Instance {peer.name!r} is privileged",
            field=f"config.{_joining(config)}",
            remedy="set security.privileged, too",
        )
    return peer.idmap


def check_ids(context: Context, instance: Instance, config: Config) -> None:
    """Check that an existing instance has the ids that its new configuration needs. Raises WrongState."""
    wanted: IdRange | None = PRIVILEGED if is_privileged(config) else None
    if wanted is None:
        try:
            wanted = ids_of_peer(context, instance.project, config)
        except NotFound:
            return
    if wanted == instance.idmap or (wanted is None and instance.idmap != PRIVILEGED):
        return
    key = "security.privileged" if PRIVILEGED in (wanted, instance.idmap) else _joining(config) or NETWORK
    raise WrongState(
        f"Instance {instance.name!r} has other user ids than {key} needs",
        remedy="copy it with this configuration: user ids are chosen when an instance is created",
    )


def check_namespaces(config: Config, devices: Mapping[str, Mapping[str, str]]) -> None:
    """Check local devices against the expanded configuration. Raises InvalidInput."""
    kind, _ = network_mode(config.get(NETWORK) or "private")
    for name, device in devices.items():
        if device.get("type") == "nic" and kind != "private":
            raise InvalidInput(
                f"An instance with {NETWORK}={config[NETWORK]} has no NICs",
                field=f"devices.{name}",
                remedy="leave it out, or unset the key",
            )
    first = _joining(config)
    for key in _KEYS.values():
        if _names_other(config, key) and config[key] != config[first]:
            raise InvalidInput(
                "Namespaces can be joined of one other instance only",
                field=f"config.{key}",
                evidence=f"{first} is {config[first]}",
                remedy=f"set it to {config[first]}, or unset one of them",
            )


def joined(context: Context, instance: Instance, config: Config) -> Mapping[Shareable, str]:
    """Namespace -> id of the instance whose it is. Raises NotFound."""
    found = {kind: _peer(context, instance.project, config, key) for kind, key in _KEYS.items()}
    return {kind: peer.id for kind, peer in found.items() if peer is not None}


def of_host(config: Config) -> tuple[Shareable, ...]:
    return tuple(kind for kind, key in _KEYS.items() if network_mode(config.get(key) or "private")[0] == HOST)


def require_application(config: Config) -> None:
    """Raises Unsupported for a distribution with its own init."""
    for key in (NETWORK, *_KEYS.values()):
        if network_mode(config.get(key) or "private")[0] in (HOST, OTHER):
            raise Unsupported(
                "A distribution with its own init needs namespaces of its own",
                field=f"config.{key}",
                remedy="unset the key, or name a program to run in place of the init",
            )


def depth(context: Context, instance: Instance) -> int:
    """How many instances it depends on, each joining namespaces of the next."""
    for count in range(_DEEPEST):
        try:
            peer = any_peer(context, instance.project, expanded(context, instance)[0])
        except NotFound:
            return count
        if peer is None:
            return count
        instance = peer
    return _DEEPEST


def _peer(context: Context, project: str, config: Config, key: str) -> Instance | None:
    kind, name = network_mode(config.get(key) or "private")
    if kind != OTHER:
        return None
    found = context.records.find(Ref(project, name)) or context.by_id(name)
    if found is None or found.project != project:
        raise NotFound(f"Instance {name!r} not found", field=f"config.{key}", remedy="create it first")
    return found


def require_unjoined(context: Context, instance: Instance) -> None:
    """Raises WrongState if running instances are in its namespaces, and would lose them with it."""
    running = [each for each in context.records if each.project == instance.project and each.id in context.live]
    modes = {each.name: network_mode(each.config.get(_joining(each.config)) or "private") for each in running}
    own = {(OTHER, instance.name), (OTHER, instance.id)}
    if names := sorted(name for name, mode in modes.items() if mode in own):
        raise WrongState(
            f"Namespaces of {instance.name!r} are used by running instances",
            evidence=", ".join(names[:5]),
            remedy="stop them, and create them again afterwards: another version has namespaces of its own",
        )


def running_peer(context: Context, project: str, config: Config) -> Instance | None:
    """The same as ``network_peer``; raises WrongState if it does not run."""
    return _running(context, network_peer(context, project, config), "network is")


def any_running_peer(context: Context, project: str, config: Config) -> Instance | None:
    """The same as ``any_peer``; raises WrongState if it does not run."""
    return _running(context, any_peer(context, project, config), "namespaces are")


def _running(context: Context, peer: Instance | None, what: str) -> Instance | None:
    if peer is not None and peer.id not in context.live:
        raise WrongState(f"Instance {peer.name!r}, whose {what} to be joined, does not run", remedy="start it")
    return peer
