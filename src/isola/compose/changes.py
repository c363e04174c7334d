"""What has to be done so that the instances of an application are as its file says. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from isola.errors import InvalidInput


class Recreation(Enum):
    """Which existing instances are replaced by new ones."""

    CHANGED = "changed"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Existing:
    """An instance of the application on the server."""

    name: str
    service: str
    number: int
    digest: str
    """Of what it was made of; see ``Wanted``."""
    running: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service of the file."""

    service: str
    digest: str
    """Of all that its instances are made of, the digest of the image included."""
    replicas: int
    fixed_name: str = ""
    """Its only instance's name, if the file says so."""
    restarts_with: frozenset[str] = frozenset()
    """Services after whose replacement its instances are restarted."""


class Kind(Enum):
    """What is done to one instance."""

    CREATE = "create"
    REPLACE = "replace"
    START = "start"
    RESTART = "restart"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Action:
    """One change; ``number`` counts the instances of a service from 1."""

    kind: Kind
    service: str
    name: str
    number: int = 0


def changes(
    application: str,
    wanted: Sequence[Wanted],
    existing: Collection[Existing],
    recreation: Recreation = Recreation.CHANGED,
    always: Collection[str] = (),
) -> dict[str, list[Action]]:
    """Service -> actions, in the order of ``wanted``. Services of the server that are not wanted are left alone.

    ``always``: services all of whose instances are replaced, too.
    Raises InvalidInput for more than one instance with a fixed name, and for two with the same name.
    """
    found: dict[str, list[Action]] = {}
    replaced: set[str] = set()
    names: dict[str, str] = {}
    for each in wanted:
        own = sorted((one for one in existing if one.service == each.service), key=lambda one: one.number)
        how = Recreation.ALWAYS if each.service in always else recreation
        found[each.service] = actions = _of_service(application, each, own, how)
        if any(action.kind is Kind.REPLACE for action in actions):
            replaced.add(each.service)
        if each.restarts_with & replaced:
            touched = {action.name for action in actions}
            actions += [
                Action(Kind.RESTART, one.service, one.name, one.number)
                for one in own
                if one.running and one.name not in touched
            ]
        for action in actions:
            _claim(names, action)
    return found


def orphans(wanted: Collection[str], existing: Collection[Existing]) -> list[Existing]:
    """Instances of services that the file does not have."""
    return sorted((one for one in existing if one.service not in wanted), key=lambda one: one.name)


def instance_name(application: str, service: str, number: int) -> str:
    """``shop-web-1``: a host name, whatever the names of the application and the service contain."""
    return "-".join((_label(application), _label(service), str(number)))


def _of_service(application: str, wanted: Wanted, own: Sequence[Existing], recreation: Recreation) -> list[Action]:
    if wanted.fixed_name and wanted.replicas > 1:
        raise InvalidInput(
            f"Service {wanted.service} has a container_name, and can have one instance only",
            field=f"services.{wanted.service}.container_name",
        )
    # Outdated ones go first when there are too many.
    kept = sorted(own, key=lambda one: (_outdated(one, wanted, recreation), one.number))[: wanted.replicas]
    actions = [Action(Kind.REMOVE, one.service, one.name, one.number) for one in reversed(own) if one not in kept]
    for one in sorted(kept, key=lambda one: one.number):
        if _outdated(one, wanted, recreation):
            actions.append(Action(Kind.REPLACE, one.service, _name(application, wanted, one.number), one.number))
        elif not one.running:
            actions.append(Action(Kind.START, one.service, one.name, one.number))
    taken = {one.number for one in own}
    free = (number for number in range(1, len(taken) + wanted.replicas + 1) if number not in taken)
    actions += [
        Action(Kind.CREATE, wanted.service, _name(application, wanted, number), number)
        for number, _ in zip(free, range(wanted.replicas - len(kept)), strict=False)
    ]
    return actions


def _outdated(one: Existing, wanted: Wanted, recreation: Recreation) -> bool:
    if recreation is Recreation.CHANGED:
        return one.digest != wanted.digest
    return recreation is Recreation.ALWAYS


def _name(application: str, wanted: Wanted, number: int) -> str:
    return wanted.fixed_name or instance_name(application, wanted.service, number)


def _label(name: str) -> str:
    return name.replace("_", "-").replace(".", "-").strip("-")


def _claim(names: dict[str, str], action: Action) -> None:
    """Two services whose names differ in ``_`` and ``-`` alone would share an instance."""
    if action.kind in (Kind.CREATE, Kind.REPLACE):
        other = names.setdefault(action.name, action.service)
        if other != action.service:
            raise InvalidInput(
                f"Services {other} and {action.service} would both have an instance {action.name}",
                field=f"services.{action.service}",
                remedy="give one of them a container_name",
            )
