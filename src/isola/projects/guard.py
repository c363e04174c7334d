"""Limits and restrictions of projects, checked right before a change is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from isola.errors import Forbidden
from isola.model.build import Furnished
from isola.model.image import Image
from isola.model.instance import Config, Devices, Instance
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Kind, Ref
from isola.model.repository import RepositoryBlob
from isola.model.volume import VolumeRecord
from isola.projects import limits, restrictions
from isola.projects.limits import Member, Space
from isola.state import Collection, Scoped

Expand = Callable[[Instance, Profile | None], tuple[Config, Devices]]
"""Configuration and devices including profiles, one of which is replaced by the given one."""


@dataclass(frozen=True, slots=True)
class Guard:
    projects: Collection[Project]
    instances: Scoped[Instance]
    networks: Scoped[Network]
    expand: Expand
    volumes: Collection[VolumeRecord]
    images: Scoped[Image]
    blobs: Scoped[RepositoryBlob]
    privileged: Callable[[], bool] = lambda: False
    """Whether the server permits privileged instances in projects that are not restricted."""
    furnished: dict[Ref, Furnished] = field(default_factory=dict)
    """What builds give to their instances."""

    def instances_as(self, wanted: Sequence[Instance]) -> None:
        """Check new or changed instances. Raises NotFound (the project), Forbidden, InvalidInput."""
        for name in {each.project for each in wanted}:
            project = self.projects.get(name)
            own = [each for each in wanted if each.project == name]
            for each in own:
                restrictions.check(project, *self._restricted(each, None), privileged=self.privileged())
                restrictions.check_isolation(project, each.isolation)
            if limits.has_limits(project):
                self._count(project, own)

    def profile(self, wanted: Profile) -> None:
        """Check a new or changed profile. Raises NotFound (the project), Forbidden, InvalidInput."""
        home = self.projects.get(wanted.project)
        restrictions.check(home, wanted.config, wanted.devices, privileged=self.privileged())
        for project in self.projects:
            if project.home(Kind.PROFILE) != home.name:
                continue
            for instance in self._users(project, wanted) if restrictions.restricted(project) else ():
                restrictions.check(project, *self._restricted(instance, wanted))
            if limits.has_limits(project):
                self._count(project, (), wanted)

    def network(self, wanted: Network) -> None:
        """Check a new network. Raises NotFound (the project), Forbidden."""
        project = self.projects.get(wanted.project)
        most = limits.limit(project, "limits.networks")
        there = sum(1 for each in self.networks if each.project == project.name)
        if most is not None and there >= most:
            raise Forbidden(f"Project {project.name!r} allows limits.networks={most}", evidence=f"it has {there}")

    def snapshot(self, project: str) -> None:
        """Check whether a snapshot may be taken. Raises NotFound (the project), Forbidden."""
        if not restrictions.allows(self.projects.get(project), "restricted.snapshots"):
            raise Forbidden(
                f"Project {project!r} does not allow snapshots", remedy="see restricted.snapshots of the project"
            )

    def volume(self, wanted: VolumeRecord) -> None:
        """Check a new or resized volume. Raises NotFound (the project), Forbidden, InvalidInput (without a size)."""
        project = self.projects.get(wanted.project)
        restrictions.check_pool(project, wanted.pool, "pool")
        restrictions.check_volume(project, wanted.config)
        if limited := limits.disk_keys(project):
            others = self.spaces(project.name, without=(wanted.id, wanted.name))
            limits.check(project, self.members(project), [*others, _space(wanted)], limited)

    def image(self, wanted: Image) -> None:
        """Check a new image. Raises NotFound (the project), Forbidden."""
        project = self.projects.get(wanted.project)
        if limited := limits.disk_keys(project):
            spaces = [*self.spaces(project.name), Space(wanted.size)]
            limits.check(project, self.members(project), spaces, limited)

    def blob(self, wanted: RepositoryBlob) -> None:
        """Check a new blob of a repository. Raises NotFound (the project), Forbidden."""
        project = self.projects.get(wanted.project)
        if limited := limits.disk_keys(project):
            spaces = [*self.spaces(project.name), Space(wanted.size)]
            limits.check(project, self.members(project), spaces, limited)

    def spaces(self, project: str, without: tuple[str, str] = ("", "")) -> list[Space]:
        """Sizes of its images, custom volumes and other blobs in its repositories, except the volume with this id and
        name.
        """
        volumes = [each for each in self.volumes if each.project == project and (each.id, each.name) != without]
        images = [each for each in self.images if each.project == project]
        counted = {layer.digest for image in images for layer in image.layers}
        blobs = {each.digest: each.size for each in self.blobs if each.project == project}
        others = (Space(size) for digest, size in blobs.items() if digest not in counted)
        return [*map(_space, volumes), *(Space(each.size) for each in images), *others]

    def project(self, wanted: Project) -> None:
        """Check a changed project. Raises Forbidden, InvalidInput if its resources violate the new configuration."""
        for member in self.members(wanted) if restrictions.restricted(wanted) else ():
            restrictions.check(wanted, *self._restricted(member.instance, None))
            restrictions.check_isolation(wanted, member.instance.isolation)
        for volume in self.volumes:
            if volume.project == wanted.name:
                restrictions.check_volume(wanted, volume.config)
        if limits.has_limits(wanted):
            self._count(wanted, ())

    def host_path(self, project: str, volume: VolumeRecord) -> None:
        """Check what a volume stands for when an instance of this project, maybe not the volume's, gets it.

        Raises NotFound (the project), Forbidden.
        """
        restrictions.check_volume(self.projects.get(project), volume.config)

    def block_devices(self, project: str) -> bool:
        """Whether its instances may have block devices of the host."""
        return restrictions.allows(self.projects.get(project), "restricted.devices.unix-block")

    def disk_paths(self, project: str) -> tuple[str, ...]:
        """Directories of the host to which sources of disks are limited; empty: no limit. Raises NotFound."""
        return restrictions.disk_paths(self.projects.get(project))

    def members(self, project: Project) -> list[Member]:
        """Its instances, including their profiles."""
        return [self._member(each, None) for each in self.instances if each.project == project.name]

    def _users(self, project: Project, profile: Profile) -> list[Instance]:
        return [each for each in self.instances if each.project == project.name and profile.name in each.profiles]

    def _count(self, project: Project, changed: Iterable[Instance], profile: Profile | None = None) -> None:
        there = {each.id: each for each in self.instances if each.project == project.name}
        there |= {each.id: each for each in changed}
        members = [self._member(each, profile) for each in there.values()]
        limits.check(project, members, self.spaces(project.name))

    def _restricted(self, instance: Instance, profile: Profile | None) -> tuple[Config, Devices]:
        """What the project may restrict: without the devices that a build gives to this instance, unchanged."""
        config, devices = self.expand(instance, profile)
        given = self.furnished.get(instance.ref, Furnished()).devices
        return config, {name: each for name, each in devices.items() if given.get(name) != each}

    def _member(self, instance: Instance, profile: Profile | None) -> Member:
        return Member(instance, *self.expand(instance, profile))


def _space(volume: VolumeRecord) -> Space:
    return Space(volume.size, volume.pool)
