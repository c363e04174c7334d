"""Networks and volumes that services of an application use, made on the daemon."""

from __future__ import annotations

from isola.compose.changes import instance_name
from isola.compose.disks import anonymous_volume, bound
from isola.compose.instances import LABEL, replicas_of
from isola.compose.networks import network_config
from isola.errors import AlreadyExists, InUse, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isola.cli.context import Context
    from isola.compose.application import Application


class Resources:
    """Of one application, in the pool of the daemon's instances."""

    def __init__(self, context: Context, application: Application, pool: str) -> None:
        self._context = context
        self._client = context.client
        self._application = application
        self._pool = pool

    def make(self, services: Sequence[str], scale: Mapping[str, int] | None = None) -> None:
        """All that these services use and that is missing; what is external must be there. Raises NotFound.

        ``scale``: numbers of instances other than the file's.
        """
        self._make_networks(services)
        self._make_volumes(services)
        for service in services:
            self._make_anonymous(service, (scale or {}).get(service, replicas_of(self._application.services[service])))

    def _make_networks(self, services: Sequence[str]) -> None:
        used = {name for service in services for name in self._application.services[service].get("networks") or {}}
        for key in sorted(used):
            network = self._application.networks[key]
            try:
                self._client.networks.get(network["name"])
                continue
            except NotFound:
                if network.get("external"):
                    raise
            config = network_config(self._application, key)
            operation = self._client.networks.create(network["name"], config=config)
            self._context.follow(operation, f"Creating {network['name']}")
            self._context.say(f"Network {network['name']} is created")

    def _make_volumes(self, services: Sequence[str]) -> None:
        for service in services:
            for mount in self._application.services[service].get("volumes", ()):
                named = mount["type"] == "volume" and mount.get("source")
                if named and not bound(self._application, mount["source"]):
                    volume = self._application.volumes[mount["source"]]
                    labels = {LABEL + "project": self._application.name, LABEL + "volume": mount["source"]}
                    self._make_volume(volume["name"], volume, labels)

    def _make_anonymous(self, service: str, replicas: int) -> None:
        found = self._application.services[service]
        for number in range(1, replicas + 1):
            self._make_anonymous_of(
                service, found.get("container_name") or instance_name(self._application.name, service, number)
            )

    def _make_anonymous_of(self, service: str, instance: str) -> None:
        for mount in self._application.services[service].get("volumes", ()):
            if mount["type"] == "volume" and not mount.get("source"):
                labels = {LABEL + "project": self._application.name, LABEL + "anonymous": instance}
                self._make_volume(anonymous_volume(instance, mount["target"]), {}, labels)

    def renew_anonymous(self, service: str, instance: str) -> None:
        """Empty ones in their place."""
        self.remove_anonymous(service, instance)
        self._make_anonymous_of(service, instance)

    def remove_anonymous(self, service: str, instance: str) -> None:
        """The volumes without a name of an instance that is gone; one that others use stays."""
        for mount in self._application.services[service].get("volumes", ()):
            if mount["type"] == "volume" and not mount.get("source"):
                name = anonymous_volume(instance, mount["target"])
                try:
                    self._context.follow(self._client.volumes.delete(self._pool, name), f"Removing {name}")
                except NotFound:
                    continue
                except InUse as error:
                    self._context.say(f"Volume {name} stays: {error}")

    def _make_volume(self, name: str, volume: Mapping[str, object], labels: Mapping[str, str]) -> None:
        if volume.get("external"):
            self._client.volumes.read(self._pool, name)
            return
        given = volume.get("labels")
        own = {f"user.{key}": value for key, value in given.items()} if isinstance(given, dict) else {}
        try:
            operation = self._client.volumes.create(self._pool, name, {**own, **labels})
            self._context.follow(operation, f"Creating {name}")
        except AlreadyExists:
            return
        self._context.say(f"Volume {name} is created")
