"""Create, change, rename and delete projects."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from isola.errors import Forbidden, InUse, InvalidInput
from isola.events import Events
from isola.model.caller import DAEMON, Caller
from isola.model.project import FEATURES, Project, project_entity
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.model.references import users_text
from isola.projects import limits
from isola.projects.guard import Guard
from isola.projects.settings import SETTINGS
from isola.settings import boolean
from isola.state import Collection, Keyed, References

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
DEFAULT_PROFILE = "default"


class Projects:
    """All projects of this daemon; there is always one, ``default``.

    ``nouns`` are the collections of resources in projects; ``profile`` creates or removes a project's default profile.
    ``access`` replaces a project in all certificates by another one or, if that is empty, removes it.
    """

    def __init__(
        self,
        records: Collection[Project],
        events: Events,
        guard: Guard,
        *,
        nouns: Sequence[Keyed[Any, Any]],
        references: References,
        profile: Callable[[Ref, bool, Caller], Awaitable[None]],
        access: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._access = access
        self.guard = guard
        self._records = records
        self._events = events
        self._nouns = nouns
        self._references = references
        self._profile = profile

    async def open(self) -> None:
        """At daemon start: make sure that exactly the projects with their own profiles have a default profile."""
        for project in self._records:
            await self._settle_profile(project, DAEMON)

    def __iter__(self) -> Iterator[Project]:
        return iter(self._records)

    def get(self, name: str) -> Project:
        """Raises NotFound."""
        return self._records.get(name)

    def find(self, name: str) -> Project | None:
        return self._records.find(name)

    @property
    def generation(self) -> int:
        """Changes with every change of any of them."""
        return self._records.generation

    def revision(self, name: str) -> int:
        """Changes with every write."""
        return self._records.revision(name)

    def home(self, project: str, kind: Kind) -> str:
        """The project whose resources of a kind a project uses: itself or the default project."""
        return (self._records.find(project) or Project(project)).home(kind)

    def used_by(self, name: str) -> Sequence[Entity]:
        """All resources in it, including its default profile."""
        return self._references.users(project_entity(name))

    def usage(self, name: str) -> Mapping[str, tuple[int, int]]:
        """Resource -> limit (-1: none) and usage; ``memory`` and ``disk`` in bytes."""
        project = self.get(name)
        members = self.guard.members(project)
        found = {}
        spaces = self.guard.spaces(name)
        for key in limits.keys(project):
            most = limits.limit(project, key)
            there = limits.usage(key, members, spaces)
            found[key.removeprefix("limits.")] = (-1 if most is None else most, there)
        most = limits.limit(project, "limits.networks")
        networks = sum(1 for each in self.guard.networks if each.project == name)
        return found | {"networks": (-1 if most is None else most, networks)}

    async def create(self, project: Project, *, caller: Caller = DAEMON) -> None:
        """Raises InvalidInput, AlreadyExists. Features that are not set get the defaults in ``FEATURES``."""
        made = dataclasses.replace(
            project, name=_checked_name(project.name), config=_completed(project.config, FEATURES)
        )
        await self._records.add(made.name, made)
        await self._settle_profile(made, caller)
        self._tell("created", made.name, caller)

    async def update(self, name: str, decide: Callable[[Project], Project], *, caller: Caller = DAEMON) -> None:
        """Change description and configuration; a feature that is not set is switched off.

        Raises InvalidInput, InUse (a feature of a project that is not empty), Forbidden.
        """

        def checked(project: Project) -> Project:
            wanted = decide(project)
            config = _completed(wanted.config, _features_without(project))
            new = dataclasses.replace(project, description=wanted.description, config=config)
            self._check_features(project, new)
            self.guard.project(new)
            return new

        async with self._quiet():
            held = await self._records.change(name, checked)
        await self._settle_profile(held.value, caller)
        self._tell("updated", name, caller)

    async def rename(self, name: str, new: str, *, caller: Caller = DAEMON) -> None:
        """Raises Forbidden for the default project, InUse where it is not empty, InvalidInput, AlreadyExists."""
        _checked_name(new)
        async with self._quiet():
            held = self._records.read(name)
            self._refuse(name, "renamed")
            await self._records.rename(name, new, dataclasses.replace(held.value, name=new), at=held.revision)
            await self._access(name, new)
        await self._profile(Ref(name, DEFAULT_PROFILE), False, caller)
        await self._settle_profile(self.get(new), caller)
        self._tell("renamed", new, caller, old_name=name)

    async def delete(self, name: str, *, caller: Caller = DAEMON) -> None:
        """Raises Forbidden for the default project, InUse where it is not empty, NotFound."""
        self.get(name)
        async with self._quiet():
            self._refuse(name, "deleted")
            await self._access(name, "")  # first, or clients would get access to a later project of this name
            await self._records.remove(name, lambda _: self._refuse(name, "deleted"))
        await self._profile(Ref(name, DEFAULT_PROFILE), False, caller)
        self._tell("deleted", name, caller)

    async def _settle_profile(self, project: Project, caller: Caller) -> None:
        if project.name != DEFAULT_PROJECT:
            own = project.home(Kind.PROFILE) == project.name
            await self._profile(Ref(project.name, DEFAULT_PROFILE), own, caller)

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """Within this context nothing is added to any project, so that emptiness and limits can be checked."""
        async with AsyncExitStack() as stack:
            for noun in self._nouns:
                await stack.enter_async_context(noun.writing.alone())
            yield

    def _check_features(self, old: Project, new: Project) -> None:
        changed = [key for key in FEATURES if old.config.get(key) != new.config.get(key)]
        if not changed:
            return
        if old.name == DEFAULT_PROJECT:
            raise Forbidden("The features of the default project cannot be changed", field=f"config.{changed[0]}")
        self._refuse(old.name, "given other features")

    def _refuse(self, name: str, what: str) -> None:
        if name == DEFAULT_PROJECT:
            raise Forbidden(f"The default project cannot be {what}")
        profile = Entity.of(Kind.PROFILE, Ref(name, DEFAULT_PROFILE))
        if users := [each for each in self.used_by(name) if each != profile]:
            raise InUse(
                f"Project {name!r} is not empty", evidence=f"it has {users_text(users)}", remedy="remove these first"
            )

    def _tell(self, verb: str, name: str, caller: Caller, **context: str) -> None:
        self._events.lifecycle(f"project-{verb}", Entity.of_host(Kind.PROJECT, name), caller=caller, **context)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"Invalid project name {name[:80]!r}",
            field="name",
            remedy="use 1-63 letters, digits and hyphens, not at the ends: it becomes part of DNS names",
        )
    return name


def _features_without(project: Project) -> Mapping[str, bool]:
    """Values of features that a change does not set: off as in the LXD API, on in the default project."""
    return dict.fromkeys(FEATURES, project.name == DEFAULT_PROJECT)


def _completed(config: Mapping[str, str], unnamed: Mapping[str, bool]) -> Mapping[str, str]:
    """The configuration with all features as ``true`` or ``false``; those without a value are taken from
    ``unnamed``.
    """
    wanted = {key: value for key, value in config.items() if value}
    SETTINGS.validate(wanted)
    features = {key: str(boolean(wanted[key]) if key in wanted else on).lower() for key, on in unnamed.items()}
    return wanted | features
