"""Messages of Docker for our events. Names and labels of containers are remembered for the time after their removal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from isola.doors import Services
from isola.doors.docker.identity import container_id, long_id
from isola.doors.docker.image_lookup import image_id
from isola.doors.docker.notes import labels_of, note_of
from isola.doors.docker.times import nanoseconds
from isola.errors import NotFound
from isola.model.event import Event, Lifecycle
from isola.model.instance import Instance
from isola.model.reference import Kind, Ref

_STATES = {
    "instance-created": ("create",),
    "instance-started": ("start",),
    "instance-stopped": ("die", "stop"),
    "instance-shutdown": ("die",),
    "instance-restarted": ("restart",),
    "instance-paused": ("pause",),
    "instance-resumed": ("unpause",),
    "instance-renamed": ("rename",),
    "instance-updated": ("update",),
    "instance-deleted": ("destroy",),
    "instance-signalled": ("kill",),
    "instance-console": ("attach",),
    "instance-committed": ("commit",),
    "instance-health-status": ("health_status",),
    "instance-exec": ("exec_create", "exec_start"),
}
_OTHERS = {
    "image-created": ("image", "pull"),
    "image-deleted": ("image", "delete"),
    "image-retrieved": ("image", "save"),
    "image-alias-created": ("image", "tag"),
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


class Renderer:
    """Turns events of one project into messages."""

    def __init__(self, services: Services, project: str) -> None:
        self._services = services
        self._project = project
        self._known: dict[Ref, tuple[str, dict[str, str]]] = {}
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

    def _learn(self, instance: Instance) -> tuple[str, dict[str, str]]:
        config, _ = self._services.instances.expanded(instance)
        note = note_of(instance)
        image = note.image or (image_id(instance.image) if instance.image else "")
        attributes = {**labels_of(instance, config, note), "image": image, "name": instance.name}
        self._known[instance.ref] = found = (container_id(instance.id), attributes)
        return found

    def _of_container(self, content: Lifecycle, time: int) -> Iterator[Message]:
        ref, context = content.source.ref, content.context
        if content.action == "instance-renamed":
            self._known.pop(ref.renamed(str(context.get("old_name"))), None)
        found = self._known.get(ref)
        if content.action in ("instance-created", "instance-updated", "instance-renamed") or found is None:
            with suppress(NotFound):
                found = self._learn(self._services.instances.get(ref))
        if content.action == "instance-deleted":
            self._known.pop(ref, None)
        if found is None:
            return
        for action in _STATES[content.action]:
            more, name = _more(action, context)
            yield Message("container", name, found[0], {**found[1], **more}, time)

    def _of_other(self, content: Lifecycle, time: int) -> Iterator[Message]:
        kind, action = _OTHERS[content.action]
        name = content.source.names[-1]
        if kind == "image":
            id = image_id(name) if content.source.kind is Kind.IMAGE else str(content.context.get("target") or name)
            yield Message(kind, action, id, {"name": name}, time)
        elif kind == "network":
            network = self._services.networks.find(content.source.ref)
            id = long_id(network.identity) if network is not None else name
            yield Message(kind, action, id, {"name": name, "type": network.driver if network else "bridge"}, time)
        else:
            yield Message(kind, action, name, {"driver": "local"}, time)


def _more(action: str, context: Mapping[str, object]) -> tuple[dict[str, str], str]:
    """Further attributes, and the action as it is called."""
    if action == "die":
        return {"exitCode": str(context.get("exit_status", 0))}, action
    if action == "kill":
        return {"signal": str(context.get("signal", ""))}, action
    if action == "rename":
        return {"oldName": f"/{context.get('old_name', '')}"}, action
    if action == "health_status":
        return {}, f"health_status: {context.get('status', '')}"
    if action in ("exec_create", "exec_start"):
        command = context.get("command")
        text = shlex.join(map(str, command)) if isinstance(command, list | tuple) else ""
        return {}, f"{action}: {text}"
    return {}, action
