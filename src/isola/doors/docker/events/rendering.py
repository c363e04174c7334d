"""Messages of Docker for our events. Names and labels of containers are remembered for the time after their removal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from isola.doors import Services
from isola.doors.docker.events.links import Link, links_of
from isola.doors.docker.identity import container_id, long_id
from isola.doors.docker.image_lookup import image_id
from isola.doors.docker.images.names import familiar
from isola.doors.docker.networks.lookup import Shown
from isola.doors.docker.networks.notes import note_of as network_note
from isola.doors.docker.notes import labels_of, note_of
from isola.doors.docker.times import nanoseconds
from isola.errors import NotFound
from isola.model.event import Event, Lifecycle
from isola.model.image_reference import parse
from isola.model.instance import Instance, Status
from isola.model.reference import Kind, Ref

_STATES = {
    "instance-created": ("create",),
    "instance-started": ("start",),
    "instance-stopped": ("kill", "oom", "die", "stop"),
    "instance-shutdown": ("oom", "die"),
    "instance-restarted": ("restart",),
    "instance-paused": ("pause",),
    "instance-resumed": ("unpause",),
    "instance-renamed": ("rename",),
    "instance-updated": ("update",),
    "instance-deleted": ("destroy",),
    "instance-signalled": ("kill",),
    "instance-console": ("attach",),
    "instance-attached": ("attach",),
    "instance-detached": ("detach",),
    "instance-resized": ("resize",),
    "instance-listed": ("top",),
    "instance-exported": ("export",),
    "instance-file-retrieved": ("archive-path",),
    "instance-file-pushed": ("extract-to-dir",),
    "instance-committed": ("commit",),
    "instance-health-status": ("health_status",),
    "instance-exec-created": ("exec_create",),
    "instance-exec": ("exec_start",),
    "instance-exec-ended": ("exec_die",),
}
_LEARNED = ("instance-created", "instance-updated", "instance-renamed", "instance-started")
_ENDED = ("instance-stopped", "instance-shutdown")
_OTHERS = {
    "image-created": ("image", "pull"),
    "image-deleted": ("image", "delete"),
    "image-retrieved": ("image", "save"),
    "image-alias-created": ("image", "tag"),
    "image-alias-updated": ("image", "tag"),
    "image-alias-deleted": ("image", "untag"),
    "network-created": ("network", "create"),
    "network-updated": ("network", "update"),
    "network-deleted": ("network", "destroy"),
    "storage-volume-created": ("volume", "create"),
    "storage-volume-deleted": ("volume", "destroy"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message with what filters ask for."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time: int
    """Nanoseconds since 1970."""

    def json(self) -> dict[str, Any]:
        """As clients read it; containers and images have the older fields too."""
        older: dict[str, Any] = {}
        if self.type == "container":
            older = {"status": self.action, "id": self.id, "from": self.attributes.get("image", "")}
        elif self.type == "image":
            older = {"status": self.action, "id": self.id}
        return {
            **older,
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": "local",
            "time": self.time // 10**9,
            "timeNano": self.time,
        }


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a container, also after its removal."""

    id: str
    attributes: dict[str, str]
    links: tuple[Link, ...]


class Renderer:
    """Turns events of one project into messages."""

    def __init__(self, services: Services, project: str) -> None:
        self._services = services
        self._project = project
        self._known: dict[Ref, _Known] = {}
        self._networks: dict[Ref, tuple[str, str, str]] = {}
        """What messages say of them, also after their removal."""
        for network in services.networks:
            self._network(network.ref)
        self._targets = {alias.ref: image_id(alias.target) for alias in services.images.aliases()}
        for instance in services.instances:
            if instance.project == project:
                self._learn(instance)

    def messages(self, event: Event) -> Iterator[Message]:
        """None for events that Docker does not have."""
        content = event.content
        if not isinstance(content, Lifecycle):
            return
        time = nanoseconds(event.timestamp)
        if content.action in _STATES and content.source.project == self._project:
            yield from self._of_container(content, time)
        elif content.action in _OTHERS and content.source.project == self._home(content.source.kind):
            yield from self._of_other(content, time)

    def _home(self, kind: Kind) -> str:
        shared = Kind.IMAGE if kind is Kind.IMAGE_ALIAS else kind
        return self._services.projects.home(self._project, shared)

    def _learn(self, instance: Instance) -> _Known:
        config, devices = self._services.instances.expanded(instance)
        note = note_of(instance)
        image = note.image or (image_id(instance.image) if instance.image else "")
        attributes = {**labels_of(instance, config, note), "image": image, "name": instance.name}
        links = links_of(self._services, instance, config, devices)
        self._known[instance.ref] = found = _Known(container_id(instance.id), attributes, links)
        return found

    def _of_container(self, content: Lifecycle, time: int) -> Iterator[Message]:
        ref, context = content.source.ref, content.context
        if content.action == "instance-renamed":
            self._known.pop(ref.renamed(str(context.get("old_name"))), None)
        found = before = self._known.get(ref)
        if content.action in _LEARNED or found is None:
            with suppress(NotFound):
                found = self._learn(self._services.instances.get(ref))
        if content.action == "instance-deleted":
            self._known.pop(ref, None)
        if found is not None:
            moves = self._moves(content, before, found)
            own = [] if content.action == "instance-updated" and moves else list(self._own(content, found, time))
            kills = [each for each in own if each.action == "kill"]
            yield from kills
            yield from (_link(found.id, link, begins, time) for link, begins in moves)
            yield from own[len(kills) :]

    def _moves(self, content: Lifecycle, before: _Known | None, found: _Known) -> list[tuple[Link, bool]]:
        """Networks and volumes that begin (True) or end to be the container's, before what happens to itself."""
        if content.action == "instance-started":
            return [(link, True) for link in found.links]
        if content.action in _ENDED:
            return [(link, False) for link in reversed(found.links)]
        status = Status.STOPPED
        with suppress(NotFound):
            status = self._services.instances.status(self._services.instances.get(content.source.ref))
        if content.action != "instance-updated" or before is None or status is not Status.RUNNING:
            return []
        gone = [(link, False) for link in before.links if link not in found.links]
        return gone + [(link, True) for link in found.links if link not in before.links]

    @staticmethod
    def _own(content: Lifecycle, found: _Known, time: int) -> Iterator[Message]:
        context = content.context
        for action in _STATES[content.action]:
            for more, name in _more(action, context):
                yield Message("container", name, found.id, {**found.attributes, **more}, time)

    def _of_other(self, content: Lifecycle, time: int) -> Iterator[Message]:
        kind, action = _OTHERS[content.action]
        name = content.source.names[-1]
        if content.action == "image-created":
            source = self._source(content.source.ref)
            if not source or "instance" in source:
                return  # what has made it tells of that
            action = "create" if "build" in source else action
        if kind == "image":
            id, shown = self._image(content)
            yield Message(kind, action, id, {"name": shown}, time)
        elif kind == "network":
            id, driver, shown = self._network(content.source.ref)
            yield Message(kind, action, id, {"name": shown, "type": driver}, time)
        else:
            yield Message(kind, action, name, {"driver": "local"}, time)

    def _source(self, ref: Ref) -> Mapping[str, str]:
        """Where an image came from; empty if it has gone."""
        try:
            return self._services.images.get(ref).source
        except NotFound:
            return {}

    def _network(self, ref: Ref) -> tuple[str, str, str]:
        """Its id, driver and name."""
        if (network := self._services.networks.find(ref)) is None:
            return self._networks.pop(ref, (ref.name, "bridge", ref.name))
        name = network_note(network).name or network.name
        self._networks[ref] = long_id(network.identity), Shown(name, network).driver, name
        return self._networks[ref]

    def _image(self, content: Lifecycle) -> tuple[str, str]:
        """The id of an image, and its name: of an alias as Docker writes it, of an image its id."""
        name, ref = content.source.names[-1], content.source.ref
        if content.source.kind is Kind.IMAGE:
            return image_id(name), image_id(name)
        for alias in self._services.images.aliases():
            if alias.ref == ref:
                self._targets[ref] = image_id(alias.target)
        target = self._targets.get(ref)
        if content.action == "image-alias-deleted":
            self._targets.pop(ref, None)
        return target or familiar(name), familiar(name)


def _link(container: str, link: Link, begins: bool, time: int) -> Message:
    actions = {"network": ("connect", "disconnect"), "volume": ("mount", "unmount")}[link.type]
    more = link.begin if begins else link.end
    return Message(link.type, actions[not begins], link.id, {"container": container, **more}, time)


def _more(action: str, context: Mapping[str, object]) -> Iterator[tuple[dict[str, str], str]]:
    """Further attributes, and the action as it is called; nothing if it has not happened."""
    if action in ("exec_create", "exec_start"):
        command = context.get("command")
        program, *arguments = map(str, command) if isinstance(command, list | tuple) and command else ("",)
        yield {"execID": str(context.get("id", ""))}, f"{action}: {program} {' '.join(arguments)}"
    elif action == "kill":
        signals = context.get("signals")
        for signal in signals if isinstance(signals, list) else [context.get("signal")]:
            yield {"signal": str(signal or "")}, action
    elif action == "oom":
        if context.get("oom_killed"):
            yield {}, action
    elif action == "stop":
        if not context.get("by_signal"):
            yield {}, action
    elif action == "health_status":
        yield {}, f"health_status: {context.get('status', '')}"
    else:
        yield _attributes(action, context), action


def _attributes(action: str, context: Mapping[str, object]) -> dict[str, str]:
    if action == "die":
        return {"execDuration": str(context.get("seconds", 0)), "exitCode": str(context.get("exit_status", 0))}
    if action == "exec_die":
        return {"execID": str(context.get("id", "")), "exitCode": str(context.get("exit_status", 0))}
    if action == "rename":
        return {"oldName": f"/{context.get('old_name', '')}"}
    if action == "resize":
        return {name: str(context.get(name, 0)) for name in ("height", "width")}
    if action == "commit":
        names = context.get("names")
        name = names[0] if isinstance(names, list) and names else ""
        found = {"comment": str(context.get("message", "")), "imageID": image_id(str(context.get("fingerprint", "")))}
        return found | ({"imageRef": parse(str(name)).familiar} if name else {})
    return {}
