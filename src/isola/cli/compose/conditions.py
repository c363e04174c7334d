"""Waits until a service is as the services that depend on it need it."""

from __future__ import annotations

import time

from isola.cli.compose.server import instances
from isola.compose.instances import SERVICE
from isola.errors import TimedOut, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from isola.cli.context import Context

_PAUSE = 0.2
_TIMEOUT = 600.0
"""Seconds until an instance that is neither healthy nor unhealthy counts as a failure."""


def await_condition(context: Context, application: str, service: str, how: dict[str, Any]) -> None:
    """Raises WrongState if it can no longer become true, TimedOut; a dependency that is not required only warns."""
    condition = how.get("condition", "service_started")
    if condition == "service_started":
        return
    end = time.monotonic() + _TIMEOUT
    try:
        while not all(_met(context, one["name"], condition) for one in _of(context, application, service)):
            if time.monotonic() > end:
                raise TimedOut(f"Service {service} is not {_goal(condition)}", evidence=f"after {_TIMEOUT:.0f} seconds")
            time.sleep(_PAUSE)
    except (WrongState, TimedOut) as error:
        if how.get("required") is not False:
            raise
        context.say(f"Warning: {error}")


def await_ready(context: Context, application: str, services: Sequence[str], seconds: int | None) -> None:
    """Until all instances of the services run, and are healthy where they have a health check.

    Raises WrongState, TimedOut.
    """
    timeout = _TIMEOUT if seconds is None else float(seconds)
    end = time.monotonic() + timeout
    names = [one["name"] for service in services for one in _of(context, application, service)]
    while waiting := [name for name in names if not _ready(context, name)]:
        if time.monotonic() > end:
            raise TimedOut(f"{', '.join(waiting)} is not ready", evidence=f"after {timeout:.0f} seconds")
        time.sleep(_PAUSE)


def _ready(context: Context, name: str) -> bool:
    found: Any = context.client.instances.get(name, state=True)
    health = (found["state"].get("health") or {}).get("status", "")
    last = found.get("last_run") or {}
    if found["status"] == "Stopped" and last.get("exit_status") == 0:
        return True  # as one that is to set something up
    if found["status"] == "Stopped" or health == "unhealthy":
        raise WrongState(f"{name} is {health or 'stopped with status ' + str(last.get('exit_status'))}")
    return found["status"] == "Running" and health in ("", "healthy")


def _of(context: Context, application: str, service: str) -> list[Any]:
    return [one for one in instances(context.client, application) if one["config"].get(SERVICE) == service]


def _met(context: Context, name: str, condition: str) -> bool:
    found: Any = context.client.instances.get(name, state=True)
    last = found.get("last_run") or {}
    if condition == "service_completed_successfully":
        if found["status"] != "Stopped":
            return False
        if last.get("exit_status") != 0:
            raise WrongState(f"{name} has ended with status {last.get('exit_status')}")
        return True
    health = (found["state"].get("health") or {}).get("status", "")
    if found["status"] == "Stopped":  # others are to be started again, as their policy says
        raise WrongState(f"{name} has ended with status {last.get('exit_status')} before it was healthy")
    if not health:
        raise WrongState(f"{name} has no health check", remedy="add one, or use condition: service_started")
    if health == "unhealthy":
        raise WrongState(f"{name} is unhealthy")
    return bool(health == "healthy")


def _goal(condition: str) -> str:
    return "healthy" if condition == "service_healthy" else "complete"
