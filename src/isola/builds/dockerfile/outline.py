"""What a Dockerfile offers to those who build it: its stages, and the options of one of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from isola.builds.dockerfile.expansion import expand
from isola.builds.dockerfile.instructions import Arg, Dockerfile, Run
from isola.builds.dockerfile.lines import Line, read_source
from isola.builds.dockerfile.mounts import read_mount


@dataclass(frozen=True, slots=True)
class Item:
    """A stage, an argument, a secret, an agent or a cache, with the comment about it."""

    name: str
    line: int
    description: str = ""
    value: str = ""
    """Of an argument; of a stage its base."""
    platform: str = ""
    required: bool = False
    is_default: bool = False


@dataclass(slots=True)
class Outline:
    """Of one stage, with all that it needs."""

    stage: Item
    arguments: dict[str, Item] = field(default_factory=dict)
    secrets: dict[str, Item] = field(default_factory=dict)
    agents: dict[str, Item] = field(default_factory=dict)
    caches: dict[str, Item] = field(default_factory=dict)


def targets(data: bytes, dockerfile: Dockerfile) -> list[Item]:
    """All stages."""
    comments, last = _comments(read_source(data).lines), dockerfile.stages[-1]
    return [
        Item(
            each.base.name,
            each.base.number,
            _about(comments, each.base.number, each.base.name),
            each.base.image,
            each.base.platform,
            is_default=each is last,
        )
        for each in dockerfile.stages
    ]


def outline(
    data: bytes, dockerfile: Dockerfile, target: int, stages: Iterable[int], values: Mapping[str, str]
) -> Outline:
    """``stages``: those that the target needs; ``values``: given and predefined arguments."""
    comments = _comments(read_source(data).lines)
    found = Outline(targets(data, dockerfile)[target])
    known = dict(values)
    for argument in dockerfile.arguments:
        _argument(found, comments, argument, known, dockerfile.escape)
    for index in stages:
        here = dict(known)
        for each in dockerfile.stages[index].instructions:
            if isinstance(each, Arg):
                _argument(found, comments, each, here, dockerfile.escape)
            elif isinstance(each, Run):
                _mounts(found, each, here, dockerfile.escape)
    return found


def _argument(
    found: Outline, comments: Mapping[int, Sequence[str]], argument: Arg, values: dict[str, str], escape: str
) -> None:
    for name, default in argument.pairs:
        if name not in values and default is not None:
            try:
                values[name] = expand(default, values, escape)
            except ValueError:
                values[name] = default
        about = _about(comments, argument.number, name)
        if name not in found.arguments or (about and not found.arguments[name].description):
            found.arguments[name] = Item(name, argument.number, about, values.get(name, ""))


def _mounts(found: Outline, run: Run, values: Mapping[str, str], escape: str) -> None:
    for text in run.mounts:
        try:
            mount = read_mount(text, lambda written: expand(written, values, escape))
        except ValueError:  # with variables of the base image
            continue
        kind = {"secret": found.secrets, "ssh": found.agents, "cache": found.caches}.get(mount.type)
        if kind is not None:
            before = kind.get(mount.id)
            required = mount.required or (before is not None and before.required)
            kind[mount.id] = Item(mount.id, run.number if before is None else before.line, required=required)


def _comments(lines: Sequence[Line]) -> Mapping[int, Sequence[str]]:
    return {line.number: line.comments for line in lines if line.comments}


def _about(comments: Mapping[int, Sequence[str]], number: int, name: str) -> str:
    """``# NAME what it is for``, before the instruction."""
    found = (each.removeprefix(name) for each in comments.get(number, ()) if name and each.startswith(f"{name} "))
    return next(found, "").strip()
