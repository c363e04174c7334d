"""One build: stages side by side, each step from the cache or executed, and the image at the end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import orjson

from isola.builds import cache_exports, copying, mounting
from isola.builds.applying import Applied, Scope, apply
from isola.builds.bases import base_of, find_image
from isola.builds.cache_imports import CacheImports
from isola.builds.dockerfile.instructions import Instruction, Label
from isola.builds.dockerfile.lines import wrong
from isola.builds.dockerfile.parsing import trigger
from isola.builds.labels import label_of_trigger, labels_of
from isola.builds.ordering import Ordering
from isola.builds.parts import Found, Job, Result
from isola.builds.roots import with_layer
from isola.builds.running import run_program
from isola.builds.stages import PlannedStage
from isola.builds.state import empty, of_image, of_stage
from isola.builds.steps import CopyFiles, Inputs, MakeDirectory, Nothing, RunProgram, Step, key
from isola.builds.trees import Trees
from isola.errors import InvalidInput
from isola.images.compose import Named, compose
from isola.images.oci_config import OciConfig
from isola.model.build import BuildEvent, BuildEventKind, BuildResult
from isola.model.image import Layer, digests_entity, layers_entity
from isola.model.reference import Entity, Kind


class Building:
    """Stages are built when they are first needed, each once."""

    def __init__(self, job: Job, *, interleaved: bool = False) -> None:
        """``interleaved``: events are passed on at once, in place of one stage after the other."""
        self._job = job
        self._stages: dict[int, asyncio.Task[Result]] = {}
        self._bases: dict[str, Result] = {}
        self._looked: dict[str, asyncio.Lock] = {}
        self._numbers = self._numbered()
        self._order = Ordering(() if interleaved else job.plan.reachable(), job.tell)
        self._job = job = replace(job, tell=self._order.take)
        self._trees = Trees(job)
        self.borrowed = job.parts.context.images.intake(job.home)
        """Of caches elsewhere, until ``release``."""
        self._imports = CacheImports(job, self.borrowed)
        self.results: list[tuple[int, str, BuildResult]] = []
        """Of all instructions, with their stages and with keys that say nothing of the project."""
        self._total = sum(self._length(index) for index in job.plan.reachable())
        self._holder = Entity.of_host(Kind.OPERATION, f"{job.op.id}-layers")
        self._held: set[Layer] = set()
        self._stacks: set[tuple[str, ...]] = set()

    async def run(self) -> Result:
        """The target, whose layers stay until ``release``.

        Raises whatever a step fails with; the other stages are cancelled then.
        """
        try:
            return await self._begun(self._job.plan.target)
        finally:
            for task in self._stages.values():
                task.cancel()
            await asyncio.gather(*self._stages.values(), return_exceptions=True)
            self._order.all_ended()

    def release(self) -> set[str]:
        """The layers are only kept by records from now on; returns what pools call them."""
        self._job.parts.context.references.hold(self._holder)
        self.borrowed.close()
        return {name for stack in self._stacks for name in stack}

    # --- stages -------------------------------------------------------------------------------------------------

    def _length(self, index: int) -> int:
        labels = 1 if index == self._job.plan.target and self._job.request.labels else 0
        return 1 + len(self._job.plan.stages[index].stage.instructions) + labels

    def _numbered(self) -> dict[int, int]:
        """The number of each stage's first step."""
        found, number = dict[int, int](), 1
        for index in self._job.plan.reachable():
            found[index] = number
            number += self._length(index)
        return found

    def _begun(self, index: int) -> asyncio.Task[Result]:
        if index not in self._stages:
            self._stages[index] = asyncio.get_running_loop().create_task(self._stage(index), name=f"stage {index}")
        return self._stages[index]

    async def _stage(self, index: int) -> Result:
        try:
            return await self._built(index)
        finally:
            self._order.ended(index)

    async def _built(self, index: int) -> Result:
        plan = self._job.plan
        planned = plan.stages[index]
        for needed in plan.dependencies(index):
            self._begun(needed)
        number, labels = self._numbers.get(index, 1), iter(labels_of(plan, index))
        self._tell_step(index, planned.stage.base, number, next(labels))
        result, triggers = await self._base(planned)
        self._tell(BuildEventKind.RESULT, index, self._id(result))
        scope = Scope(plan.dockerfile.escape, plan.arguments, plan.given)
        for instruction in triggers:
            self._tell_step(index, instruction, label=label_of_trigger(plan, index, instruction))
            result = await self._step(planned, result, instruction, scope)
        for instruction in (*planned.stage.instructions, *self._labels(index)):
            number += 1
            self._tell_step(index, instruction, number, next(labels, ""))
            result = await self._step(planned, result, instruction, scope)
        return result

    async def _base(self, planned: PlannedStage) -> tuple[Result, Sequence[Instruction]]:
        """The files and state that a stage begins with, and the triggers of its base."""
        job, number = self._job, planned.stage.base.number
        if planned.base.stage is not None:
            result = await self._begun(planned.base.stage)
            triggers = result.state.config.on_build
            found = Result(of_stage(result.state), result.layers)
        elif planned.base.context:
            triggers, found = (), await self._of_files(planned)
        else:
            config, layers = await base_of(job, planned.base.image, planned.platform)
            triggers = () if config is None else config.run.on_build
            found = Result(empty() if config is None else of_image(config), layers)
            self._hold(found)
        return found, [trigger(text, number) for text in triggers]

    async def _of_files(self, planned: PlannedStage) -> Result:
        """The root that the files of a context are."""
        before, name = Result(empty(), ()), planned.base.context
        step = CopyFiles(sources=(".",), target="/", source_stage=name)
        made = await self._made(planned, before, Applied(step, before.state, f"FROM {name}"))
        state = before.state.noted(f"FROM {name}", made.created_at, empty=made.layer is None)
        found = Result(state, with_layer(before, made.layer, self._job.limits.layers))
        self._hold(found)
        return found

    def _labels(self, index: int) -> Sequence[Instruction]:
        labels = self._job.request.labels
        if index != self._job.plan.target or not labels:
            return ()
        quoted = tuple((_quoted(name), _quoted(value)) for name, value in sorted(labels.items()))
        text = "LABEL " + " ".join(f"{name}={value}" for name, value in sorted(labels.items()))
        return (Label(number=0, text=text, pairs=quoted),)

    async def _found(self, name: str, index: int) -> Found:
        """A stage, begun if it was not needed yet; an image, whose layers the build keeps; files."""
        source = self._job.plan.source(name, index)
        if source.context:
            return await self._trees.of(source.context)
        if source.stage is not None:
            return await asyncio.shield(self._begun(source.stage))
        async with self._looked.setdefault(source.image, asyncio.Lock()):
            if source.image not in self._bases:
                _, layers = await base_of(self._job, source.image, self._job.plan.stages[index].platform)
                self._bases[source.image] = Result(empty(), layers)
                self._hold(self._bases[source.image])
        return self._bases[source.image]

    # --- steps --------------------------------------------------------------------------------------------------

    async def _step(self, planned: PlannedStage, result: Result, instruction: Instruction, scope: Scope) -> Result:
        try:
            applied = apply(instruction, result.state, scope)
        except ValueError as error:
            raise wrong(instruction.number, error) from error
        made = await self._made(planned, result, applied)
        layers = with_layer(result, made.layer, self._job.limits.layers)
        state = applied.state.noted(applied.created_by, made.created_at, empty=made.layer is None)
        after = Result(state, layers)
        self._hold(after)
        self._tell(BuildEventKind.RESULT, planned.index, self._id(after))
        return after

    async def _made(self, planned: PlannedStage, result: Result, applied: Applied) -> BuildResult:
        job = self._job
        sources = await self._sources(applied, planned.index, result)
        around = mounting.around(job) if isinstance(applied.step, RunProgram) else ()
        inputs = Inputs(result.diff_ids, str(planned.platform), sources, around)
        name, elsewhere = key(applied.step, inputs), key(applied.step, replace(inputs, around=around[1:]))
        found = await self._kept(name) or await self._imported(elsewhere)
        if found is None:
            made = await self._once(name, planned, result, applied)
        else:
            made = self._taken(found, planned, applied)
        self.results.append((planned.index, elsewhere, made))
        return made

    async def _once(self, name: str, planned: PlannedStage, result: Result, applied: Applied) -> BuildResult:
        """Who waits for an equal step takes its result; or performs it, if that one has failed or was cancelled."""
        job = self._job
        if job.request.no_cache or job.request.cache_from is not None:
            return await self._new(name, planned, result, applied)
        if isinstance(applied.step, RunProgram):  # no stage is waited for while others wait for this step
            for mount in applied.step.mounts:
                if mount.source_stage:
                    await self._found(mount.source_stage, planned.index)
        async with job.parts.making.setdefault(name, asyncio.Lock()):
            if (found := await self._kept(name)) is not None:
                return self._taken(found, planned, applied)
            return await self._new(name, planned, result, applied)

    async def _new(self, name: str, planned: PlannedStage, result: Result, applied: Applied) -> BuildResult:
        now = self._job.now()
        layer = await self._performed(applied.step, result, planned.index)
        chain = Result(result.state, with_layer(result, layer, self._job.limits.layers)).keys
        await self._job.parts.cache.keep(name, applied.created_by, layer, chain, now)
        return BuildResult(name, now, now, applied.created_by, layer)

    def _taken(self, found: BuildResult, planned: PlannedStage, applied: Applied) -> BuildResult:
        self._tell(BuildEventKind.CACHED, planned.index, applied.created_by)
        return found if self._job.epoch is None else replace(found, created_at=self._job.now())

    async def _kept(self, name: str) -> BuildResult | None:
        """Of an earlier build of the daemon. Its layer stays."""
        job = self._job
        if job.request.no_cache:
            return None
        found = await job.parts.cache.find(name, job.parts.context.host.clock.now())
        return found if found is not None and self._may_use(found) and await self._stays(found) else None

    async def _imported(self, elsewhere: str) -> BuildResult | None:
        """Out of a cache that the request names. Its layer stays."""
        return None if self._job.request.no_cache else await self._imports.find(elsewhere)

    async def _stays(self, found: BuildResult) -> bool:
        """Keep the layer of a result, unless it was pruned since the result was found."""
        if found.layer is None:
            return True
        await self._job.intake.keep(found.layer.digest)
        return await self._job.parts.context.images.store.has(found.layer.digest)

    def _may_use(self, kept: BuildResult) -> bool:
        """Whether a kept result is out of the layers of the images to which the request limits the cache."""
        names = self._job.request.cache_from
        if names is None:
            return True
        images = [image for name in names if (image := find_image(self._job, name)) is not None]
        layers = {layer.diff_id for image in images for layer in image.layers}
        return kept.layer.diff_id in layers if kept.layer is not None else bool(layers)

    async def _sources(self, applied: Applied, index: int, result: Result) -> tuple[str, ...]:
        step = applied.step

        async def find(name: str) -> Found:
            return await self._found(name, index)

        if isinstance(step, CopyFiles):
            return await copying.digests(self._job, step, find)
        if isinstance(step, RunProgram):
            return await mounting.digests(self._job, step, find)
        return (_digest(applied, result),) if isinstance(step, Nothing) else ()

    async def _performed(self, step: Step, result: Result, index: int) -> Layer | None:
        async def find(name: str) -> Found:
            return await self._found(name, index)

        if isinstance(step, CopyFiles):
            return await copying.copy_files(self._job, result, step, find)
        if isinstance(step, RunProgram):
            return await run_program(self._job, result, step, index, find)
        if isinstance(step, MakeDirectory):
            return await copying.make_directory(self._job, result, step)
        return None

    # --- the image ----------------------------------------------------------------------------------------------

    async def composed(self, result: Result) -> Named:
        """The image, in the store."""
        job, state = self._job, result.state
        last = max((entry.created_at for entry in state.history if entry.created_at), default=job.now())
        created: datetime = job.now() if job.epoch is not None else last
        platform = job.plan.stages[job.plan.target].platform
        config = OciConfig(platform.kernel, created, (), state.config, state.author, state.history)
        for layer in result.layers:
            await job.intake.keep(layer.digest)
        now = job.parts.context.host.clock.now()
        cached = cache_exports.inline(job, self.results, result.layers)
        source = {"build": "dockerfile"}
        image = await compose(job.intake, config, result.layers, now, annotations=cached, source=source)
        return Named(replace(image, project=job.home), job.request.names)

    def _hold(self, result: Result) -> None:
        """Layers of the build are kept by it until records do."""
        self._held.update(result.layers)
        self._stacks.add(result.keys)
        mentions = set(digests_entity(layer.digest for layer in self._held))
        for stack in self._stacks:
            mentions |= layers_entity(stack)
        self._job.parts.context.references.hold(self._holder, mentions=mentions)

    def _tell(self, kind: BuildEventKind, stage: int, text: str) -> None:
        self._job.tell(BuildEvent(kind, stage, text))

    def _tell_step(self, stage: int, instruction: Instruction, number: int = 0, label: str = "") -> None:
        line = instruction.number if number else 0  # those of triggers are lines of another file
        text = instruction.text
        self._job.tell(BuildEvent(BuildEventKind.STEP, stage, text, number, self._total, label=label, line=line))

    def _id(self, result: Result) -> str:
        """Twelve digits that name a result in messages."""
        facts = [result.state.config, result.state.past, result.diff_ids]
        return hashlib.sha256(orjson.dumps(facts, option=_SORTED)).hexdigest()[:12]


_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_DATACLASS


def _digest(applied: Applied, result: Result) -> str:
    """Of a change of the configuration: the whole of it before and after."""
    state = applied.state
    facts = [applied.created_by, state.config, state.arguments, state.author, state.has_command, result.state.past]
    return hashlib.sha256(orjson.dumps(facts, option=_SORTED)).hexdigest()


def _quoted(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise InvalidInput("A label has a line break", field="labels")
    return "'" + text.replace("'", "'\"'\"'") + "'"
