"""Restart policies, logs, names and health checks of containers as configuration keys of instances."""

from __future__ import annotations

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
_LOG_IGNORED = ("compress", "mode", "max-buffer-size", "labels", "env", "tag", "labels-regex", "env-regex")
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
    name, most = policy.text("Name", ""), policy.whole("MaximumRetryCount", 0, minimum=-1)
    if name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidInput(f"invalid restart policy '{name[:40]}'", field="HostConfig.RestartPolicy")
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
    if driver not in ("", "json-file", "local", "none"):
        raise InvalidInput(f"logger: no log driver named '{driver[:40]}' is registered")
    keys = {f"{_LOG}driver": driver} if driver else {}
    for name, value in options.items():
        if name in _LOG_OPTIONS:
            keys[_LOG + _LOG_OPTIONS[name]] = value.upper().removesuffix("B") + "iB" if value[-1:].isalpha() else value
        elif name not in _LOG_IGNORED:
            raise InvalidInput(f"unknown log opt '{name[:40]}' for {driver or 'json-file'} log driver")
    return keys


def log_config(config: Config) -> dict[str, Any]:
    """With the options that are set."""
    names = {key: option for option, key in _LOG_OPTIONS.items()}
    options = {option: config[_LOG + key] for key, option in names.items() if config.get(_LOG + key)}
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
        if time := check.whole(field, 0, maximum=2**63 - 1):
            if time < 10**6:
                raise InvalidInput(f"{field} in Healthcheck cannot be less than 1ms")
            keys[_HEALTH + key] = f"{time}ns"
    if retries := check.whole("Retries", 0):
        keys[f"{_HEALTH}retries"] = str(retries)
    return keys


def health_check_json(check: HealthCheck | None) -> dict[str, Any] | None:
    """``Config.Healthcheck``."""
    if check is None:
        return None
    test = ["CMD-SHELL", check.argv[-1]] if check.in_shell else ["CMD", *check.argv]
    return {
        "Test": test,
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }


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
