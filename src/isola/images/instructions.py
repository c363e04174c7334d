"""Changes of an image's configuration, in the form of Dockerfile instructions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import orjson

from isola.errors import InvalidInput
from isola.model.image import HealthCheck, ImageConfig

_MOST, _LONGEST = 100, 16 << 10
_SHELL = ("/bin/sh", "-c")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_PORT = re.compile(r"\d{1,5}(-\d{1,5})?(/(tcp|udp|sctp))?", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_NANOSECONDS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_OPTIONS = {
    "interval": "interval", "timeout": "timeout", "start-period": "start_period", "start-interval": "start_interval",
}  # fmt: skip


@dataclass(slots=True)
class _State:
    config: ImageConfig
    arguments: tuple[str, ...]
    has_arguments: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def apply(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """The configuration after these instructions, one in each text. Raises InvalidInput.

    As in a Dockerfile, an entrypoint without arguments after it drops those of the image.
    """
    state = _State(config, config.arguments, environment=dict(config.environment))
    lines = [line.strip() for text in changes for line in text.splitlines() if line.strip()]
    if len(lines) > _MOST or any(len(line) > _LONGEST for line in lines):
        raise _wrong("Too many or too long changes", lines[0] if lines else "")
    for line in lines:
        name, _, rest = line.partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None or not rest.strip() or "\0" in rest:
            raise _wrong(f"{name[:40].upper()} is not a valid change command", line)
        try:
            instruction(state, rest.strip())
        except ValueError as error:
            raise _wrong(f"Invalid change: {error}", line) from None
    found = replace(state.config, environment=state.environment)
    return found.running(found.entrypoint + state.arguments, found.entrypoint)


def _cmd(state: _State, rest: str) -> None:
    state.arguments, state.has_arguments = _argv(state, rest), True


def _entrypoint(state: _State, rest: str) -> None:
    state.config = replace(state.config, entrypoint=_argv(state, rest))
    if not state.has_arguments:
        state.arguments = ()


def _env(state: _State, rest: str) -> None:
    state.environment |= _pairs(state, rest)


def _label(state: _State, rest: str) -> None:
    state.config = replace(state.config, labels={**state.config.labels, **_pairs(state, rest)})


def _expose(state: _State, rest: str) -> None:
    ports = set(state.config.exposed_ports)
    for word in _parts(state, rest):
        if not _PORT.fullmatch(word):
            raise ValueError(f"{word[:40]!r} is not PORT or PORT/PROTOCOL")
        ports.add(word if "/" in word else f"{word}/tcp")
    state.config = replace(state.config, exposed_ports=tuple(sorted(ports)))


def _on_build(state: _State, rest: str) -> None:
    if rest.split(maxsplit=1)[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise ValueError("this instruction cannot follow ONBUILD")
    state.config = replace(state.config, on_build=(*state.config.on_build, rest))


def _user(state: _State, rest: str) -> None:
    state.config = replace(state.config, user=_one(state, rest))


def _volume(state: _State, rest: str) -> None:
    paths = _list(rest) or _parts(state, rest)
    if not all(path.startswith("/") for path in paths):
        raise ValueError("a volume needs an absolute path")
    state.config = replace(state.config, volumes=tuple(sorted({*state.config.volumes, *paths})))


def _workdir(state: _State, rest: str) -> None:
    state.config = replace(state.config, cwd=str(PurePosixPath(state.config.cwd, _expanded(state, rest))))


def _stop_signal(state: _State, rest: str) -> None:
    state.config = replace(state.config, stop_signal=_one(state, rest))


def _shell(state: _State, rest: str) -> None:
    argv = _list(rest)
    if not argv:
        raise ValueError('SHELL needs a list like ["/bin/sh", "-c"]')
    state.config = replace(state.config, shell=argv)


def _health_check(state: _State, rest: str) -> None:
    options: dict[str, Any] = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, _, value = option[2:].partition("=")
        if name == "retries" and value.isdigit():
            options["retries"] = int(value)
        elif name in _OPTIONS:
            options[_OPTIONS[name]] = _nanoseconds(value)
        else:
            raise ValueError(f"unknown option {option[:40]!r}")
        rest = rest.strip()
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE" and not command:
        check = HealthCheck(disabled=True)
    elif kind.upper() == "CMD" and command.strip():
        argv = _list(command.strip())
        shell = (*(state.config.shell or _SHELL), command.strip())
        check = HealthCheck(argv or shell, not argv, **options)
    else:
        raise ValueError("HEALTHCHECK needs NONE, or CMD with a command")
    state.config = replace(state.config, health_check=check)


_INSTRUCTIONS: Mapping[str, Callable[[_State, str], None]] = {
    "CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose, "HEALTHCHECK": _health_check,
    "LABEL": _label, "ONBUILD": _on_build, "SHELL": _shell, "STOPSIGNAL": _stop_signal, "USER": _user,
    "VOLUME": _volume, "WORKDIR": _workdir,
}  # fmt: skip


def _argv(state: _State, rest: str) -> tuple[str, ...]:
    """A list, or a script for the shell."""
    found = _list(rest)
    return (*(state.config.shell or _SHELL), rest) if found is None else found


def _list(text: str) -> tuple[str, ...] | None:
    """A list in JSON; None for another text."""
    try:
        found = orjson.loads(text) if text.startswith("[") else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return None
    return tuple(found)


def _pairs(state: _State, rest: str) -> dict[str, str]:
    """``NAME=VALUE ...``, or the old form ``NAME VALUE``."""
    parts = _parts(state, rest)
    if "=" not in parts[0]:
        first, _, value = rest.partition(" ")
        if not value.strip():
            raise ValueError("a value is expected")
        return {first: _expanded(state, value.strip())}
    if not all("=" in word and not word.startswith("=") for word in parts):
        raise ValueError("NAME=VALUE is expected")
    return dict(word.split("=", 1) for word in parts)


def _one(state: _State, rest: str) -> str:
    parts = _parts(state, rest)
    if len(parts) != 1:
        raise ValueError("one argument is expected")
    return parts[0]


def _parts(state: _State, rest: str) -> Sequence[str]:
    return [_expanded(state, word) for word in shlex.split(rest)]


def _expanded(state: _State, text: str) -> str:
    return _VARIABLE.sub(lambda found: state.environment.get(found[1] or found[2], ""), text)


def _nanoseconds(text: str) -> int:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[:40]!r} is not a duration such as 30s or 1m30s")
    return int(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


def _wrong(message: str, line: str) -> InvalidInput:
    remedy = f"use one of {', '.join(_INSTRUCTIONS)}"
    return InvalidInput(message, evidence=line[:200], field="changes", remedy=remedy)
