"""The stages of a file as a graph: on what each depends, and which are built at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from isola.builds.dockerfile.expansion import expand
from isola.builds.dockerfile.instructions import Copy, Dockerfile, Instruction, Run, Stage
from isola.builds.dockerfile.lines import wrong
from isola.builds.dockerfile.mounts import source_of
from isola.builds.named_contexts import NamedContexts, find
from isola.builds.platforms import Platform, variables
from isola.errors import InvalidInput, NotFound

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Source:
    """Where files or a whole root come from: a stage by number, an image by name (``scratch`` is empty), a context."""

    stage: int | None = None
    image: str = ""
    context: str = ""
    """The name of files that the client has sent, or that are fetched."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage with its base."""

    stage: Stage
    base: Source
    platform: Platform

    @property
    def index(self) -> int:
        """Its number, from 0."""
        return self.stage.index


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages of a file, for one build."""

    dockerfile: Dockerfile
    stages: tuple[PlannedStage, ...]
    target: int
    arguments: Mapping[str, str]
    """Values of the arguments before the first stage, and the predefined ones of platforms."""
    given: Mapping[str, str]
    """Build arguments of the request."""
    contexts: NamedContexts = field(default_factory=dict)

    def source(self, name: str, at: int) -> Source:
        """What ``--from`` names in stage ``at``. Raises ValueError for the stage itself, and later ones."""
        if name.isascii() and name.isdigit() and len(name) < 6:
            if int(name) >= at:
                raise ValueError(f"invalid from flag value {name}: stage index must be below that of this stage, {at}")
            return Source(stage=int(name))
        if (found := _named(self.dockerfile.stages[:at], name)) is not None:
            return Source(stage=found)
        if (given := _given(self.contexts, name)) is not None:
            return given
        if self.dockerfile.stages[at].base.name == name.lower():
            raise ValueError(f"invalid from flag value {name[:80]}: refers to current build block")
        return Source(image=name)

    def dependencies(self, at: int, extra: Sequence[Instruction] = ()) -> frozenset[int]:
        """Stages that stage ``at`` needs, ``extra`` being the triggers of its base."""
        found = {self.stages[at].base.stage}
        for instruction in (*extra, *self.stages[at].stage.instructions):
            found |= {self._source_at(name, at, instruction.number).stage for name in _sources(instruction)}
        return frozenset(index for index in found if index is not None)

    def reachable(self) -> tuple[int, ...]:
        """The target and all stages that it needs, in the order of the file."""
        found, new = set[int](), {self.target}
        while new:
            found |= new
            new = {index for stage in new for index in self.dependencies(stage)} - found
        return tuple(sorted(found))

    def _source_at(self, name: str, at: int, number: int) -> Source:
        try:
            return self.source(name, at)
        except ValueError as error:
            raise wrong(number, error) from error


_NO_CONTEXTS: NamedContexts = {}


def plan(
    dockerfile: Dockerfile,
    *,
    given: Mapping[str, str],
    target: str = "",
    host: Platform,
    platform: Platform,
    contexts: NamedContexts = _NO_CONTEXTS,
) -> Plan:
    """Raises InvalidInput, NotFound (no such target)."""
    arguments = _arguments(dockerfile, given, variables(host, platform, target))
    stages = tuple(_planned(dockerfile, stage, arguments, platform, contexts) for stage in dockerfile.stages)
    made = Plan(dockerfile, stages, _target(dockerfile, target), arguments, given, contexts)
    for index in range(made.target + 1):
        made.dependencies(index)  # wrong sources are reported before anything is built
    return made


def _planned(
    dockerfile: Dockerfile, stage: Stage, arguments: Mapping[str, str], platform: Platform, contexts: NamedContexts
) -> PlannedStage:
    base = stage.base
    try:
        image = expand(base.image, arguments, dockerfile.escape)
        if not image:
            raise ValueError(f"base name ({base.image[:80]}) should not be blank")
        wanted = expand(base.platform, arguments, dockerfile.escape)
        if base.platform and not wanted:
            raise ValueError(f"empty platform value from expression {base.platform[:80]}")
        own = Platform.parse(wanted) if wanted else platform
    except (ValueError, InvalidInput) as error:
        raise wrong(base.number, getattr(error, "message", error)) from error
    if base.name and (instead := _given(contexts, base.name)) is not None:
        return PlannedStage(replace(stage, instructions=()), instead, own)
    earlier = _named(dockerfile.stages[: stage.index], image)
    source = Source(stage=earlier) if earlier is not None else _given(contexts, image) or Source(image=image)
    return PlannedStage(stage, source, own)


def _given(contexts: NamedContexts, name: str) -> Source | None:
    """The context that has the place of a stage or image."""
    found = find(contexts, name) if name != SCRATCH else None
    if found is None:
        return None
    return Source(image=found.image) if found.image else Source(context=found.name)


def _named(stages: Sequence[Stage], name: str) -> int | None:
    """The last stage of that name."""
    return next((each.index for each in reversed(stages) if each.base.name and each.base.name == name.lower()), None)


def _arguments(dockerfile: Dockerfile, given: Mapping[str, str], predefined: Mapping[str, str]) -> Mapping[str, str]:
    found = dict(predefined)
    for argument in dockerfile.arguments:
        for name, default in argument.pairs:
            try:
                value = given[name] if name in given else expand(default or "", found, dockerfile.escape)
            except ValueError as error:
                raise wrong(argument.number, error) from error
            if name in given or default is not None:
                found[name] = value
    return found


def _target(dockerfile: Dockerfile, name: str) -> int:
    stages = dockerfile.stages
    if not name:
        return len(stages) - 1
    if (found := _named(stages, name)) is not None:
        return found
    if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(stages):
        return int(name)
    raise NotFound(f'target stage "{name[:80]}" could not be found', field="target")


def _sources(instruction: Instruction) -> list[str]:
    if isinstance(instruction, Copy):
        return [instruction.source_stage] if instruction.source_stage else []
    if isinstance(instruction, Run):
        return [name for mount in instruction.mounts if (name := source_of(mount))]
    return []
