"""Limits on the total resources of a project. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from isola.errors import Forbidden, InvalidInput
from isola.model.instance import Config, Devices, Instance
from isola.model.project import Project
from isola.model.units import parse_cpu_set, parse_size


@dataclass(frozen=True, slots=True)
class Member:
    """An instance with its configuration and devices including profiles."""

    instance: Instance
    config: Config
    devices: Devices

    @property
    def root(self) -> Mapping[str, str]:
        """Its root disk device; empty if it has none."""
        return next((each for each in self.devices.values() if each.get("path") == "/"), {})


@dataclass(frozen=True, slots=True)
class Space:
    """The disk space of a custom volume or an image."""

    size: int | None
    """Bytes; None for a volume without a size."""
    pool: str = ""
    """Empty for images, which are kept outside of pools."""


_COUNTS: dict[str, Callable[[Member], bool]] = {
    "limits.instances": lambda member: True,
    "limits.containers": lambda member: member.instance.type == "container",
    "limits.virtual-machines": lambda member: member.instance.type == "virtual-machine",
}
DISK = "limits.disk"
_POOL = "limits.disk.pool."
_SUMS = ("limits.cpu", "limits.memory", "limits.processes", DISK)


def keys(project: Project) -> list[str]:
    """Keys of the limits that all projects have, and of those that this project sets for pools."""
    return [*_COUNTS, *_SUMS, *sorted(key for key, value in project.config.items() if value and _is_pool(key))]


def disk_keys(project: Project) -> list[str]:
    """Keys of the limits on disk space that the project sets."""
    return [key for key in keys(project) if _is_disk(key) and project.config.get(key)]


def has_limits(project: Project) -> bool:
    """Whether instances have to be counted."""
    return any(project.config.get(key) for key in keys(project))


def usage(key: str, members: Sequence[Member], spaces: Iterable[Space] = ()) -> int:
    """The number of instances, or the sum of their limits. A missing limit counts as 0."""
    if key in _COUNTS:
        return sum(map(_COUNTS[key], members))
    own = sum(_amount(key, member) or 0 for member in members)
    return own + sum(space.size or 0 for space in spaces if _counts(key, space.pool))


def limit(project: Project, key: str) -> int | None:
    """Instances, CPUs, processes or bytes; None where the project sets no limit."""
    value = project.config.get(key)
    return None if not value else parse_size(value) if key == "limits.memory" or _is_disk(key) else int(value)


def check(
    project: Project, members: Sequence[Member], spaces: Sequence[Space] = (), only: Sequence[str] | None = None
) -> None:
    """Raises Forbidden if a limit would be exceeded, InvalidInput if an instance or volume has no limit of its own.

    ``only``: the limits to check; None for all.
    """
    for key in keys(project) if only is None else only:
        most = limit(project, key)
        if most is None:
            continue
        if key not in _COUNTS:
            for member in members:
                _require_amount(project, key, member)
        if any(space.size is None and _counts(key, space.pool) for space in spaces):
            raise InvalidInput(f"A volume of project {project.name!r} has no size", field="config.size")
        if (total := usage(key, members, spaces)) > most:
            raise Forbidden(
                f"Project {project.name!r} allows {key}={project.config[key]}",
                evidence=f"it would be {total}",
                remedy="raise the limit of the project, or request less",
            )


def _require_amount(project: Project, key: str, member: Member) -> None:
    if _amount(key, member) is None:
        disk = _is_disk(key)
        what = "a size of its root disk" if disk else f"{key}, and not as a percentage"
        raise InvalidInput(
            f"Project {project.name!r} has {key}: instance {member.instance.name!r} needs {what}",
            field="devices" if disk else f"config.{key}",
            remedy="set it in the instance or in a profile",
        )


def _amount(key: str, member: Member) -> int | None:
    if _is_disk(key):
        if not _counts(key, member.root.get("pool", "")):
            return 0
        size = member.root.get("size")
        return parse_size(size) if size else None
    value = member.config.get(key)
    if not value or value.endswith("%"):
        return None
    if key == "limits.memory":
        return parse_size(value)
    return int(value) if value.isdigit() else len(parse_cpu_set(value))


def _is_pool(key: str) -> bool:
    return key.startswith(_POOL)


def _is_disk(key: str) -> bool:
    return key == DISK or _is_pool(key)


def _counts(key: str, pool: str) -> bool:
    """Whether space of a pool counts against a limit."""
    return key == DISK or (_is_pool(key) and pool == key.removeprefix(_POOL))
