"""Parsing image configurations of OCI and Docker, as untrusted input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from isola.errors import InvalidInput, Unsupported
from isola.images.architecture import of_platform
from isola.images.descriptor import is_sha256
from isola.images.hostile_json import Fields
from isola.images.manifest import TYPE_LABEL
from isola.images.oci_manifest import MAX_LAYERS
from isola.model.image import HealthCheck, ImageConfig
from isola.model.signals import signal_number

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_USER = re.compile(r"[^\s:]{0,256}(:[^\s:]{1,256})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_WAIT = timedelta(days=1) // timedelta(microseconds=1) * 1000
"""Nanoseconds."""


@dataclass(frozen=True, slots=True)
class OciConfig:
    """The contents of an image configuration."""

    architecture: str
    """The kernel's name: ``x86_64``."""
    created_at: datetime
    """Time of creation; 1970 if unknown."""
    diff_ids: tuple[str, ...]
    run: ImageConfig


def read_config(data: bytes) -> OciConfig:
    """Raises InvalidInput with the wrong field, Unsupported for an image of another operating system."""
    fields = Fields.parse(data, "configuration")
    if (system := fields.text("os", longest=80)) != "linux":
        raise Unsupported(f"The image is for {system[:40] or 'no operating system'}", remedy="use a Linux image")
    return OciConfig(
        of_platform(fields.text("architecture", longest=80), fields.text("variant", longest=80)),
        _created(fields),
        _diff_ids(fields.inner("rootfs")),
        _run(fields.inner("config")),
    )


def _run(fields: Fields) -> ImageConfig:
    entrypoint = _argv(fields, "Entrypoint")
    labels = fields.mapping("Labels")
    return ImageConfig(
        system=labels.get(TYPE_LABEL) == "system",
        command=entrypoint + _argv(fields, "Cmd"),
        entrypoint=entrypoint,
        environment=_environment(fields),
        cwd=_directory(fields, "WorkingDir", fields.text("WorkingDir", longest=4096) or "/"),
        user=_user(fields),
        stop_signal=_signal(fields),
        labels=labels,
        volumes=tuple(sorted(_directory(fields, "Volumes", path) for path in fields.names("Volumes"))),
        exposed_ports=tuple(sorted({_port(fields, port) for port in fields.names("ExposedPorts")})),
        health_check=_health_check(fields.inner("Healthcheck")) if "Healthcheck" in fields else None,
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
        raise fields.wrong("StopSignal", f"{name!r} is no signal") from error
    return name


def _port(fields: Fields, text: str) -> str:
    """``80`` becomes ``80/tcp``."""
    found = _PORT.fullmatch(text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if found is None or not 1 <= low <= high <= 65535:
        raise fields.wrong("ExposedPorts", f"{text[:40]!r} is not PORT or PORT/PROTOCOL")
    ports = str(low) if low == high else f"{low}-{high}"
    return f"{ports}/{found[3] or 'tcp'}"


def _health_check(fields: Fields) -> HealthCheck:
    kind, *argv = fields.texts("Test") or ("",)
    if kind not in ("", "NONE", "CMD", "CMD-SHELL") or (kind in ("CMD", "CMD-SHELL")) != bool(argv):
        raise fields.wrong("Test", "is neither NONE nor CMD or CMD-SHELL with a command")
    if kind == "CMD-SHELL":
        argv = ["/bin/sh", "-c", argv[0]]
    return HealthCheck(
        tuple(argv),
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


def _created(fields: Fields) -> datetime:
    text = fields.text("created", longest=80)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _EPOCH
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)), _EPOCH)
