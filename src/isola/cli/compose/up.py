"""``isola compose up``: makes the instances on the daemon as the application's file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from isola.cli.compose.creation import create
from isola.cli.compose.down import stop, stop_timeout
from isola.cli.compose.hooks import POST_START, PRE_STOP, run_hooks
from isola.cli.compose.images import image_of, mounted
from isola.cli.compose.resources import Resources
from isola.cli.compose.server import existing, facts
from isola.cli.compose.stored import check
from isola.compose.application import order
from isola.compose.attributes import refuse, warnings
from isola.compose.changes import Kind, Recreation, changes, orphans
from isola.compose.instances import design, wanted
from isola.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from isola.cli.context import Context
    from isola.client.operations import Operation
    from isola.compose.application import Application
    from isola.compose.changes import Action

_NEW = "-next"
"""Ending of the name of an instance that is to replace another one."""


@dataclass(frozen=True, slots=True)
class How:
    """What the command's options say."""

    recreation: Recreation = Recreation.CHANGED
    scale: Mapping[str, int] = field(default_factory=dict)
    """Numbers of instances other than the file's."""
    pull: str = ""
    rebuild: bool = False
    never_build: bool = False
    start: bool = True
    alone: bool = False
    """Without the services that those depend on."""
    renew: bool = False
    """An instance that is replaced gets new volumes in place of those without a name."""
    dependencies_too: bool = False
    """With ``Recreation.CHANGED``: replace those that the services depend on in any case."""
    seconds: int | None = None
    """Until an instance that is to be stopped is killed; None: as its service says."""


class Up:
    """One application and the daemon."""

    def __init__(self, context: Context, application: Application) -> None:
        self._context = context
        self._client = context.client
        self._application = application
        self._facts = facts(context.client)
        self._how = How()
        self._images: dict[str, str] = {}
        self._resources = Resources(context, application, self._facts.pool)

    def run(self, services: Sequence[str], how: How) -> None:
        """Create, replace, start and remove what is needed, each service after those that it depends on."""
        self._how = how
        chosen = order(self._application, services)
        chosen = [name for name in chosen if name in services] if how.alone else chosen
        self._check(chosen)
        for name in chosen:
            self._images[name] = image_of(
                self._context, self._application, name, pull=how.pull, rebuild=how.rebuild, never_build=how.never_build
            )
        self._facts = replace(self._facts, images=mounted(self._context, self._application, chosen))
        self._resources.make(chosen, how.scale)
        found = changes(
            self._application.name,
            [wanted(self._application, name, self._images[name], self._facts, how.scale.get(name)) for name in chosen],
            existing(self._client, self._application.name),
            how.recreation,
            always=[name for name in chosen if name not in services] if how.dependencies_too and services else (),
        )
        for name, actions in found.items():
            if any(action.kind in (Kind.CREATE, Kind.REPLACE) for action in actions):
                check(self._application, name)
        for name, actions in found.items():
            if how.start and actions:
                self._await_needed(name)
            self._apply(name, actions)

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
        return [one.name for one in orphans({*self._application.services, *self._application.inactive}, found)]

    def _apply(self, service: str, actions: Collection[Action]) -> None:
        start = self._how.start
        for action in actions:
            if action.kind is Kind.REMOVE:
                self._follow(self._client.instances.delete(action.name, force=True), f"Removing {action.name}")
                self._context.say(f"{action.name} is removed")
            elif action.kind is Kind.RESTART and start:
                self._run_hooks(action.name, service, PRE_STOP)
                seconds = stop_timeout(self._client.instances.get(action.name), self._how.seconds)
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
        create(self._context, self._application, service, found, name=name)
        if name == action.name:
            self._context.say(f"{action.name} is created")

    def _replace(self, service: str, action: Action, *, start: bool) -> None:
        """The new instance is complete before the old one is removed, unless it is to have new volumes."""
        new = action.name + _NEW
        self._remove(new)
        if self._how.renew:
            self._run_hooks(action.name, service, PRE_STOP)
            self._stop(action.name)
            self._remove(action.name)
            self._resources.renew_anonymous(service, action.name)
            self._create(service, action, action.name)
            if start:
                self._start(action.name, service)
            return
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
            self._follow(stop(self._context, found, self._how.seconds), f"Stopping {name}")

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

    def _follow(self, operation: Operation, title: str) -> None:
        self._context.follow(operation, title)
