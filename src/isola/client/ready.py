"""Wait until an instance is ready: its system has started, a port is open, or a command succeeds."""

from __future__ import annotations

import time

from isola.errors import InvalidInput, IsolaError, TimedOut, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isola.client.exec import Ended
    from isola.client.instances import Instances
    from isola.client.shapes import InstanceInfo, ServerInfo

    Judge = Callable[[Ended], str]
    """Returns an empty text if the instance is ready, else the reason why it is not."""

SYSTEM, HEALTHY = "ready", "healthy"
_TIMEOUT, _TIMEOUT_IF_EMULATED = 60, 600
"""Seconds."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_LISTENS = "0A"
_PORTS = ("/proc/net/tcp", "/proc/net/tcp6")


def default_timeout(instance: InstanceInfo, server: ServerInfo) -> int:
    """Seconds in which an instance should become ready on this server: more if it emulates its processors."""
    runtimes = server.get("environment", {}).get("runtimes")
    emulated = {each.get("name") for each in runtimes if each.get("emulated")} if isinstance(runtimes, list) else set()
    return _TIMEOUT_IF_EMULATED if instance.get("runtime") in emulated else _TIMEOUT


def wait_ready(instances: Instances, name: str, condition: str, timeout: float) -> str:
    """Wait for ``ready`` (systemd's states running and degraded), ``healthy`` (its health check), a TCP port, or the
    success of a shell command.

    Returns a remark, or an empty text. Raises TimedOut, InvalidInput, and WrongState if the instance stops.
    """
    if condition == HEALTHY:
        return _wait_healthy(instances, name, timeout)
    command, judge = _test(condition)
    end, pause, missing = time.monotonic() + timeout, _FIRST_PAUSE, "no response yet"
    while True:
        try:
            ended = instances.run(name, command)
        except WrongState as error:
            _require_running(instances, name, error)
        except IsolaError as error:
            missing = error.message
        else:
            missing = judge(ended)
            if not missing:
                return "degraded: some of its units have failed" if ended.stdout.strip() == b"degraded" else ""
        if time.monotonic() + pause > end:
            raise _late(name, timeout, missing)
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _wait_healthy(instances: Instances, name: str, timeout: float) -> str:
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        found = instances.get(name, state=True)
        health = (found.get("state") or {}).get("health")
        if found.get("status") in {"Stopped", "Error"}:
            raise _stopped(name)
        if health is None and found.get("status") == "Running":
            raise InvalidInput(
                f"The health of {name!r} is not checked", remedy="set isola.health.command, or wait for something else"
            )
        status = str((health or {}).get("status"))
        if status == "healthy":
            return ""
        if status == "unhealthy" or time.monotonic() + pause > end:
            raise _late(name, timeout, f"its health check says {status}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _late(name: str, timeout: float, missing: str) -> TimedOut:
    return TimedOut(
        f"Instance {name!r} is not ready after {timeout:g} seconds",
        evidence=missing,
        remedy="it keeps running: examine it, or wait longer",
    )


def _test(condition: str) -> tuple[Sequence[str], Judge]:
    if condition == SYSTEM:
        return ("systemctl", "is-system-running"), _system
    if condition.isascii() and condition.isdigit():
        if not 0 < int(condition) < 65536:
            raise InvalidInput(f"{condition} is not a TCP port", remedy="name one from 1 to 65535")
        return ("cat", *_PORTS), lambda ended: _port(ended, int(condition))
    if not condition.strip():
        raise InvalidInput("The condition to wait for is empty", remedy="use ready, a TCP port, or a command")
    return ("sh", "-c", condition), _success


def _system(ended: Ended) -> str:
    state = ended.stdout.decode(errors="replace").strip()
    if state in {"running", "degraded"}:
        return ""
    if ended.status in {126, 127}:
        raise InvalidInput(
            "The instance does not run systemd, which would report when it is ready",
            remedy="wait for a TCP port or a command instead",
        )
    return f"systemd says {state}" if state else "systemd does not answer yet"


def _port(ended: Ended, port: int) -> str:
    """By the kernel's socket table: ``sl local_address rem_address st ...``, addresses as ``HEX:PORT``."""
    rows = [line.split() for line in ended.stdout.decode(errors="replace").splitlines()]
    served = any(row[1].endswith(f":{port:04X}") and row[3] == _LISTENS for row in rows if len(row) > 3)
    return "" if served else f"nothing listens on port {port}"


def _success(ended: Ended) -> str:
    if ended.status == 0:
        return ""
    output = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-500:]
    return f"the command ends with status {ended.status}" + (f": {output}" if output else "")


def _require_running(instances: Instances, name: str, error: WrongState) -> None:
    """Raise WrongState for a stopped instance; one that reboots or is frozen may still become ready."""
    if instances.get(name).get("status") in {"Stopped", "Error"}:
        raise _stopped(name) from error


def _stopped(name: str) -> WrongState:
    return WrongState(
        f"Instance {name!r} has stopped before it was ready",
        remedy=f"isola info {name} --show-log shows its output",
    )
