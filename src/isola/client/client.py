"""``Client``: a daemon's API, one property per noun."""

from __future__ import annotations

from isola.client.api import Api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.admin import Admin
    from isola.client.api import Query
    from isola.client.builds import Builds
    from isola.client.certificates import Certificates
    from isola.client.deployments import Deployments
    from isola.client.events import Follower
    from isola.client.http import Headers
    from isola.client.images import Images
    from isola.client.instances import Instances
    from isola.client.networks import Networks
    from isola.client.operations import Operation, Operations
    from isola.client.profiles import Profiles
    from isola.client.projects import Projects
    from isola.client.registry import Registry
    from isola.client.server import Server
    from isola.client.storage import Storage
    from isola.client.volumes import Volumes
    from isola.client.warnings import Warnings


class Client(Api):
    """Each noun is imported on first use."""

    @property
    def server(self) -> Server:
        """The daemon: its environment and configuration, and the host's resources."""
        from isola.client.server import Server

        return Server(self)

    @property
    def instances(self) -> Instances:
        """Instances: lifecycle, exec, console, files."""
        from isola.client.instances import Instances

        return Instances(self)

    @property
    def images(self) -> Images:
        """Images and their aliases."""
        from isola.client.images import Images

        return Images(self)

    @property
    def builds(self) -> Builds:
        """Builds of images from Dockerfiles."""
        from isola.client.builds import Builds

        return Builds(self)

    @property
    def deployments(self) -> Deployments:
        """New versions of instances, and the return to previous ones."""
        from isola.client.deployments import Deployments

        return Deployments(self)

    @property
    def networks(self) -> Networks:
        """Networks and their leases."""
        from isola.client.networks import Networks

        return Networks(self)

    @property
    def storage(self) -> Storage:
        """Storage pools and volumes."""
        from isola.client.storage import Storage

        return Storage(self)

    @property
    def volumes(self) -> Volumes:
        """Custom storage volumes and their snapshots."""
        from isola.client.volumes import Volumes

        return Volumes(self)

    @property
    def profiles(self) -> Profiles:
        from isola.client.profiles import Profiles

        return Profiles(self)

    @property
    def projects(self) -> Projects:
        from isola.client.projects import Projects

        return Projects(self)

    @property
    def registry(self) -> Registry:
        """Repositories of the registry, and login tokens of its clients."""
        from isola.client.registry import Registry

        return Registry(self)

    @property
    def certificates(self) -> Certificates:
        """Trusted client certificates, and tokens with which clients add theirs."""
        from isola.client.certificates import Certificates

        return Certificates(self)

    @property
    def operations(self) -> Operations:
        """Running and recently ended operations."""
        from isola.client.operations import Operations

        return Operations(self)

    @property
    def admin(self) -> Admin:
        """Copies of the daemon's database, and objects without a record."""
        from isola.client.admin import Admin

        return Admin(self)

    def begin(
        self, method: str, path: str, body: object = None, *, query: Query | None = None, headers: Headers = ()
    ) -> Operation:
        """A request that starts an operation; a synchronous response counts as a finished operation."""
        from isola.client.operations import begin

        return begin(self, method, path, body, query=query, headers=headers)

    def events(self, *types: str) -> Follower:
        """Follow the daemon's events of these types, or of all."""
        from isola.client.events import Follower

        return Follower(self, types)

    @property
    def warnings(self) -> Warnings:
        """Conditions that need an administrator's attention."""
        from isola.client.warnings import Warnings

        return Warnings(self)
