"""Create, change, rename and delete profiles; changes are applied to running instances that use them."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence

from isola.errors import Forbidden, InUse
from isola.events import Events
from isola.model.caller import DAEMON, Caller
from isola.model.names import plain_name
from isola.model.profile import Profile
from isola.model.reference import Entity, Kind, Ref
from isola.model.references import users_text
from isola.state import References, Scoped, Versioned

DEFAULT = "default"
Check = Callable[[Profile], None]
Record = Callable[[], Awaitable[object]]
Changed = Callable[[Ref, Record, Record, Caller], Awaitable[None]]


class Profiles:
    """``check`` raises InvalidInput for wrong configuration.

    ``changed`` gets a profile's name, a function that records its change and one that reverts the record; it records
    the change and applies it to the instances, or leaves everything unchanged.
    """

    def __init__(
        self,
        records: Scoped[Profile],
        events: Events,
        *,
        check: Check,
        references: References,
        changed: Changed,
    ) -> None:
        self._records = records
        self._events = events
        self._check = check
        self._references = references
        self._changed = changed

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._records)

    def get(self, ref: Ref) -> Profile:
        """Raises NotFound."""
        return self._records.get(ref)

    @property
    def generation(self) -> int:
        """Changes with every change of any of them."""
        return self._records.generation

    def revision(self, ref: Ref) -> int:
        """Changes with every write."""
        return self._records.revision(ref)

    def used_by(self, ref: Ref) -> Sequence[Entity]:
        """The instances that use it."""
        return self._references.users(Entity.of(Kind.PROFILE, ref))

    async def create(self, profile: Profile, *, caller: Caller = DAEMON) -> None:
        """Raises InvalidInput, AlreadyExists."""
        plain_name(profile.name)
        self._check(profile)
        await self._records.add(profile.ref, profile, allow=lambda: self._check(profile))
        self._tell("created", profile.ref, caller)

    async def update(self, ref: Ref, decide: Callable[[Profile], Profile], *, caller: Caller = DAEMON) -> None:
        """Change description, configuration and devices, for all instances that use it or for none.

        Raises NotFound, InvalidInput, Busy, and the errors of applying it to a running instance.
        """
        written: list[tuple[Profile, Versioned[Profile]]] = []

        def checked(profile: Profile) -> Profile:
            wanted = dataclasses.replace(decide(profile), name=ref.name, project=ref.project)
            self._check(wanted)
            return wanted

        async def record() -> None:
            before = self.get(ref)
            written.append((before, await self._records.change(ref, checked)))

        async def take_back() -> None:
            for before, held in written:
                await self._records.replace(ref, before, at=held.revision)

        checked(self.get(ref))
        await self._changed(ref, record, take_back, caller)
        self._tell("updated", ref, caller)

    async def rename(self, old: Ref, name: str, *, caller: Caller = DAEMON) -> None:
        """Raises Forbidden for the default profile, InUse, NotFound, InvalidInput, AlreadyExists."""
        plain_name(name)
        self._refuse(old, "renamed")
        held, new = self._records.read(old), old.renamed(name)
        await self._records.rename(old, new, dataclasses.replace(held.value, name=name), at=held.revision)
        self._tell("renamed", new, caller, old_name=old.name)

    async def delete(self, ref: Ref, *, caller: Caller = DAEMON) -> None:
        """Raises Forbidden for the default profile, InUse, NotFound."""
        self.get(ref)
        await self._records.remove(ref, lambda _: self._refuse(ref, "deleted"))
        self._tell("deleted", ref, caller)

    def _refuse(self, ref: Ref, verb: str) -> None:
        if ref.name == DEFAULT:
            raise Forbidden(f"The profile {DEFAULT!r} cannot be {verb}")
        users = self.used_by(ref)
        if users:
            raise InUse(
                f"Profile {ref.quoted} is in use",
                evidence=f"by {users_text(users)}",
                remedy="remove it from them first",
            )

    def _tell(self, verb: str, ref: Ref, caller: Caller, **context: str) -> None:
        self._events.lifecycle(f"profile-{verb}", Entity.of(Kind.PROFILE, ref), caller=caller, **context)
