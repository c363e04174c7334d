"""Instructions from lines, each with the rules of Docker's own parser and its messages."""

from __future__ import annotations

import re
from collections.abc import Callable

from isola.builds.dockerfile.copying import copy
from isola.builds.dockerfile.flags import Flags, suggestion
from isola.builds.dockerfile.health import health_check
from isola.builds.dockerfile.instructions import (
    Arg,
    Cmd,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from isola.builds.dockerfile.lines import Line, read_source
from isola.builds.dockerfile.mounts import read_mount, source_of
from isola.builds.dockerfile.parts import Parts
from isola.builds.dockerfile.words import first_word, names_and_values, pairs, words
from isola.errors import InvalidInput, TooLarge

MAX_STAGES = 500
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)
_ONBUILD = re.compile(r"onbuild\s*", re.IGNORECASE)
_NETWORKS = ("default", "none", "host")
_NO_TRIGGERS = ("FROM", "MAINTAINER")


def parse(data: bytes) -> Dockerfile:
    """Raises InvalidInput with the number of the wrong line, TooLarge."""
    source = read_source(data)
    arguments: list[Arg] = []
    begun: list[tuple[From, list[Instruction]]] = []
    for line in source.lines:
        instruction = instruction_of(line, source.escape)
        if isinstance(instruction, From):
            begun.append((instruction, []))
        elif begun:
            begun[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise line.wrong("no build stage in current context")
    if not begun:
        raise InvalidInput("the Dockerfile has no build stage: FROM is missing", field="dockerfile")
    if len(begun) > MAX_STAGES:
        raise TooLarge(f"The Dockerfile has more than {MAX_STAGES} stages", field="dockerfile")
    stages = tuple(Stage(index, base, tuple(each)) for index, (base, each) in enumerate(begun))
    return Dockerfile(stages, tuple(arguments), source.directives)


def trigger(text: str, number: int) -> Instruction:
    """An ONBUILD instruction of the base image, for the stage at the line. Raises InvalidInput."""
    source = read_source(text.encode())
    if len(source.lines) != 1:
        raise InvalidInput(f"A trigger of the base image is not one instruction: {text[:80]!r}", field="dockerfile")
    line = Line(number, source.lines[0].text, source.lines[0].heredocs)
    if line.text.split()[0].upper() in (*_NO_TRIGGERS, "ONBUILD"):
        raise line.wrong(f"{line.text.split()[0].upper()} isn't allowed as an ONBUILD trigger")
    return instruction_of(line, source.escape)


def instruction_of(line: Line, escape: str = "\\") -> Instruction:
    """Raises InvalidInput with the line's number."""
    name, rest = first_word(line.text)
    read = _INSTRUCTIONS.get(name.upper())
    if read is None:
        raise line.wrong(f"unknown instruction: {name[:80]}{suggestion(name, tuple(_INSTRUCTIONS))}")
    try:
        return read(Parts.of(line, name.upper(), rest, escape))
    except ValueError as error:
        raise line.wrong(error) from error


def _from(parts: Parts) -> Instruction:
    flags = Flags(parts.flags, texts="platform")
    found = words(parts.rest)
    if len(found) != 1 and not (len(found) == 3 and found[1].lower() == "as"):
        raise ValueError("FROM requires either one or three arguments")
    name = found[2].lower() if len(found) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name):
        raise ValueError(
            f'invalid name for build stage: "{found[2][:80]}", name can\'t start with a number or contain symbols'
        )
    return From(image=found[0], name=name, platform=flags.text("platform"), **parts.place)


def _run(parts: Parts) -> Instruction:
    flags = Flags(parts.flags, texts="network security", lists="mount")
    network = flags.text("network") or "default"
    if network not in _NETWORKS:
        raise ValueError(f'unsupported network mode "{network[:40]}"{suggestion(network, _NETWORKS)}')
    security = flags.text("security") or "sandbox"
    if security not in ("sandbox", "insecure"):
        raise ValueError(f'security "{security[:40]}" is not valid')
    for mount in flags.texts("mount"):
        source_of(mount)
        if "$" not in mount:
            read_mount(mount)
    argv, shell = parts.command()
    if not argv:
        raise ValueError("RUN requires at least one argument")
    return Run(
        argv=argv, shell=shell, heredocs=parts.line.heredocs, mounts=flags.texts("mount"),
        network=network, security=security, **parts.place,
    )  # fmt: skip


def _cmd(parts: Parts) -> Instruction:
    argv, shell = parts.plain().command()
    return Cmd(argv=argv, shell=shell, **parts.place)


def _entrypoint(parts: Parts) -> Instruction:
    argv, shell = parts.plain().command()
    return Entrypoint(argv=argv, shell=shell, **parts.place)


def _env(parts: Parts) -> Instruction:
    return Env(pairs=tuple(pairs(parts.plain().rest, parts.escape, "ENV")), **parts.place)


def _label(parts: Parts) -> Instruction:
    return Label(pairs=tuple(pairs(parts.plain().rest, parts.escape, "LABEL")), **parts.place)


def _arg(parts: Parts) -> Instruction:
    return Arg(pairs=tuple(names_and_values(parts.plain().rest, parts.escape)), **parts.place)


def _single(kind: type[Maintainer | User | Workdir | StopSignal]) -> Callable[[Parts], Instruction]:
    def read(parts: Parts) -> Instruction:
        if not parts.plain().rest:
            raise ValueError(f"{parts.name} requires exactly one argument")
        return kind(value=parts.rest, **parts.place)

    return read


def _expose(parts: Parts) -> Instruction:
    if not (values := words(parts.plain().rest)):
        raise ValueError("EXPOSE requires at least one argument")
    return Expose(values=tuple(values), **parts.place)


def _volume(parts: Parts) -> Instruction:
    values = parts.plain().listed()
    if not values:
        raise ValueError("VOLUME requires at least one argument")
    if not all(value.strip() for value in values):
        raise ValueError("VOLUME specified can not be an empty string")
    return Volume(values=values, **parts.place)


def _shell(parts: Parts) -> Instruction:
    argv, shell = parts.plain().command()
    if shell:
        raise ValueError("SHELL requires the arguments to be in JSON form")
    if not argv:
        raise ValueError("SHELL requires at least one argument")
    return Shell(values=argv, **parts.place)


def _on_build(parts: Parts) -> Instruction:
    if not parts.rest:
        raise ValueError("ONBUILD requires at least one argument")
    name = parts.rest.split()[0].upper()
    if name == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if name in _NO_TRIGGERS:
        raise ValueError(f"{name} isn't allowed as an ONBUILD trigger")
    text = _ONBUILD.sub("", parts.line.text, count=1)
    instruction_of(Line(parts.line.number, text, parts.line.heredocs), parts.escape)
    content = "".join(f"\n{each.content}{each.name}" for each in parts.line.heredocs)
    return OnBuild(trigger=text + content, **parts.place)


_INSTRUCTIONS: dict[str, Callable[[Parts], Instruction]] = {
    "ADD": copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": health_check,
    "LABEL": _label,
    "MAINTAINER": _single(Maintainer),
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _single(StopSignal),
    "USER": _single(User),
    "VOLUME": _volume,
    "WORKDIR": _single(Workdir),
}
