"""Asked by every change of a project's things, right before it is recorded: may it be?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from isola.errors import Forbidden
from isola.model.image import Image
from isola.model.instance import Config, Devices, Instance
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Kind
from isola.model.volume import VolumeRecord
from isola.projects import limits, restrictions
from isola.projects.limits import Member, Space
from isola.state import Collection, Scoped

Expand = Callable[[Instance, Profile | None], tuple[Config, Devices]]
"""Configuration and devices with what profiles add, one of them as given."""


@dataclass(frozen=True, slots=True)
class Guard:
    projects: Collection[Project]
    instances: Scoped[Instance]
    networks: Scoped[Network]
    expand: Expand
    volumes: Collection[VolumeRecord]
    images: Scoped[Image]

    def instances_as(self, wanted: Sequence[Instance]) -> None:
        """As they shall be, made or changed. Raises NotFound (the project), Forbidden, InvalidInput."""
        for name in {each.project for each in wanted}:
            project = self.projects.get(name)
            own = [each for each in wanted if each.project == name]
            for each in own if restrictions.restricted(project) else ():
                restrictions.check(project, *self.expand(each, None))
            if limits.has_limits(project):
                self._count(project, own)

    def profile(self, wanted: Profile) -> None:
        """As it shall be. Raises NotFound (the project), Forbidden, InvalidInput."""
        home = self.projects.get(wanted.project)
        restrictions.check(home, wanted.config, wanted.devices)
        for project in self.projects:
            if project.home(Kind.PROFILE) != home.name:
                continue
            for instance in self._users(project, wanted) if restrictions.restricted(project) else ():
                restrictions.check(project, *self.expand(instance, wanted))
            if limits.has_limits(project):
                self._count(project, (), wanted)

    def network(self, wanted: Network) -> None:
        """One that shall be made. Raises NotFound (the project), Forbidden."""
        project = self.projects.get(wanted.project)
        most = limits.limit(project, "limits.networks")
        there = sum(1 for each in self.networks if each.project == project.name)
        if most is not None and there >= most:
            raise Forbidden(f"Project {project.name!r} allows limits.networks={most}", evidence=f"it has {there}")

    def snapshot(self, project: str) -> None:
        """One that shall be taken. Raises NotFound (the project), Forbidden."""
        if not restrictions.allows(self.projects.get(project), "restricted.snapshots"):
            raise Forbidden(
                f"Project {project!r} does not allow snapshots", remedy="restricted.snapshots of the project decides"
            )

    def volume(self, wanted: VolumeRecord) -> None:
        """As it shall be, made or resized. Raises NotFound (the project), Forbidden, InvalidInput (without a size)."""
        project = self.projects.get(wanted.project)
        restrictions.check_pool(project, wanted.pool, "pool")
        if limited := limits.disk_keys(project):
            others = self.spaces(project.name, without=(wanted.id, wanted.name))
            limits.check(project, self.members(project), [*others, _space(wanted)], limited)

    def image(self, wanted: Image) -> None:
        """One that shall be added. Raises NotFound (the project), Forbidden."""
        project = self.projects.get(wanted.project)
        if limited := limits.disk_keys(project):
            spaces = [*self.spaces(project.name), Space(wanted.size)]
            limits.check(project, self.members(project), spaces, limited)

    def spaces(self, project: str, without: tuple[str, str] = ("", "")) -> list[Space]:
        """Of its images and its custom volumes but the one of an id and a name."""
        volumes = [each for each in self.volumes if each.project == project and (each.id, each.name) != without]
        images = [each for each in self.images if each.project == project]
        return [*map(_space, volumes), *(Space(each.size) for each in images)]

    def project(self, wanted: Project) -> None:
        """As it shall be. Raises Forbidden, InvalidInput where what is there does not fit."""
        for member in self.members(wanted):
            restrictions.check(wanted, member.config, member.devices)
        if limits.has_limits(wanted):
            self._count(wanted, ())

    def disk_paths(self, project: str) -> tuple[str, ...]:
        """Directories of the host that disks of a project may lie below; empty: anywhere. Raises NotFound."""
        return restrictions.disk_paths(self.projects.get(project))

    def members(self, project: Project) -> list[Member]:
        """Its instances, with what their profiles add."""
        return [self._member(each, None) for each in self.instances if each.project == project.name]

    def _users(self, project: Project, profile: Profile) -> list[Instance]:
        return [each for each in self.instances if each.project == project.name and profile.name in each.profiles]

    def _count(self, project: Project, changed: Iterable[Instance], profile: Profile | None = None) -> None:
        there = {each.id: each for each in self.instances if each.project == project.name}
        there |= {each.id: each for each in changed}
        members = [self._member(each, profile) for each in there.values()]
        limits.check(project, members, self.spaces(project.name))

    def _member(self, instance: Instance, profile: Profile | None) -> Member:
        return Member(instance, *self.expand(instance, profile))


def _space(volume: VolumeRecord) -> Space:
    return Space(volume.size, volume.pool)
