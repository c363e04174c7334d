"""``isola compose up``: makes the instances on the daemon as the application's file says."""

from __future__ import annotations

from isola.cli.compose.down import patience, stop
from isola.cli.compose.hooks import POST_START, PRE_STOP, run_hooks
from isola.cli.compose.images import image_of
from isola.cli.compose.server import existing, facts
from isola.cli.compose.stored import push
from isola.compose.application import order
from isola.compose.attributes import refuse, warnings
from isola.compose.changes import Kind, Recreation, changes, orphans
from isola.compose.disks import anonymous_volume, bound
from isola.compose.instances import LABEL, design, wanted
from isola.compose.networks import network_config
from isola.errors import AlreadyExists, NotFound
from isola.model.isolation import ISOLATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from isola.cli.context import Context
    from isola.client.operations import Operation
    from isola.compose.application import Application
    from isola.compose.changes import Action

_NEW = "-next"
"""Ending of the name of an instance that is to replace another one."""


class Up:
    """One application and the daemon."""

    def __init__(self, context: Context, application: Application) -> None:
        self._context = context
        self._client = context.client
        self._application = application
        self._facts = facts(context.client)
        self._images: dict[str, str] = {}

    def run(
        self,
        services: Sequence[str],
        *,
        recreation: Recreation = Recreation.CHANGED,
        scale: Mapping[str, int] | None = None,
        pull: str = "",
        rebuild: bool = False,
        start: bool = True,
        alone: bool = False,
    ) -> None:
        """Create, replace, start and remove what is needed, each service after those that it depends on.

        ``alone``: without these.
        """
        chosen = order(self._application, services)
        chosen = [name for name in chosen if name in services] if alone else chosen
        self._check(chosen)
        for name in chosen:
            self._images[name] = image_of(self._context, self._application, name, pull=pull, rebuild=rebuild)
        self._make_networks(chosen)
        self._make_volumes(chosen)
        found = changes(
            self._application.name,
            [
                wanted(self._application, name, self._images[name], self._facts, (scale or {}).get(name))
                for name in chosen
            ],
            existing(self._client, self._application.name),
            recreation,
        )
        for name, actions in found.items():
            if start and actions:
                self._await_needed(name)
            self._apply(name, actions, start=start)

    def await_ready(self, services: Sequence[str], seconds: int | None) -> None:
        """Until all instances are healthy, or run if they have no health check. Raises WrongState, TimedOut."""
        from isola.cli.compose.conditions import await_ready

        await_ready(self._context, self._application.name, order(self._application, services), seconds)

    def _check(self, services: Sequence[str]) -> None:
        """Before anything is made. Raises InvalidInput."""
        part = self._application.part(services)
        refuse(part)
        for text in warnings(part):
            self._context.say(f"Warning: {text}")

    def orphans(self) -> list[str]:
        """Instances of services that the file no longer has."""
        found = existing(self._client, self._application.name)
        return [one.name for one in orphans(self._application.services, found)]

    def _apply(self, service: str, actions: Collection[Action], *, start: bool) -> None:
        for action in actions:
            if action.kind is Kind.REMOVE:
                self._follow(self._client.instances.delete(action.name, force=True), f"Removing {action.name}")
                self._context.say(f"{action.name} is removed")
            elif action.kind is Kind.RESTART and start:
                self._run_hooks(action.name, service, PRE_STOP)
                seconds = patience(self._client.instances.get(action.name))
                operation = self._client.instances.restart(action.name, timeout=seconds, kill=True)
                self._follow(operation, f"Restarting {action.name}")
                self._context.say(f"{action.name} is restarted")
                self._run_hooks(action.name, service, POST_START)
            elif action.kind is Kind.START and start:
                self._start(action.name, service)
            elif action.kind is Kind.CREATE:
                self._create(service, action, action.name)
                if start:
                    self._start(action.name, service)
            elif action.kind is Kind.REPLACE:
                self._replace(service, action, start=start)

    def _create(self, service: str, action: Action, name: str) -> None:
        found = design(self._application, service, action.number, self._images[service], self._facts)
        operation = self._client.instances.create(
            image=found.image,
            name=name,
            config=found.config,
            devices=found.devices,
            program=found.program,
            terminal=found.terminal,
            stdin=found.stdin,
            isolation=found.runtime if found.runtime in ISOLATIONS else "",
            runtime="" if found.runtime in ISOLATIONS else found.runtime,
        )
        self._follow(operation, f"Creating {action.name}")
        push(self._client, self._application, service, name)
        if name == action.name:
            self._context.say(f"{action.name} is created")

    def _replace(self, service: str, action: Action, *, start: bool) -> None:
        """The new instance is complete before the old one is removed."""
        new = action.name + _NEW
        self._remove(new)
        self._create(service, action, new)
        self._run_hooks(action.name, service, PRE_STOP)
        self._stop(action.name)
        self._remove(action.name)
        self._follow(self._client.instances.rename(new, action.name), f"Renaming {new}")
        self._context.say(f"{action.name} is replaced")
        if start:
            self._start(action.name, service)

    def _start(self, name: str, service: str) -> None:
        self._follow(self._client.instances.start(name), f"Starting {name}")
        self._context.say(f"{name} is running")
        self._run_hooks(name, service, POST_START)

    def _run_hooks(self, name: str, service: str, kind: str) -> None:
        found = self._application.services[service]
        if found.get(kind) and (one := self._client.instances.get(name))["status"] == "Running":
            run_hooks(self._context, found, one, kind)

    def _stop(self, name: str) -> None:
        found = self._client.instances.get(name)
        if found["status"] != "Stopped":
            self._follow(stop(self._context, found), f"Stopping {name}")

    def _remove(self, name: str) -> None:
        try:
            operation = self._client.instances.delete(name, force=True)
        except NotFound:
            return
        self._follow(operation, f"Removing {name}")

    def _await_needed(self, service: str) -> None:
        from isola.cli.compose.conditions import await_condition

        for needed, how in self._application.needs(service).items():
            if needed in self._application.services:
                await_condition(self._context, self._application.name, needed, how)

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
            self._follow(self._client.networks.create(network["name"], config=config), f"Creating {network['name']}")
            self._context.say(f"Network {network['name']} is created")

    def _make_volumes(self, services: Sequence[str]) -> None:
        for service in services:
            for mount in self._application.services[service].get("volumes", ()):
                named = mount["type"] == "volume" and mount.get("source")
                if named and not bound(self._application, mount["source"]):
                    volume = self._application.volumes[mount["source"]]
                    labels = {LABEL + "project": self._application.name, LABEL + "volume": mount["source"]}
                    self._make_volume(volume["name"], volume, labels)
        for service in services:
            self._make_anonymous(service)

    def _make_anonymous(self, service: str) -> None:
        from isola.compose.changes import instance_name
        from isola.compose.instances import replicas_of

        found = self._application.services[service]
        for number in range(1, replicas_of(found) + 1):
            name = found.get("container_name") or instance_name(self._application.name, service, number)
            for mount in found.get("volumes", ()):
                if mount["type"] == "volume" and not mount.get("source"):
                    self._make_volume(anonymous_volume(name, mount["target"]), {}, {LABEL + "anonymous": name})

    def _make_volume(self, name: str, volume: Mapping[str, object], labels: Mapping[str, str]) -> None:
        if volume.get("external"):
            self._client.volumes.read(self._facts.pool, name)
            return
        given = volume.get("labels")
        own = {f"user.{key}": value for key, value in given.items()} if isinstance(given, dict) else {}
        try:
            self._follow(self._client.volumes.create(self._facts.pool, name, {**own, **labels}), f"Creating {name}")
        except AlreadyExists:
            return
        self._context.say(f"Volume {name} is created")

    def _follow(self, operation: Operation, title: str) -> None:
        self._context.follow(operation, title)
