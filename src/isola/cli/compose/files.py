"""Finds and reads the compose files of a command."""

from __future__ import annotations

import os
from pathlib import Path

from isola.compose.application import NAMES, OVERRIDES, load
from isola.compose.env_files import parse_env
from isola.compose.loading import Source
from isola.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from isola.cli.context import Context
    from isola.compose.application import Application

_LARGEST = 4 << 20


def application(context: Context, services: Sequence[str] = ()) -> Application:
    """The application that the command's options name, or that of this directory. Raises InvalidInput, NotFound."""
    args = context.args
    directory = Path(args.text("project-directory") or ".").absolute()
    env_files = args.many("env-file") or list(filter(None, os.environ.get("COMPOSE_ENV_FILES", "").split(",")))
    environment = _environment(directory, env_files)
    files = _files(directory, args.many("file"), environment)
    if not args.given("project-directory"):
        directory = files[0].parent
        if not env_files:
            environment = _environment(directory, ())
    profiles = [*args.many("profile"), *filter(None, environment.get("COMPOSE_PROFILES", "").split(","))]
    source = Source(_read, os.path.expanduser("~"), lambda text: context.say(f"Warning: {text}"))
    name = args.text("project-name")
    return load(files, directory, environment, source, name=name, profiles=profiles, services=services)


def _environment(directory: Path, files: Sequence[str]) -> dict[str, str]:
    """The process's environment, and below it the variables of ``.env`` or of the given files."""
    found: dict[str, str] = {}
    if not files and os.environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true"):
        return dict(os.environ)
    named = [Path(file) for file in files]
    for file in named or [directory / ".env"]:
        try:
            text = _read(file)
        except FileNotFoundError:
            if named:
                raise InvalidInput(f"Cannot read {file}", evidence="No such file or directory") from None
            continue
        values = parse_env(text, {**found, **os.environ}, str(file))
        found |= {name: value for name, value in values.items() if value is not None}
    return {**found, **os.environ}


def _files(directory: Path, named: Sequence[str], environment: dict[str, str]) -> list[Path]:
    if not named and (text := environment.get("COMPOSE_FILE")):
        named = text.split(environment.get("COMPOSE_PATH_SEPARATOR", ":"))
    if named:
        return [Path("/dev/stdin") if name == "-" else Path(name).absolute() for name in named]
    for place in (directory, *directory.parents):
        if found := _first(place, NAMES):
            override = _first(place, OVERRIDES)
            return [found, override] if override else [found]
    raise NotFound(f"There is no {NAMES[0]} in {directory} or above it", remedy="name one with --file")


def _first(directory: Path, names: Sequence[str]) -> Path | None:
    return next((directory / name for name in names if (directory / name).is_file()), None)


def _read(file: Path) -> str:
    with file.open(encoding="utf-8") as stream:
        text = stream.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST} bytes")
    return text
