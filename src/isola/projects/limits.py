"""What the things of a project may come to together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from isola.errors import Forbidden, InvalidInput
from isola.model.instance import Config, Devices, Instance
from isola.model.project import Project
from isola.model.units import parse_cpu_set, parse_size


@dataclass(frozen=True, slots=True)
class Member:
    """An instance with what its profiles add."""

    instance: Instance
    config: Config
    devices: Devices


_COUNTS: dict[str, Callable[[Member], bool]] = {
    "limits.instances": lambda member: True,
    "limits.containers": lambda member: member.instance.type == "container",
    "limits.virtual-machines": lambda member: member.instance.type == "virtual-machine",
}
DISK = "limits.disk"
_SUMS = ("limits.cpu", "limits.memory", "limits.processes", "limits.disk")
LIMITS = (*_COUNTS, *_SUMS)


def has_limits(project: Project) -> bool:
    """Whether instances have to be counted."""
    return any(project.config.get(key) for key in LIMITS)


def usage(key: str, members: Sequence[Member], volumes: Iterable[int | None] = ()) -> int:
    """What there is of it: instances, or the sum of what each may use; one without a limit of its own adds nothing."""
    if key in _COUNTS:
        return sum(map(_COUNTS[key], members))
    own = sum(_amount(key, member) or 0 for member in members)
    return own + (sum(size or 0 for size in volumes) if key == "limits.disk" else 0)


def limit(project: Project, key: str) -> int | None:
    """Instances, CPUs, processes or bytes; None: as many as there may be."""
    value = project.config.get(key)
    return None if not value else parse_size(value) if key in ("limits.memory", "limits.disk") else int(value)


def check(
    project: Project,
    members: Sequence[Member],
    volumes: Sequence[int | None] = (),
    keys: Sequence[str] = LIMITS,
) -> None:
    """Raise Forbidden where they are more than the project allows, InvalidInput where one has no limit of its own."""
    for key in keys:
        most = limit(project, key)
        if most is None:
            continue
        if key in _SUMS:
            for member in members:
                _require_amount(project, key, member)
        if key == "limits.disk" and None in volumes:
            raise InvalidInput(f"A volume of project {project.name!r} has no size", field="config.size")
        if (there := usage(key, members, volumes)) > most:
            raise Forbidden(
                f"Project {project.name!r} allows {key}={project.config[key]}",
                evidence=f"it would be {there}",
                remedy="raise the limit of the project, or ask for less",
            )


def _require_amount(project: Project, key: str, member: Member) -> None:
    if _amount(key, member) is None:
        what = "a size of its root disk" if key == "limits.disk" else f"{key}, and not as a percentage"
        raise InvalidInput(
            f"Project {project.name!r} has {key}: instance {member.instance.name!r} needs {what}",
            field="devices" if key == "limits.disk" else f"config.{key}",
            remedy="set it at the instance or in a profile",
        )


def _amount(key: str, member: Member) -> int | None:
    if key == "limits.disk":
        sizes = [each.get("size") for each in member.devices.values() if each.get("path") == "/"]
        return parse_size(sizes[0]) if sizes and sizes[0] else None
    value = member.config.get(key)
    if not value or value.endswith("%"):
        return None
    if key == "limits.memory":
        return parse_size(value)
    return int(value) if value.isdigit() else len(parse_cpu_set(value))
