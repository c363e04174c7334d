"""Image configurations of OCI and Docker: parsed as untrusted input, and written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from isola.errors import InvalidInput, Unsupported
from isola.images.architecture import of_platform, platform
from isola.images.descriptor import is_sha256
from isola.images.hostile_json import Fields
from isola.images.oci_manifest import MAX_LAYERS
from isola.model.image import TYPE_LABEL, HealthCheck, ImageConfig
from isola.model.signals import signal_number

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_USER = re.compile(r"[^\s:]{0,256}(:[^\s:]{1,256})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHELL = ("/bin/sh", "-c")
_MOST_HISTORY = 4 * MAX_LAYERS
_MOST_PORTS = 10_000
_LONGEST_WAIT = timedelta(days=1) // timedelta(microseconds=1) * 1000
"""Nanoseconds."""


@dataclass(frozen=True, slots=True)
class History:
    """How a layer, or a change of the configuration, came about."""

    created_by: str = ""
    created_at: datetime | None = None
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    """It changed the configuration only, and has no layer."""


@dataclass(frozen=True, slots=True)
class OciConfig:
    """The contents of an image configuration."""

    architecture: str
    """The kernel's name: ``x86_64``."""
    created_at: datetime
    """Time of creation; 1970 if unknown."""
    diff_ids: tuple[str, ...]
    run: ImageConfig
    author: str = ""
    history: tuple[History, ...] = ()
    """Oldest first."""


def read_config(data: bytes) -> OciConfig:
    """Raises InvalidInput with the wrong field, Unsupported for an image of another operating system."""
    fields = Fields.parse(data, "configuration")
    if (system := fields.text("os", longest=80) or "linux") != "linux":  # the first images did not name it
        raise Unsupported(f"The image is for {system[:40]}", remedy="use a Linux image")
    return OciConfig(
        of_platform(fields.text("architecture", longest=80), fields.text("variant", longest=80)),
        _created(fields),
        _diff_ids(fields.inner("rootfs")),
        _run(fields.inner("config")),
        fields.text("author", longest=1024),
        fields.objects("history", _history, most=_MOST_HISTORY),
    )


def write_config(config: OciConfig) -> bytes:
    """The document. Reading it gives an equal configuration."""
    document: dict[str, object] = {
        "created": _moment(config.created_at),
        **({"author": config.author} if config.author else {}),
        **platform(config.architecture),
        "config": _run_document(config.run),
        "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
        "history": [_history_document(each) for each in config.history],
    }
    return orjson.dumps(document)


def _run(fields: Fields) -> ImageConfig:
    entrypoint = _argv(fields, "Entrypoint")
    labels, shell = fields.mapping("Labels"), fields.texts("Shell")
    return ImageConfig(
        system=labels.get(TYPE_LABEL) in ("system", "vm"),
        command=entrypoint + _argv(fields, "Cmd"),
        entrypoint=entrypoint,
        environment=_environment(fields),
        cwd=_directory(fields, "WorkingDir", fields.text("WorkingDir", longest=4096) or "/"),
        user=_user(fields),
        stop_signal=_signal(fields),
        labels=labels,
        volumes=tuple(sorted(_directory(fields, "Volumes", path) for path in fields.names("Volumes"))),
        exposed_ports=tuple(sorted({_port(fields, port) for port in fields.names("ExposedPorts", most=_MOST_PORTS)})),
        health_check=_health_check(fields.inner("Healthcheck"), shell) if "Healthcheck" in fields else None,
        shell=shell,
        on_build=fields.texts("OnBuild"),
        args_escaped=fields.boolean("ArgsEscaped"),
    )


def _argv(fields: Fields, key: str) -> tuple[str, ...]:
    argv = fields.texts(key)
    return () if argv == ("",) else argv  # Docker resets an entrypoint by an empty string


def _environment(fields: Fields) -> dict[str, str]:
    """Of repeated names the last is used; an entry without ``=`` is ignored, as in Docker."""
    found: Mapping[str, str] = dict(each.split("=", 1) for each in fields.texts("Env") if "=" in each)
    if "" in found:
        raise fields.wrong("Env", "has a variable without a name")
    return dict(found)


def _directory(fields: Fields, key: str, path: str) -> str:
    if not path.startswith("/") or len(path) > 4096 or ".." in path.split("/"):
        raise fields.wrong(key, f"{path[:80]!r} is not an absolute path without '..'")
    return path


def _user(fields: Fields) -> str:
    user = fields.text("User", longest=600)
    if not _USER.fullmatch(user):
        raise fields.wrong("User", "is not USER or USER:GROUP")
    return user or "0"


def _signal(fields: Fields) -> str:
    name = fields.text("StopSignal", longest=40) or "SIGTERM"
    try:
        signal_number(name)
    except InvalidInput as error:
        raise fields.wrong("StopSignal", f"{name!r} is not a signal") from error
    return name


def _port(fields: Fields, text: str) -> str:
    """``80`` becomes ``80/tcp``."""
    found = _PORT.fullmatch(text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if found is None or not 1 <= low <= high <= 65535:
        raise fields.wrong("ExposedPorts", f"{text[:40]!r} is not PORT or PORT/PROTOCOL")
    ports = str(low) if low == high else f"{low}-{high}"
    return f"{ports}/{found[3] or 'tcp'}"


def _health_check(fields: Fields, shell: tuple[str, ...]) -> HealthCheck:
    kind, *argv = fields.texts("Test") or ("",)
    if kind not in ("", "NONE", "CMD", "CMD-SHELL") or (kind in ("CMD", "CMD-SHELL")) != bool(argv):
        raise fields.wrong("Test", "is neither NONE nor CMD or CMD-SHELL with a command")
    if kind == "CMD-SHELL":
        argv = [*(shell or _SHELL), argv[0]]
    return HealthCheck(
        tuple(argv),
        kind == "CMD-SHELL",
        interval=fields.number("Interval", most=_LONGEST_WAIT),
        timeout=fields.number("Timeout", most=_LONGEST_WAIT),
        start_period=fields.number("StartPeriod", most=_LONGEST_WAIT),
        start_interval=fields.number("StartInterval", most=_LONGEST_WAIT),
        retries=fields.number("Retries", most=1000),
        disabled=kind == "NONE",
    )


def _diff_ids(fields: Fields) -> tuple[str, ...]:
    if (kind := fields.text("type", longest=80)) != "layers":
        raise fields.wrong("type", f"is {kind[:40]!r}, not 'layers'")
    found = fields.texts("diff_ids", most=MAX_LAYERS)
    if not all(map(is_sha256, found)):
        raise fields.wrong("diff_ids", "has an entry that is not sha256:<64 hex digits>")
    return found


def _history(fields: Fields) -> History:
    return History(
        fields.text("created_by"),
        _created(fields) if "created" in fields else None,
        fields.text("author", longest=1024),
        fields.text("comment"),
        fields.boolean("empty_layer"),
    )


def _created(fields: Fields) -> datetime:
    text = fields.text("created", longest=80)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _EPOCH
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)), _EPOCH)


# --- writing -------------------------------------------------------------------------------------------------------


def _run_document(run: ImageConfig) -> dict[str, object]:
    """Without what has its default, as Docker leaves it out."""
    labels = {TYPE_LABEL: "system", **run.labels} if run.system else dict(run.labels)
    fields: dict[str, object] = {
        "User": run.user if run.user != "0" else "",
        "ExposedPorts": {port: {} for port in run.exposed_ports},
        "Env": [f"{name}={value}" for name, value in run.environment.items()],
        "Entrypoint": list(run.entrypoint),
        "Cmd": list(run.arguments),
        "Healthcheck": None if run.health_check is None else _health_document(run.health_check),
        "ArgsEscaped": run.args_escaped,
        "Volumes": {path: {} for path in run.volumes},
        "WorkingDir": run.cwd,
        "OnBuild": list(run.on_build),
        "Labels": labels,
        "StopSignal": run.stop_signal if run.stop_signal != "SIGTERM" else "",
        "Shell": list(run.shell),
    }
    return {name: value for name, value in fields.items() if value}


def _health_document(check: HealthCheck) -> dict[str, object]:
    test = ["NONE"] if check.disabled else ["CMD-SHELL", check.argv[-1]] if check.in_shell else ["CMD", *check.argv]
    fields: dict[str, object] = {
        "Test": test if check.disabled or check.argv else [],
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {name: value for name, value in fields.items() if value}


def _history_document(each: History) -> dict[str, object]:
    fields: dict[str, object] = {
        "created": _moment(each.created_at) if each.created_at else "",
        "created_by": each.created_by,
        "author": each.author,
        "comment": each.comment,
        "empty_layer": each.empty_layer,
    }
    return {name: value for name, value in fields.items() if value}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
