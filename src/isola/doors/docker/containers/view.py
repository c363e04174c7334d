"""A container as clients of Docker see it: an instance with its state, in Docker's terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from isola.doors.docker.identity import container_id
from isola.doors.docker.notes import Note, labels_of, note_of
from isola.doors.docker.request import Request
from isola.doors.docker.times import roughly
from isola.model.health import Health
from isola.model.instance import Config, Devices, Instance, Status

_STATES = {
    Status.RUNNING: "running",
    Status.STOPPING: "running",
    Status.FROZEN: "paused",
    Status.STARTING: "restarting",
    Status.ERROR: "dead",
}
LIVE = ("running", "paused", "restarting")
_TIMED = (*LIVE, "exited")
"""States whose text tells for how long."""
STATES = ("created", *LIVE, "removing", "exited", "dead")


@dataclass(frozen=True, slots=True)
class View:
    """Everything that lists, filters and ``inspect`` show of one container."""

    instance: Instance
    config: Config
    """Expanded."""
    devices: Devices
    """Expanded."""
    note: Note
    state: str
    now: datetime
    found_health: Health | None = None

    @property
    def id(self) -> str:
        """64 digits."""
        return container_id(self.instance.id)

    @property
    def running(self) -> bool:
        """Also while it is paused or about to be started again."""
        return self.state in LIVE

    @property
    def labels(self) -> dict[str, str]:
        """Of the container, those of its image included."""
        return labels_of(self.instance, self.config, self.note)

    @property
    def exit_status(self) -> int:
        """Of the last run; 0 while it runs."""
        last = self.instance.last_run
        return last.exit_status if last is not None and not self.running else 0

    @property
    def started_at(self) -> datetime | None:
        """The beginning of the present or the last run."""
        last = self.instance.last_run
        if not self.running and last is not None and last.started_at is not None:
            return last.started_at
        return self.instance.last_used_at

    @property
    def finished_at(self) -> datetime | None:
        """The end of the last run."""
        return self.instance.last_run.finished_at if self.instance.last_run is not None else None

    @property
    def health(self) -> str:
        """``none`` without a health check."""
        return self.found_health.status.value if self.found_health is not None and self.running else "none"

    @property
    def status(self) -> str:
        """``Up 3 minutes (Paused)``, ``Exited (0) 2 days ago``."""
        if self.running:
            up = f"Up {self._since(self.started_at)}"
            if self.state == "restarting":
                return f"Restarting ({self.exit_status}) {self._since(self.finished_at)} ago"
            if self.state == "paused":
                return f"{up} (Paused)"
            health = {"none": "", "starting": " (health: starting)"}.get(self.health, f" ({self.health})")
            return f"{up}{health}"
        if self.state == "exited":
            return f"Exited ({self.exit_status}) {self._since(self.finished_at)} ago"
        return {"created": "Created", "removing": "Removal In Progress"}.get(self.state, "Dead")

    def _since(self, moment: datetime | None) -> str:
        return roughly((self.now - moment).total_seconds() if moment is not None else 0)


def view(request: Request, instance: Instance) -> View:
    """The present view of an instance."""
    services = request.services
    config, devices = services.instances.expanded(instance)
    return refreshed(request, View(instance, config, devices, note_of(instance), "created", services.host.clock.now()))


def refreshed(request: Request, view: View) -> View:
    """The same record with its present state."""
    services, instance = request.services, view.instance
    state = _state(instance, services.instances.status(instance))
    if state == view.state and state not in _TIMED:
        return view
    health = services.instances.runs.health(instance.ref)
    return replace(view, state=state, now=services.host.clock.now(), found_health=health)


def _state(instance: Instance, status: Status) -> str:
    if instance.deleting:
        return "removing"
    found = _STATES.get(status)
    if found is None:
        return "exited" if instance.last_used_at is not None else "created"
    return found
