"""Profiles: created, changed, renamed, deleted; a change reaches the running instances that have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence

from isola.errors import Forbidden, InUse
from isola.events import Events
from isola.model.names import plain_name
from isola.model.profile import Profile
from isola.model.references import users_text
from isola.state import Collection, Versioned

DEFAULT = "default"
Check = Callable[[Profile], None]
Record = Callable[[], Awaitable[object]]
Changed = Callable[[str, Record, Record], Awaitable[None]]


class Profiles:
    """``check`` raises InvalidInput for wrong configuration.

    ``changed`` is given a profile's name, what records its change and what takes that back; it does the first and
    brings the instances along, or leaves all as it was.
    """

    def __init__(
        self,
        records: Collection[Profile],
        events: Events,
        *,
        check: Check,
        used_by: Callable[[str], Sequence[str]],
        changed: Changed,
    ) -> None:
        self._records = records
        self._events = events
        self._check = check
        self._used_by = used_by
        self._changed = changed

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._records)

    def get(self, name: str) -> Profile:
        """Raises NotFound."""
        return self._records.get(name)

    def revision(self, name: str) -> int:
        """Changes with every write."""
        return self._records.revision(name)

    def used_by(self, name: str) -> Sequence[str]:
        """API paths of the instances that have it."""
        return self._used_by(name)

    async def create(self, profile: Profile) -> None:
        """Raises InvalidInput, AlreadyExists."""
        plain_name(profile.name)
        self._check(profile)
        await self._records.add(profile.name, profile)
        self._tell("created", profile.name)

    async def update(self, name: str, decide: Callable[[Profile], Profile]) -> None:
        """New description, configuration and devices, for every instance that has it or for none.

        Raises NotFound, InvalidInput, Busy, and what applying it to a running instance raises.
        """
        written: list[tuple[Profile, Versioned[Profile]]] = []

        def checked(profile: Profile) -> Profile:
            wanted = dataclasses.replace(decide(profile), name=name)
            self._check(wanted)
            return wanted

        async def record() -> None:
            before = self.get(name)
            written.append((before, await self._records.change(name, checked)))

        async def take_back() -> None:
            for before, held in written:
                await self._records.replace(name, before, at=held.revision)

        checked(self.get(name))
        await self._changed(name, record, take_back)
        self._tell("updated", name)

    async def rename(self, old: str, new: str) -> None:
        """Raises Forbidden for the default profile, InUse, NotFound, InvalidInput, AlreadyExists."""
        plain_name(new)
        self._refuse(old, "renamed")
        held = self._records.read(old)
        await self._records.rename(old, new, dataclasses.replace(held.value, name=new), at=held.revision)
        self._tell("renamed", new)

    async def delete(self, name: str) -> None:
        """Raises Forbidden for the default profile, InUse, NotFound."""
        self.get(name)
        await self._records.remove(name, lambda _: self._refuse(name, "deleted"))
        self._tell("deleted", name)

    def _refuse(self, name: str, verb: str) -> None:
        if name == DEFAULT:
            raise Forbidden(f"The profile {DEFAULT!r} cannot be {verb}")
        users = self._used_by(name)
        if users:
            raise InUse(
                f"Profile {name!r} is in use", evidence=f"by {users_text(users)}", remedy="take it off them first"
            )

    def _tell(self, verb: str, name: str) -> None:
        self._events.lifecycle(f"profile-{verb}", f"/1.0/profiles/{name}")
