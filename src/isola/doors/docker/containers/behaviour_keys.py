"""Restart policies, logs, names and health checks of containers as configuration keys of instances."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, Unsupported
from isola.model.health import Health
from isola.model.image import HealthCheck
from isola.model.instance import Config

Keys = dict[str, str]
_RESTART = "isola.restart"
_LOG = "isola.log."
_LOG_OPTIONS = {"max-size": "max_size", "max-file": "max_files"}
_LOG_ECHOED = ("compress", "mode", "max-buffer-size", "labels", "env", "tag", "labels-regex", "env-regex")
"""Those that say how a logging process works, or are shown with details: they need no key."""
_LOG_MODES = ("", "blocking", "non-blocking")
_ELSEWHERE = ("syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "etwlogs", "logentries")
_LOGGER = "failed to create task for container: failed to initialize logging driver: "
_LOG_SIZE = re.compile(r"([0-9]{1,15})([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_LEAST_LOG, _MOST_FILES = 4096, 100
_HEALTH = "isola.health."
_HEALTH_TIMES = {
    "Interval": "interval",
    "Timeout": "timeout",
    "StartPeriod": "start_period",
    "StartInterval": "start_interval",
}


def restart_keys(host: Fields) -> Keys:
    """``RestartPolicy``."""
    policy = host.inside("RestartPolicy")
    name, most = policy.text("Name", ""), policy.whole("MaximumRetryCount", 0, minimum=-(2**63))
    if name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{name[:40]}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'",
            field="HostConfig.RestartPolicy",
        )
    if most < 0:
        raise InvalidInput(
            "invalid restart policy: maximum retry count cannot be negative", field="HostConfig.RestartPolicy"
        )
    if most and name != "on-failure":
        raise InvalidInput(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            field="HostConfig.RestartPolicy",
        )
    if name not in ("", "no") and host.boolean("AutoRemove"):
        raise InvalidInput("can't create 'AutoRemove' container with restart policy", field="HostConfig.RestartPolicy")
    return {_RESTART: f"{name}:{most}" if most > 0 else name} if name else {}


def restart_policy(config: Config) -> dict[str, Any] | None:
    """``on-failure:5`` in two fields."""
    name, _, most = config.get(_RESTART, "").partition(":")
    return {"Name": name, "MaximumRetryCount": int(most or 0)} if name else None


def log_keys(host: Fields) -> Keys:
    """``LogConfig``."""
    log = host.inside("LogConfig")
    driver, options = log.text("Type", ""), log.mapping("Config", empty=True)
    if driver in _ELSEWHERE:
        raise InvalidInput(
            f"{_LOGGER}the log driver {driver} is not offered by this server: use json-file, local, none"
        )
    if driver not in ("", "json-file", "local", "none"):
        raise InvalidInput(f'error looking up logging plugin {driver[:40]}: plugin "{driver[:40]}" not found')
    for name in options:
        if name not in _LOG_OPTIONS and name not in _LOG_ECHOED:
            raise InvalidInput(f"unknown log opt '{name[:40]}' for {driver or 'json-file'} log driver")
    if (mode := options.get("mode", "")) not in _LOG_MODES:
        raise InvalidInput(f"logger: logging mode not supported: {mode[:40]}")
    keys = {f"{_LOG}driver": driver} if driver else {}
    if size := options.get("max-size", ""):
        keys[f"{_LOG}max_size"] = _log_size(size)
    files = options.get("max-file", "")
    if files and (not files.isdecimal() or int(files[:9]) < 1):
        raise InvalidInput(f"{_LOGGER}max-file cannot be less than 1")
    if files:
        keys[f"{_LOG}max_files"] = str(min(int(files[:9]), _MOST_FILES))
    if options.get("compress") == "true" and driver != "local" and (not size or not files or int(files) < 2):
        raise InvalidInput(f"{_LOGGER}compress cannot be true when max-file is less than 2 or max-size is not set")
    return keys


def _log_size(text: str) -> str:
    found = _LOG_SIZE.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{_LOGGER}invalid size: '{text[:40]}'")
    return str(max(int(found[1]) * 1000 ** " kmgtp".index(found[2].lower() or " "), _LEAST_LOG))


def log_config(config: Config, given: Mapping[str, str]) -> dict[str, Any]:
    """With the options that are set; as ``given`` by the client, as long as they mean the same."""
    now = {option: config.get(_LOG + key, "") for option, key in _LOG_OPTIONS.items()}
    options = {option: value for option, value in given.items() if option in _LOG_ECHOED}
    for option, value in now.items():
        written = given.get(option, "")
        if value:
            same = written and (_log_size(written) if option == "max-size" else written) == value
            options[option] = written if same else value
    return {"Type": config.get(f"{_LOG}driver") or "json-file", "Config": options}


def hosts_keys(host: Fields) -> Keys:
    """``ExtraHosts``: ``db:192.0.2.7``, ``host:host-gateway``."""
    found = []
    for text in host.texts("ExtraHosts"):
        name, separator, address = text.partition("=") if "=" in text else text.partition(":")
        if not separator:
            raise InvalidInput(f"bad format for add-host: {text[:80]!r}", field="HostConfig.ExtraHosts")
        found.append(f"{name}={address.strip('[]')}")
    return {"isola.hosts": ",".join(found)} if found else {}


def extra_hosts(config: Config) -> list[str] | None:
    """The reverse."""
    parts = [part.strip() for part in config.get("isola.hosts", "").split(",")]
    found = [part.replace("=", ":", 1) for part in parts if part and "=container:" not in part]
    return found or None


def health_keys(config: Fields) -> Keys:
    """``Healthcheck``: inherited without a test, off with ``NONE``."""
    check = config.inside("Healthcheck")
    kind, *argv = check.texts("Test") or ("",)
    keys: Keys = {}
    if kind == "NONE":
        return {f"{_HEALTH}disable": "true"}
    if kind == "CMD-SHELL" and argv:
        keys[f"{_HEALTH}command"] = argv[0]
    elif kind == "CMD" and argv:
        keys[f"{_HEALTH}command"] = orjson.dumps(argv).decode()
    elif kind:
        raise Unsupported(f"Unknown type of health check {kind[:40]!r}", field="Config.Healthcheck")
    for field, key in _HEALTH_TIMES.items():
        if time := check.whole(field, 0, minimum=-(2**63), maximum=2**63 - 1):
            if time < 10**6:
                raise InvalidInput(f"{field} in Healthcheck cannot be less than 1ms")
            keys[_HEALTH + key] = f"{time}ns"
    retries = check.whole("Retries", 0, minimum=-(2**63))
    if retries < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")
    if retries:
        keys[f"{_HEALTH}retries"] = str(retries)
    return keys


def health_check_json(check: HealthCheck | None, image: HealthCheck | None, config: Config) -> dict[str, Any] | None:
    """``Config.Healthcheck``: ``check`` without what neither the image nor the configuration names."""
    if check is None:
        return None
    test = ["CMD-SHELL", check.argv[-1]] if check.in_shell else ["CMD", *(check.argv or (check.outside,))]
    found: dict[str, Any] = {"Test": test}
    for field, key in (*_HEALTH_TIMES.items(), ("Retries", "retries")):
        if config.get(_HEALTH + key) or (image is not None and getattr(image, key)):
            found[field] = getattr(check, key)
    return found


def health_json(health: Health) -> dict[str, Any]:
    """``State.Health``."""
    return {
        "Status": health.status.value,
        "FailingStreak": health.failing,
        "Log": [
            {
                "Start": each.start.isoformat(),
                "End": each.end.isoformat(),
                "ExitCode": each.exit_status,
                "Output": each.output,
            }
            for each in health.log
        ],
    }
