"""Configuration keys of health checks, in place of those of the image. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from isola.model.image import HealthCheck
from isola.model.instance import Config
from isola.settings import Setting, Settings, boolean, whole

COMMAND, DISABLE = "isola.health.command", "isola.health.disable"
TCP, HTTP = "isola.health.tcp", "isola.health.http"
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_HTTP = re.compile(r"([0-9]{1,5})(/[!-~]{0,1000})?", re.ASCII)
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_LONGEST = 24 * 3600 * 10**9
_MOST_ARGUMENTS, _MOST_BYTES = 1024, 64 << 10
_DEFAULTS = HealthCheck(interval=30 * 10**9, timeout=30 * 10**9, start_interval=5 * 10**9, retries=3)
_TIMES = ("interval", "timeout", "start_period", "start_interval")


def _check(value: str) -> HealthCheck:
    if len(value) > _MOST_BYTES or "\0" in value or not value.strip():
        raise ValueError("a command is expected")
    if not value.lstrip().startswith("["):
        return HealthCheck(("/bin/sh", "-c", value), in_shell=True)
    try:
        argv = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("a JSON array of strings is expected") from error
    if not argv or len(argv) > _MOST_ARGUMENTS or not all(isinstance(each, str) for each in argv) or not argv[0]:
        raise ValueError("a JSON array of strings is expected")
    return HealthCheck(tuple(argv))


def _tcp(value: str) -> HealthCheck:
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) < 65536):
        raise ValueError("a port is expected")
    return HealthCheck(outside=f"tcp:{int(value)}")


def _http(value: str) -> HealthCheck:
    found = _HTTP.fullmatch(value)
    if found is None or not 0 < int(found[1]) < 65536:
        raise ValueError("a port, or a port and a path, is expected")
    return HealthCheck(outside=f"http:{int(found[1])}{found[2] or '/'}")


def duration(value: str) -> int:
    """Nanoseconds of ``30s``, ``1m30s``, ``500ms`` or ``30`` (seconds), up to a day. Raises ValueError."""
    if value.isascii() and value.isdigit() and len(value) < 7:
        value += "s"
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("a time such as 30s, 1m30s or 500ms is expected")
    found = sum(int(float(number) * _NANOSECONDS[unit]) for number, unit in parts)
    if found > _LONGEST or 0 < found < 10**6:
        raise ValueError("a time from 1ms to 24h is expected")
    return found


def written(seconds: float) -> str:
    """The other way round: ``1m30s``, ``50ms``."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest:g}s"


def _time(key: str, help: str) -> Setting:
    return Setting(f"isola.health.{key}", duration, help, expects="a time from 1ms to 24h, such as 30s or 1m30s")


HEALTH_SETTINGS = Settings(
    "instance",
    Setting(
        COMMAND,
        _check,
        "Command that finds out whether its program works, in place of that of its image: for a shell, or a JSON"
        ' array of strings. It runs as the program does, and status 0 is success: `curl -f localhost`, `["/check"]`.',
        expects="a command, or a JSON array of strings",
    ),
    Setting(
        TCP,
        _tcp,
        "Port to which the host connects to find out whether its program works, in place of a command, at its address"
        " on its first managed network.",
        expects="a port",
    ),
    Setting(
        HTTP,
        _http,
        "The same by a request over HTTP, which succeeds with status 200 to 399: `8080`, `80/health`.",
        expects="a port, or a port and a path, such as 80/health",
    ),
    Setting(DISABLE, boolean, "Do not check its health, whatever its image says.", "false"),
    _time("interval", "Time between health checks. By default as its image says, or 30s."),
    _time("timeout", "Time after which a health check has failed. By default as its image says, or 30s."),
    _time(
        "start_period", "Time after its start in which failed checks do not count. By default as its image says, or 0."
    ),
    _time("start_interval", "Time between health checks during this period. By default as its image says, or 5s."),
    Setting(
        "isola.health.retries",
        whole(1, 1000),
        "Failed checks in a row after which it is unhealthy. By default as its image says, or 3.",
    ),
)


def health_check(image: HealthCheck | None, config: Config) -> HealthCheck | None:
    """The check of an instance, all parts of which are set; None: there is none."""
    own = HEALTH_SETTINGS.value(config, COMMAND)
    check = image or HealthCheck()
    if isinstance(own, HealthCheck):
        check = replace(check, argv=own.argv, in_shell=own.in_shell, disabled=False)
    for key in (TCP, HTTP) if own is None else ():
        found = HEALTH_SETTINGS.value(config, key)
        if isinstance(found, HealthCheck):
            check = replace(check, argv=(), in_shell=False, disabled=False, outside=found.outside)
    if check.disabled or not (check.argv or check.outside) or HEALTH_SETTINGS.value(config, DISABLE) is True:
        return None
    parts: dict[str, Any] = {}
    for name in (*_TIMES, "retries"):
        own_value = HEALTH_SETTINGS.value(config, f"isola.health.{name}")
        value = own_value if isinstance(own_value, int) else getattr(check, name)
        parts[name] = value or getattr(_DEFAULTS, name)
    return replace(check, **parts)
