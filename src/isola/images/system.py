"""How to run an LXD image: derived from its root file system, overridden by its properties."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from isola.errors import InvalidInput
from isola.model.image import ImageConfig
from isola.model.signals import signal_number

WANTED = ("sbin/init", "usr/sbin/init", "init")
"""Paths of a root file system that identify its init."""
_INIT = ("sbin/init", "usr/sbin/init", "init")
_STOP_SIGNALS = {"systemd": "SIGRTMIN+3", "busybox": "SIGUSR1"}
_OTHERWISE = "SIGPWR"
"""LXC's default, which sysvinit, OpenRC and others handle as a power failure."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def config_of(found: Mapping[str, str], properties: Mapping[str, str]) -> ImageConfig:
    """The configuration of an image with the paths ``found`` in its root and ``properties`` in its metadata.

    Properties: ``isola.type`` (``system`` or ``application``), ``isola.command`` (as in a shell),
    ``isola.stop-signal``, ``isola.user``, ``isola.cwd``, ``isola.environment.NAME``. Raises InvalidInput.
    """
    kind = properties.get("isola.type", "system")
    if kind not in ("system", "application"):
        raise _wrong("isola.type", kind, "system or application is expected")
    system = kind == "system"
    default = _STOP_SIGNALS.get(_init(found), _OTHERWISE) if system else "SIGTERM"
    return ImageConfig(
        system=system,
        command=_command(properties.get("isola.command", "/sbin/init")),
        environment=_environment(properties),
        cwd=_directory(properties.get("isola.cwd", "/")),
        user=properties.get("isola.user", "0"),
        stop_signal=_signal(properties.get("isola.stop-signal", default)),
    )


def _init(found: Mapping[str, str]) -> str:
    """``systemd``, ``busybox``, or another name of process 1."""
    for path in _INIT:
        kind = found.get(path, "")
        if kind.startswith("link:"):
            return PurePosixPath(kind.removeprefix("link:")).name
        if kind == "file":
            return PurePosixPath(path).name
    return ""


def _command(text: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise _wrong("isola.command", text, str(error)) from None
    if not argv or "\0" in text:
        raise _wrong("isola.command", text, "a command is expected")
    return argv


def _environment(properties: Mapping[str, str]) -> dict[str, str]:
    prefix = "isola.environment."
    names = [key.removeprefix(prefix) for key in properties if key.startswith(prefix)]
    for name in names:
        if not _VARIABLE.fullmatch(name):
            raise _wrong(prefix + name, name, "letters, digits and underscores are expected")
    return {name: properties[prefix + name] for name in names}


def _directory(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise _wrong("isola.cwd", text, "an absolute path is expected")
    return text


def _signal(text: str) -> str:
    try:
        signal_number(text)
    except InvalidInput as error:
        raise _wrong("isola.stop-signal", text, error.remedy) from None
    return text


def _wrong(key: str, value: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"Invalid image property {key} {value[:80]!r}", field=f"properties.{key}", remedy=remedy)
