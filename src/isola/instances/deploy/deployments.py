"""The interface of deployments for doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from isola.errors import AlreadyExists, InvalidInput, NotFound
from isola.instances import create as create_verb
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.deploy.aside import half_removed
from isola.instances.deploy.candidate import held_back, request_of
from isola.instances.deploy.deploy import deploy, rollback
from isola.instances.deploy.fleet import Fleet
from isola.instances.deploy.parts import Attempt, Names, previous_of
from isola.instances.namespaces import require_unjoined
from isola.instances.phases import require_kept
from isola.instances.volatile import DEPLOYED_AT
from isola.model.caller import DAEMON, Caller
from isola.model.deployment import Terms, Version, beside_name, split_waves
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation

MOST = 1000
"""Instances of one deployment."""
Wave = int | float


class Deployments:
    """New versions of instances, and the return to previous ones."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def previous(self, instance: Instance) -> Instance | None:
        """The version that served before it; None if there is none."""
        return previous_of(self._context, instance)

    def deploy(self, ref: Ref, version: Version, terms: Terms, *, caller: Caller = DAEMON, at: str = "") -> Operation:
        """Let a new version serve under this name; the first one is created.

        Raises InvalidInput, NotFound (a profile, say), AlreadyExists, WrongState, Forbidden, Busy.
        """

        def plan() -> Names:
            context = self._context
            serving = context.records.find(ref)
            names = self._names(ref, serving)
            if serving is not None and serving.aside:
                raise InvalidInput(
                    f"Instance {ref.name!r} is a version of {serving.called!r}", field="name", remedy="deploy that"
                )
            if serving is not None:
                require_unjoined(context, serving)
            create_verb.check(context, request_of(context, serving, names, version, terms.strategy))
            return names

        return self._start(
            "Deploying instance", plan, terms, lambda attempt: deploy(attempt, version), at, made=True, caller=caller
        )

    def rollback(self, ref: Ref, terms: Terms, *, caller: Caller = DAEMON, at: str = "") -> Operation:
        """Let the previous version serve again. Raises NotFound, InvalidInput, Busy."""

        def plan() -> Names:
            serving = self._context.records.get(ref)
            other = previous_of(self._context, serving)
            if other is None:
                raise NotFound(f"There is no previous version of {ref.name!r}", remedy="deploy a version first")
            require_unjoined(self._context, serving)
            held_back(self._context, serving, other, terms.strategy)
            return Names(ref, other.ref, other.ref)

        return self._start("Rolling back instance", plan, terms, rollback, at, made=False, caller=caller)

    def deploy_all(
        self,
        refs: Sequence[Ref],
        version: Version,
        terms: Terms,
        waves: Sequence[Wave] = (),
        *,
        project: str | None = None,
        caller: Caller = DAEMON,
    ) -> Operation:
        """The same for many, in waves; the first wave with a failure is the last one. Raises InvalidInput."""
        at = self._now()
        return self._fleet(
            f"Deploying {len(refs)} instances",
            refs,
            waves,
            lambda ref: self.deploy(ref, version, terms, caller=caller, at=at),
            project=project,
            caller=caller,
        )

    def rollback_all(
        self,
        refs: Sequence[Ref],
        terms: Terms,
        waves: Sequence[Wave] = (),
        *,
        project: str | None = None,
        caller: Caller = DAEMON,
    ) -> Operation:
        """The same for those that were part of the latest deployment among them. Raises NotFound, InvalidInput."""
        at, chosen = self._now(), self._latest(refs)
        return self._fleet(
            f"Rolling back {len(chosen)} instances",
            chosen,
            waves,
            lambda ref: self.rollback(ref, terms, caller=caller, at=at),
            project=project,
            caller=caller,
        )

    def _latest(self, refs: Sequence[Ref]) -> list[Ref]:
        """Others have kept their version then, and their previous one is older."""
        found = [self._context.records.get(ref) for ref in refs]
        times = {each.ref: each.volatile.get(DEPLOYED_AT, "") for each in found if self.previous(each) is not None}
        if not times:
            raise NotFound("None of these instances has a previous version", remedy="deploy a version first")
        latest = max(times.values())
        return [ref for ref in refs if times.get(ref) == latest]

    def _fleet(
        self,
        description: str,
        refs: Sequence[Ref],
        waves: Sequence[Wave],
        act: Callable[[Ref], Operation],
        *,
        project: str | None,
        caller: Caller,
    ) -> Operation:
        distinct = list(dict.fromkeys(refs))
        if not distinct or len(distinct) > MOST:
            raise InvalidInput(f"{len(distinct)} instances are named", field="instances", remedy=f"name 1 to {MOST}")
        by_name = {ref.name: ref for ref in distinct}
        split = [[by_name[name] for name in wave] for wave in split_waves(list(by_name), waves)]
        fleet = Fleet(self._context.operations, split, act)
        return self._context.operations.start(
            description, fleet.run, resources=[entity_of(ref) for ref in distinct], project=project, caller=caller
        )

    def _names(self, ref: Ref, serving: Instance | None) -> Names:
        """Raises AlreadyExists if another instance has a name that a version needs."""
        previous = ref.renamed(beside_name(ref.name, "previous"))
        if serving is None:
            return Names(ref, ref, previous)
        require_kept(serving)
        names = Names(ref, ref.renamed(beside_name(ref.name, "next")), previous)
        before = previous_of(self._context, serving)
        for taken in (names.next, names.previous, names.aside):
            known = before is not None and before.ref == taken
            known = known or (taken == names.aside and half_removed(self._context, taken, ref.name))
            if taken in self._context.records and not known:
                raise AlreadyExists(
                    f"Instance {taken.name!r} exists, and is not a version of {ref.name!r}",
                    field="name",
                    remedy="rename or delete it: versions have these names",
                )
        return names

    def _start(
        self,
        description: str,
        plan: Callable[[], Names],
        terms: Terms,
        work: Callable[[Attempt], Awaitable[object]],
        at: str,
        *,
        made: bool,
        caller: Caller,
    ) -> Operation:
        """Waits for its turn where the daemon cleans up, say; a verb that changes the run state excludes it.

        ``plan`` checks, and is asked again after waiting.
        """
        context, intent, names = self._context, self._context.host.clock.token(8), plan()
        serving = context.records.find(names.serving)
        before = previous_of(context, serving) if serving is not None else None
        held = {names.serving, names.next, names.previous, names.aside, *([before.ref] if before is not None else [])}
        held |= {names.serving.renamed(beside_name(names.serving.name, role)) for role in ("next", "previous")}
        locks = [lock_of(ref) for ref in sorted(held)]

        async def run(op: Operation) -> None:
            chosen = plan() if op.waited else names
            await work(Attempt(context, op, chosen, terms, at or self._now(), intent, made))

        holders = [holder for lock in locks if (holder := context.operations.holder(lock)) is not None]
        return context.operations.start(
            description,
            run,
            locks=locks,
            resources=[entity_of(names.serving)],
            caller=caller,
            wait=not any(holder.gives_way for holder in holders),
            gives_way=True,
        )

    def _now(self) -> str:
        return self._context.host.clock.now().isoformat()
